//! A receiver within this process, with a sink of the test's own: for what no real destination does when it is asked to.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver as Heard, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use async_trait::async_trait;
use plugchat_receiver::config;
use plugchat_receiver::service::Service;
use plugchat_receiver::sink::{Delivery, Failure, FailureKind, Sink};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::support::{Answer, Home, JSON, PATIENCE, output_of, path, request};

/// The name of the test's own sink.
pub(crate) const OWN: &str = "own";

/// What a destination does with a change, by its message id; `None`: it takes it.
type Script = Box<dyn Fn(&str) -> Option<FailureKind> + Send>;

/// A destination that does what it is told, and writes down what it was given.
#[derive(Clone)]
pub(crate) struct Destination {
    script: Arc<Mutex<Script>>,
    taken: Arc<Mutex<Vec<(String, String)>>>,
}

impl Destination {
    /// One that does as `script` says.
    pub(crate) fn new(script: impl Fn(&str) -> Option<FailureKind> + Send + 'static) -> Self {
        Self { script: Arc::new(Mutex::new(Box::new(script))), taken: Arc::default() }
    }

    /// From now on it does as `script` says.
    pub(crate) fn now(&self, script: impl Fn(&str) -> Option<FailureKind> + Send + 'static) {
        *self.script.lock().expect("nobody panics with it") = Box::new(script);
    }

    /// What it has taken: event ids and message ids, in order.
    pub(crate) fn taken(&self) -> Vec<(String, String)> {
        self.taken.lock().expect("nobody panics with it").clone()
    }

    /// The message ids of that.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.taken().into_iter().map(|(_, message_id)| message_id).collect()
    }
}

#[async_trait]
impl Sink for Destination {
    async fn deliver(&self, changes: &[Delivery]) -> Vec<Result<(), Failure>> {
        let script = self.script.lock().expect("nobody panics with it");
        let give = |delivery: &Delivery| {
            let facts = &delivery.change.facts;
            if let Some(kind) = script(&facts.message_id) {
                return Err(Failure { kind, cause: "as scripted".to_owned() });
            }
            let taken = (facts.event_id(), facts.message_id.clone());
            self.taken.lock().expect("nobody panics with it").push(taken);
            Ok(())
        };
        changes.iter().map(give).collect()
    }

    // One at a time, so that the order in which they are taken is the order stored.
    fn concurrency(&self) -> usize {
        1
    }
}

/// A running receiver whose one sink is a [`Destination`]. Dropping it stops it.
pub(crate) struct Inside {
    public: SocketAddr,
    admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    home: Option<Home>,
}

impl Inside {
    /// In a new folder.
    pub(crate) fn start(destination: &Destination) -> Self {
        Self::start_in(Home::new(""), destination)
    }

    /// Where one was before.
    pub(crate) fn start_in(home: Home, destination: &Destination) -> Self {
        let file = home.config();
        let text = std::fs::read_to_string(&file).expect("the configuration is there");
        let mut config = config::parse(Some((&file, &text)), &[]).unwrap_or_else(|error| panic!("{error}"));
        config.store.sqlite.path = home.store();
        // A log sink would write among what the tests print.
        config.sinks.clear();
        let mut service = Service::new(config);
        service.add_sink(OWN.parse().expect("a name"), Box::new(destination.clone()));
        let (ready, heard) = channel();
        service.on_ready(move |told| ready.send((told.public, told.admin)).expect("the test waits for it"));
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let run = service.run(async {
                // Dropping the other end is a stop, too.
                let _ = stopped.await;
            });
            runtime.expect("a runtime can be made").block_on(run).expect("it runs until it is stopped");
        });
        let (public, admin) = Self::hear(&heard);
        Self { public, admin, stop: Some(stop), thread: Some(thread), home: Some(home) }
    }

    fn hear(heard: &Heard<(SocketAddr, SocketAddr)>) -> (SocketAddr, SocketAddr) {
        heard.recv_timeout(PATIENCE).expect("it starts")
    }

    /// Where the operator's API is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Posts a callback, which is stored.
    pub(crate) fn post(&self, body: &str) {
        let answer = self.try_post(body);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Posts a body that is no valid callback.
    pub(crate) fn reject(&self, body: &str) {
        self.try_post(body).problem(422);
    }

    /// Posts whatever it is.
    pub(crate) fn try_post(&self, body: &str) -> Answer {
        request(self.public, "POST", &path(), &JSON, body.as_bytes())
    }

    /// Gets a path of the operator's API.
    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.admin, "GET", path, &[], b"")
    }

    /// Posts to a path of the operator's API.
    pub(crate) fn order(&self, path: &str, body: &str) -> Answer {
        request(self.admin, "POST", path, &[], body.as_bytes())
    }

    /// Its folder.
    pub(crate) fn home(&self) -> &Home {
        self.home.as_ref().expect("it runs")
    }

    /// Where the test's own sink stands.
    pub(crate) fn standing(&self) -> Value {
        self.get("/api/v1/sinks").json()[0].clone()
    }

    /// Runs a command of the program against this receiver; its exit code, standard output and standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        output_of(&mut self.command(arguments))
    }

    /// A command of the program against this receiver.
    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.home().command(arguments);
        command.env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", self.admin.to_string());
        command
    }

    /// Stops it; its folder.
    pub(crate) fn stop(mut self) -> Home {
        self.end();
        self.home.take().expect("it ran")
    }

    fn end(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "it stops as it should");
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.end();
    }
}
