use axum::body::Body;
use axum::routing::get;
use futures_util::StreamExt as _;

use super::*;

const BOUNDS: Bounds = Bounds {
    header_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(120),
    connections: 10,
    refusals: None,
};

/// Serves answers that take `beats` times ten seconds, and says where.
async fn serve_beats(beats: usize, stop: CancellationToken) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let router = Router::new().route(
        "/",
        get(async move || {
            let beats = futures_util::stream::iter(0..beats).then(|_| async {
                tokio::time::sleep(Duration::from_secs(10)).await;
                Ok::<_, Infallible>(": alive\n\n")
            });
            Body::from_stream(beats)
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(serve(listener, router, BOUNDS, stop)))
}

async fn ask(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    stream
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_goes_on_keeps_its_connection_from_being_idle_and_then_it_is() {
    let (address, _server) = serve_beats(60, CancellationToken::new()).await;
    let begun = Instant::now();
    let mut text = String::new();
    ask(address).await.read_to_string(&mut text).await.unwrap();
    assert_eq!(text.matches(": alive").count(), 60, "{text}");
    assert!(text.ends_with("0\r\n\r\n"), "it has ended, and was not cut: {text}");
    assert_eq!(begun.elapsed().as_secs() / 10, 72, "ten minutes of answer, two of idleness");
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_not_done_are_cut_with_their_server() {
    let stop = CancellationToken::new();
    let (address, server) = serve_beats(usize::MAX, stop.clone()).await;
    let mut stream = ask(address).await;
    stream.read_exact(&mut [0; 100]).await.unwrap();
    stop.cancel();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!server.is_finished(), "it waits for those that have a request");
    server.abort();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "cut");
}
