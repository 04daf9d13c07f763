//! Connections: how many there are, and how long each may take.
//!
//! hyper has one deadline for request headers and starts it while a connection is idle, so it can't tell a slow request from a
//! quiet keep-alive connection, and closes without an answer. Here each connection knows which of the two it is.

mod phase;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::counts::Reason;
use super::problem::Problem;
use super::refusals::Refusals;
use phase::{Answering, Phase, Step, Watched};

/// How many callers at a time are told that there are too many; more are hung up on.
const MAX_TURNED_AWAY: usize = 64;

/// How long after a stop connections are still taken, and quiet ones still listened to: what a caller sent before the stop may
/// not have been seen yet, and closing on it would lose it.
const QUIET_AFTER_STOP: Duration = Duration::from_millis(100);

/// How long a request whose headers are not here, or half, may go on when the service stops.
const HEADERS_AFTER_STOP: Duration = Duration::from_secs(1);

/// How long, and how much, a closing connection still reads: closing it with unread data would reset it, and the answer that
/// is on its way would be lost.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 4 << 20;

/// The largest request head.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// How long connections have to be accepted again before that is said: with too few file descriptors it comes and goes.
const ACCEPTING_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What stands for the route in the log when there is no request yet.
const NO_ROUTE: &str = "(no request)";

/// The bounds of one listener.
#[derive(Clone)]
pub(crate) struct Bounds {
    /// From a request's first byte to the end of its headers; also from the connection's beginning to its first byte.
    pub(crate) header_timeout: Duration,
    /// Between two requests.
    pub(crate) idle_timeout: Duration,
    /// Connections at once.
    pub(crate) connections: usize,
    /// Where it is counted and logged that a connection was turned away or given up.
    pub(crate) refusals: Option<Arc<Refusals>>,
}

impl Bounds {
    fn log(&self, problem: &Problem, peer: SocketAddr) {
        if let Some(refusals) = &self.refusals {
            refusals.log(NO_ROUTE, problem, peer.ip());
        }
    }
}

