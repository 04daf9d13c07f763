//! Wires the parts, runs them, and stops them in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin, health};
use crate::config::{self, Config};
use crate::dispatch::{Drain, Standing};
use crate::http::{self, connection};
use crate::silence;
use crate::sink::{self, Name, Sink};
use crate::store::{Start, Store};
use crate::systemd::{Listeners, Notifier};

/// How long requests in flight may take to end when the service stops; what is still being read then is answered 503.
const REQUESTS_WITHIN: Duration = Duration::from_secs(4);

/// How long after that their answers may take to be written.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// How long drains may take to end the batch in hand. What they did not deliver stays in the store.
const DRAINS_WITHIN: Duration = Duration::from_secs(2);

/// How long the writer may take to commit what waits.
const STORE_WITHIN: Duration = Duration::from_secs(1);

/// How long the log may take to be written out after all that.
pub(crate) const LOG_WITHIN: Duration = Duration::from_secs(1);

/// The longest that stopping takes, to the end of the process: less than the ten seconds after which container engines kill.
pub const STOPS_WITHIN: Duration = Duration::from_secs(
    REQUESTS_WITHIN.as_secs()
        + ANSWERS_WITHIN.as_secs()
        + DRAINS_WITHIN.as_secs()
        + STORE_WITHIN.as_secs()
        + LOG_WITHIN.as_secs(),
);

type OnReady = Box<dyn FnOnce(&Ready) + Send>;

/// The whole receiver, before it runs.
pub struct Service {
    config: Config,
    own_sinks: Vec<(Name, Box<dyn Sink>)>,
    listeners: Listeners,
    notifier: Option<Notifier>,
    on_ready: Option<OnReady>,
}

/// What is known once the receiver is up.
#[derive(Debug)]
pub struct Ready {
    /// Where callbacks are received.
    pub public: SocketAddr,
    /// Where the operator's API is.
    pub admin: SocketAddr,
    /// The callback URL, secret and all.
    pub callback_url: String,
}

impl Service {
    /// A receiver with this configuration.
    pub fn new(config: Config) -> Self {
        Self { config, own_sinks: Vec::new(), listeners: Listeners::default(), notifier: None, on_ready: None }
    }

    /// Adds a sink of one's own to the configured ones. It is given every change from the first start with it on.
    pub fn add_sink(&mut self, name: Name, sink: Box<dyn Sink>) {
        self.own_sinks.push((name, sink));
    }

    /// Listens on these sockets instead of where the configuration says.
    pub fn listen_on(&mut self, listeners: Listeners) {
        self.listeners = listeners;
    }

    /// Tells systemd how it goes.
    pub fn notify(&mut self, notifier: Notifier) {
        self.notifier = Some(notifier);
    }

    /// Calls `tell` once callbacks are received.
    pub fn on_ready(&mut self, tell: impl FnOnce(&Ready) + Send + 'static) {
        self.on_ready = Some(Box::new(tell));
    }

    /// Receives and delivers until `shutdown` completes, then stops: not ready, no new connections, what is in flight answered,
    /// the drains at the end of their batch, the store closed. That takes [`STOPS_WITHIN`] at most.
    ///
    /// # Errors
    /// When it can't start, or when the store's writer ends by itself.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { mut config, own_sinks, listeners, notifier, on_ready } = self;
        let public = listen(listeners.public, config.server.listen, "server.listen").await?;
        let admin_listener = listen(listeners.admin, config.admin.listen, "admin.listen").await?;
        // Sockets that were handed over, and port 0, are known only now. The callback URL needs them, and others must not reach the
        // operator's API without a token.
        config.server.listen = public.local_addr()?;
        config.admin.listen = admin_listener.local_addr()?;
        config.admin.validate().map_err(|error| config::Error::new("the configuration", error))?;
        let folder = config.store.sqlite.path.clone();

        let pretty = config.log.is_pretty();
        let configured = config.sinks.iter().map(|(name, sink)| {
            let built =
                sink::build(name, sink, &folder, pretty).with_context(|| format!("cannot use the sink {name}"))?;
            Ok((name.clone(), sink.clone(), built))
        });
        let mut sinks = configured.collect::<anyhow::Result<Vec<_>>>()?;
        for (name, _) in &own_sinks {
            let is_taken = sinks.iter().any(|(other, ..)| other == name);
            let is_twice = own_sinks.iter().filter(|(other, _)| other == name).count() > 1;
            anyhow::ensure!(
                !is_taken && !is_twice,
                "two sinks have the name {name}: a sink's place in the store goes by its name"
            );
        }
        sinks.extend(own_sinks.into_iter().map(|(name, sink)| (name, sink::Config::default(), sink)));
        let places: Vec<(String, Start)> =
            sinks.iter().map(|(name, sink, _)| (name.to_string(), sink.delivery.start)).collect();
        let store = Store::open(&config.store.sqlite, &places, config.server.limits.in_flight)?;
        let secrets = config.server.load_secrets(&folder)?;

