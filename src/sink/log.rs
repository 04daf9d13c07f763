//! The log sink: a line on standard output for each change.
//!
//! It writes by itself and not through the program's own log: a level must not silence it, and it must know whether the line
//! was written.

mod output;

use std::path::Path;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delivery, Failure, FailureKind, Sink};
use crate::phone::{PhoneStyle, Phones};
use crate::status::{StatusChange, with_milliseconds};
use crate::visible::visible;
use output::Output;

/// How the log sink writes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How phone numbers are written.
    pub phone: PhoneStyle,
}

impl Config {
    /// What the sink does, for people.
    pub(super) fn describe(&self) -> String {
        let phones = match self.phone {
            PhoneStyle::Masked => "masked",
            PhoneStyle::Full => "in full",
            PhoneStyle::Hashed => "hashed",
        };
        format!("to standard output, phone numbers {phones}")
    }
}

/// Writes to standard output.
pub struct LogSink {
    name: String,
    phones: Phones,
    pretty: bool,
    output: Output,
}

impl LogSink {
    pub(super) fn new(name: &str, config: &Config, folder: &Path, pretty: bool) -> anyhow::Result<Self> {
        let phones = Phones::new(config.phone, folder)?;
        Ok(Self { name: name.to_owned(), phones, pretty, output: Output::stdout() })
    }

    async fn write(&self, changes: &[Delivery]) -> Result<(), Failure> {
        let mut lines = Vec::with_capacity(changes.len() * 512);
        for delivery in changes {
            self.write_line(&delivery.change, &mut lines)
                .map_err(|error| away(format!("a line could not be made: {error}")))?;
        }
        // A pipe that nobody reads blocks; only the log sinks wait for it.
        let output = self.output.clone();
        let written = tokio::task::spawn_blocking(move || output.write(&lines));
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(away(format!("standard output: {error}"))),
            Err(error) => Err(away(format!("writing was broken off: {error}"))),
        }
    }

    fn write_line(&self, change: &StatusChange, to: &mut Vec<u8>) -> serde_json::Result<()> {
        let facts = &change.facts;
        let phone = facts.phone.as_deref().map(|phone| self.phones.show(phone));
        let participant = facts.participant.as_deref().map(|phone| self.phones.show(phone));
        let who = participant.as_deref().or(phone.as_deref()).unwrap_or("-");
        let message = format!("{} {} {who}", facts.status, change.transition.name());
        let line = Line {
            timestamp: with_milliseconds(Timestamp::now()),
            level: "INFO",
            target: "status",
            message: &message,
            sink: &self.name,
            id: &facts.event_id(),
            status: facts.status.as_str(),
            previous_status: change.previous_status(),
            transition: change.transition.name(),
            message_id: &facts.message_id,
            instance_id: facts.instance_id.as_deref(),
            phone: phone.as_deref(),
            participant: participant.as_deref(),
            chat: change.chat().name(),
            device: facts.device,
            moment: facts.moment,
            received_at: with_milliseconds(change.received_at),
            since_previous_ms: change.since_previous_ms,
        };
        if self.pretty {
            line.write_pretty(to);
        } else {
            serde_json::to_writer(&mut *to, &line)?;
            to.push(b'\n');
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for LogSink {
    async fn deliver(&self, changes: &[Delivery]) -> Vec<Result<(), Failure>> {
        // Lines are written as one: when that fails, nobody knows which of them are there.
        vec![self.write(changes).await; changes.len()]
    }

    fn batch(&self) -> usize {
        500
    }

    fn concurrency(&self) -> usize {
        1
    }
}

fn away(cause: String) -> Failure {
    Failure { kind: FailureKind::Away { after: None }, cause }
}

/// The line, in the order people read it.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    target: &'a str,
    message: &'a str,
    sink: &'a str,
    id: &'a str,
    status: &'a str,
    previous_status: Option<&'a str>,
    transition: &'a str,
    message_id: &'a str,
    instance_id: Option<&'a str>,
    phone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    participant: Option<&'a str>,
    chat: &'a str,
    device: Option<i64>,
    moment: Option<Timestamp>,
    received_at: String,
    since_previous_ms: Option<i64>,
}

impl Line<'_> {
    fn write_pretty(&self, to: &mut Vec<u8>) {
        let previous = self.previous_status.map(|previous| format!(" after {previous}")).unwrap_or_default();
        let moment = self.moment.map(|moment| format!(" moment={moment}")).unwrap_or_default();
        let instance = self.instance_id.map(|instance| format!(" instance={}", visible(instance))).unwrap_or_default();
        // Text that came in must not be able to end the line or to move a terminal's cursor.
        let line = format!(
            "{} {}{previous} message={} chat={}{instance}{moment} sink={}\n",
            self.timestamp,
            visible(self.message),
            visible(self.message_id),
            self.chat,
            self.sink,
        );
        to.extend_from_slice(line.as_bytes());
    }
}

#[cfg(test)]
mod tests;