/// The peer's address, as an extension of each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Accepts connections until a moment after `stop`, then lets those that have a request finish it. Returns when all are closed;
/// dropped before that, it cuts them.
pub(crate) async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stop: CancellationToken) {
    let connections = Arc::new(Semaphore::new(bounds.connections));
    let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    let mut tasks = JoinSet::new();
    let mut stopped = pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(QUIET_AFTER_STOP).await;
    });
    let let_in = |tasks: &mut JoinSet<()>, stream: TcpStream, peer| {
        // Answers are small: waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
            let (router, bounds, stop) = (router.clone(), bounds.clone(), stop.clone());
            tasks.spawn(async move {
                connection(stream, peer, router, bounds, stop).await;
                drop(permit);
            });
            return;
        }
        let problem = Problem::because(Reason::Connections, "too many connections");
        bounds.log(&problem, peer);
        if let Ok(permit) = Arc::clone(&turned_away).try_acquire_owned() {
            tasks.spawn(async move {
                answer_and_close(stream, &problem).await;
                drop(permit);
            });
        }
    };
    let mut failed = None;
    loop {
        let accepted = tokio::select! {
            // Whoever waits is let in before the door closes.
            biased;
            accepted = listener.accept() => accepted,
            () = &mut stopped => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // The caller gave up, or there are no file descriptors: the next accept may work, but not at once.
            Err(error) => {
                if failed.replace(Instant::now()).is_none() {
                    tracing::warn!(%error, "cannot accept connections; it is tried again, without another word");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if failed.is_some_and(|at| at.elapsed() >= ACCEPTING_AGAIN_AFTER) {
            failed = None;
            tracing::info!("connections are accepted again");
        }
        // Those that are closed by now take up no more room. One that panicked has said so on the log.
        while tasks.try_join_next().is_some() {}
        let_in(&mut tasks, stream, peer);
    }
    // Who has connected and was not heard of yet is let in, too: closing the door would hang up on them.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, peer)) = listener.accept() {
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                let_in(&mut tasks, stream, peer);
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, bounds: Bounds, stop: CancellationToken) {
    let phase = Arc::new(Phase::new());
    let io = TokioIo::new(Watched { stream, phase: Arc::clone(&phase) });
    let in_service = Arc::clone(&phase);
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (router, phase) = (router.clone(), Arc::clone(&in_service));
        phase.enter(Step::Request);
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Peer(peer));
        // Boxed, so that the connection can be taken apart when a deadline passes.
        Box::pin(async move {
            let mut response = router.oneshot(request).await.map_err(|never: Infallible| never)?;
            if phase.is_last() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| Answering { body, phase }))
        })
    });
    let mut http = http1::Builder::new()
        // The deadlines are ours.
        .header_read_timeout(None)
        // A caller that ends its side once it has sent its request still gets the answer.
        .half_close(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(io, service);

    let mut timer = pin!(sleep_until(Instant::now() + bounds.header_timeout));
    let mut stopped = pin!(stop.cancelled());
    let mut stopping = None;
    let end = poll_fn(|cx| {
        if stopping.is_none() && stopped.as_mut().poll(cx).is_ready() {
            stopping = Some(Instant::now());
            // Not hyper's graceful shutdown: that closes an idle connection without looking whether a request has come.
            phase.make_last();
        }
        // An error here is the caller's: it hung up, or did not speak HTTP, and then hyper has answered 400.
        if http.poll_without_shutdown(cx).is_ready() {
            return Poll::Ready(None);
        }
        poll_deadline(cx, &phase, &mut timer, &bounds, stopping).map(Some)
    })
    .await;

    let parts = http.into_parts();
    let stream = parts.io.into_inner().stream;
    // Headers whose beginning came together with the request before them: hyper alone has seen them, and until now the connection
    // looked idle. They had the time of an idle connection, which is a bound as well.
    let has_half_a_head = parts.read_buf.iter().any(|byte| !byte.is_ascii_whitespace());
    let problem = match (end, stopping) {
        (None | Some(Step::New | Step::Request), _) => return close(stream).await,
        (Some(Step::Idle), _) if !has_half_a_head => return close(stream).await,
        (Some(_), Some(_)) => Problem::because(Reason::Stopping, "stopping"),
        (Some(_), None) => Problem::because(Reason::Slow, "the request's headers took too long"),
    };
    bounds.log(&problem, peer);
    answer_and_close(stream, &problem).await;
}

/// Ready when the connection has been in its present step for too long.
fn poll_deadline(
    cx: &mut Context<'_>,
    phase: &Phase,
    timer: &mut Pin<&mut Sleep>,
    bounds: &Bounds,
    stopping: Option<Instant>,
) -> Poll<Step> {
    loop {
        let (step, since) = phase.get();
        let deadline = match (step, stopping) {
            // The body has a deadline of its own, and the store answers in its own time.
            (Step::Request, _) => return Poll::Pending,
            // Who has just connected has something to send.
            (Step::New | Step::Head, Some(stopped)) => {
                (since + bounds.header_timeout).min(stopped + HEADERS_AFTER_STOP)
            }
            (Step::Idle, Some(stopped)) => since.max(stopped) + QUIET_AFTER_STOP,
            (Step::New | Step::Head, None) => since + bounds.header_timeout,
            (Step::Idle, None) => since + bounds.idle_timeout,
        };
        // An earlier timer is left to fire for nothing now and then: resetting it for every request would cost more.
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        if Instant::now() >= deadline {
            return Poll::Ready(step);
        }
        timer.as_mut().reset(deadline);
    }
}

async fn answer_and_close(mut stream: TcpStream, problem: &Problem) {
    // A caller that takes no answer gets none.
    if let Ok(Ok(())) = timeout(LINGER, stream.write_all(&problem.to_http1())).await {
        close(stream).await;
    }
}

/// Ends our side, then reads on for a moment.
async fn close(mut stream: TcpStream) {
    let lingering = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whatever comes of it, the connection is done with.
    let _ = timeout(LINGER, lingering).await;
}

#[cfg(test)]
mod tests;