        let (stop_drains, stop_requests, stop_admin) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let closing = CancellationToken::new();
        let drains = TaskTracker::new();
        let mut standings = Vec::new();
        for (name, sink::Config { filter, delivery, .. }, sink) in sinks {
            let feed = store.feed(name.as_str()).context("the store was opened without one of its sinks")?;
            let (standing, commands) = Standing::new(name, filter);
            let standing = Arc::new(standing);
            standings.push(Arc::clone(&standing));
            drains.spawn(Drain::new(sink, feed, delivery, standing, commands).run(stop_drains.clone()));
        }
        drains.spawn(silence::watch(store.clone(), stop_drains.clone()));
        drains.close();
        let counts = Arc::new(http::Counts::new());
        let admin = Arc::new(Admin {
            store: store.clone(),
            counts: Arc::clone(&counts),
            sinks: standings,
            token: config.admin.load_token().map_err(|error| config::Error::new("the configuration", error))?,
            steering: tokio::sync::Mutex::default(),
            followers: admin::Followers::default(),
            stopping: AtomicBool::new(false),
        });
        let ready = Ready {
            public: config.server.listen,
            admin: config.admin.listen,
            callback_url: secrets.first().map(|secret| config.server.callback_url(secret)).unwrap_or_default(),
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = %ready.public,
            admin = %ready.admin,
            store = %folder.display(),
            sinks = admin.sinks.len(),
            "receiving callbacks"
        );
        if let Some(tell) = on_ready {
            tell(&ready);
        }
        let admin_server = tokio::spawn(connection::serve(
            admin_listener,
            admin::router(Arc::clone(&admin)),
            admin::Config::bounds(),
            stop_admin.clone(),
        ));
        let bounds = config.server.bounds(Arc::clone(&counts));
        let router = http::router(config.server, &secrets, store.clone(), counts, closing.clone());
        let mut server = tokio::spawn(connection::serve(public, router, bounds, stop_requests.clone()));
        if let Some(notifier) = &notifier {
            notifier.ready();
        }

        let failed = tokio::select! {
            () = shutdown => false,
            () = store.writer_ended() => true,
            never = feed_watchdog(notifier.as_ref(), &admin) => match never {},
        };
        tracing::info!("stopping: requests in flight are answered, deliveries end their batch");
        if let Some(notifier) = &notifier {
            notifier.stopping();
        }
        admin.stopping.store(true, Ordering::Release);
        stop_requests.cancel();
        if tokio::time::timeout(REQUESTS_WITHIN, &mut server).await.is_err() {
            closing.cancel();
            if tokio::time::timeout(ANSWERS_WITHIN, &mut server).await.is_err() {
                tracing::warn!("connections that did not end in time are cut");
                server.abort();
            }
        }
        stop_drains.cancel();
        if tokio::time::timeout(DRAINS_WITHIN, drains.wait()).await.is_err() {
            tracing::warn!("a delivery did not end in time; its changes will be delivered again at the next start");
        }
        if tokio::time::timeout(STORE_WITHIN, store.close()).await.is_err() {
            tracing::warn!("the store did not close in time; what was acknowledged is on disk");
        }
        stop_admin.cancel();
        admin_server.abort();
        anyhow::ensure!(!failed, "the store's writer ended: see the log above");
        tracing::info!("stopped");
        Ok(())
    }
}

/// What was handed over, else a socket of its own.
async fn listen(
    handed_over: Option<std::net::TcpListener>,
    address: SocketAddr,
    key: &str,
) -> anyhow::Result<TcpListener> {
    if let Some(listener) = handed_over {
        listener.set_nonblocking(true)?;
        return Ok(TcpListener::from_std(listener)?);
    }
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; is it in use, by another receiver perhaps? Stop that one or change {key}")
    })
}

/// Feeds the watchdog for as long as all is well: it restarts a receiver that hangs.
async fn feed_watchdog(notifier: Option<&Notifier>, admin: &Admin) -> Infallible {
    let Some((notifier, watchdog)) = notifier.and_then(|notifier| Some((notifier, notifier.watchdog()?))) else {
        return std::future::pending().await;
    };
    let mut feeding = tokio::time::interval(watchdog / 2);
    feeding.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut starves = false;
    loop {
        feeding.tick().await;
        let is_well = health::is_well(admin).await;
        if is_well {
            notifier.well();
        }
        match (std::mem::replace(&mut starves, !is_well), is_well) {
            (false, false) => {
                tracing::error!(
                    ?watchdog,
                    "the receiver hangs or its store fails: the watchdog is told nothing, and will restart it"
                );
            }
            (true, true) => tracing::info!("all is well again, and the watchdog is told so"),
            _ => {}
        }
    }
}
