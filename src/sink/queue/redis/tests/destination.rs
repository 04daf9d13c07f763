//! A real server, and what the sink has added to it as another client sees it.

use std::collections::HashMap;

use crate::sink::broker::{Server, redis as broker};
use crate::sink::queue::redis::{Config, RedisSink};

/// A server that the sink adds to.
pub(super) struct Destination {
    pub(super) server: Server,
}

impl Destination {
    /// One that everybody may use.
    pub(super) fn start() -> Self {
        Self::start_with("")
    }

    /// One with these lines in its configuration.
    pub(super) fn start_with(lines: &str) -> Self {
        Self { server: broker::start_with(lines) }
    }

    /// A sink that adds to the stream `changes`, unless `more` says otherwise.
    pub(super) fn sink(&self, more: &str) -> RedisSink {
        let url = format!("redis://{}", self.server.address());
        sink_to(&url, more)
    }

    /// A connection of one's own.
    pub(super) fn client(&self) -> redis::Connection {
        redis::Client::open(format!("redis://{}", self.server.address())).unwrap().get_connection().unwrap()
    }

    /// Has the server carry out a command.
    pub(super) fn tell(&self, command: &str) {
        let (name, arguments) = command.split_once(' ').unwrap_or((command, ""));
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        redis::cmd(name).arg(arguments).exec(&mut self.client()).unwrap();
    }

    /// The fields of all entries of a stream, in order.
    pub(super) fn entries(&self, stream: &str) -> Vec<HashMap<String, String>> {
        let mut range = redis::cmd("XRANGE");
        let entries: Vec<(String, _)> = range.arg(stream).arg("-").arg("+").query(&mut self.client()).unwrap();
        entries.into_iter().map(|(_, fields)| fields).collect()
    }

    /// The message ids in a stream, in order.
    pub(super) fn message_ids(&self, stream: &str) -> Vec<String> {
        self.entries(stream).into_iter().map(|mut entry| entry.remove("message_id").unwrap()).collect()
    }
}

/// A sink that adds to the stream `changes` at this URL, unless `more` says otherwise.
pub(super) fn sink_to(url: &str, more: &str) -> RedisSink {
    let stream = if more.contains("stream = ") { "" } else { "stream = \"changes\"\n" };
    RedisSink::new(&config(&format!("url = \"{url}\"\n{stream}{more}")).unwrap()).unwrap()
}

/// Reads a configuration as it would be written under `[sinks.NAME.queue.redis]`.
pub(super) fn config(text: &str) -> Result<Config, String> {
    let config: Config = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    config.validate()?;
    Ok(config)
}
