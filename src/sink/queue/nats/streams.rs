//! What JetStream's API says about streams.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::StatusCode;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::config::NewStream;
use super::connection::{Connection, NotSent, Reply};

/// The API, as it is reached on a connection.
pub(super) struct Streams<'a> {
    pub(super) connection: &'a Connection,
    pub(super) timeout: Duration,
}

/// Why there is no answer, as a fragment for people.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "JetStream does not answer: it is disabled on the server or for this account, or its cluster has no leader"
    )]
    NobodyThere,
    #[error("this user has no permission to publish to {0}")]
    Denied(String),
    #[error("{0}")]
    Lost(String),
    #[error("JetStream does not answer in time: its cluster may have no leader")]
    Timeout,
    #[error("JetStream answers: {0}")]
    Refused(jetstream::Error),
    #[error("what JetStream answers is not understood")]
    Foreign,
}

/// What of a stream's configuration can be chosen; durations in nanoseconds.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Settings {
    #[serde(default)]
    subjects: Vec<String>,
    num_replicas: usize,
    #[serde(default)]
    max_age: u64,
    #[serde(default)]
    duplicate_window: u64,
}

impl Streams<'_> {
    /// The names of the streams that take messages with this subject, or with one that it stands for.
    pub(super) async fn that_take(&self, subject: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Names {
            streams: Option<Vec<String>>,
        }
        let names: Names = self.ask("STREAM.NAMES", &json!({ "subject": subject })).await?;
        Ok(names.streams.unwrap_or_default())
    }

    /// Makes the stream if it is not there. What is there stays as it is: in which points it differs from what is wanted.
    pub(super) async fn make(&self, wanted: &NewStream, subject: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Info {
            config: Settings,
        }
        let name = &wanted.name;
        let settings = Settings::of(wanted, subject);
        match self.ask::<Info>(&format!("STREAM.INFO.{name}"), &json!({})).await {
            Ok(there) => return Ok(there.config.differences(&settings)),
            Err(Error::Refused(error)) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            Err(error) => return Err(error),
        }
        let config = json!({
            "name": name,
            "subjects": settings.subjects,
            "num_replicas": settings.num_replicas,
            "max_age": settings.max_age,
            "duplicate_window": settings.duplicate_window,
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "max_msgs": -1,
            "max_bytes": -1,
            "max_msg_size": -1,
            "max_consumers": -1,
        });
        // Another receiver that makes the same at the same moment is no obstacle.
        self.ask::<IgnoredAny>(&format!("STREAM.CREATE.{name}"), &config).await?;
        tracing::info!(stream = %name, subject, "the stream is made");
        Ok(Vec::new())
    }

    async fn ask<T: DeserializeOwned>(&self, what: &str, body: &Value) -> Result<T, Error> {
        let subject = format!("$JS.API.{what}");
        let asked = async {
            let sent = self.connection.send(subject.clone(), HeaderMap::new(), body.to_string().into()).await;
            let mut waiting = sent.map_err(|error| match error {
                NotSent::Lost(why) => Error::Lost(why),
                NotSent::TooLarge { .. } | NotSent::Subject => Error::Foreign,
            })?;
            Ok(waiting.reply().await)
        };
        match tokio::time::timeout(self.timeout, asked).await.map_err(|_| Error::Timeout)?? {
            Reply::Denied => Err(Error::Denied(subject)),
            Reply::Lost(why) => Err(Error::Lost(why)),
            Reply::Message(message) if message.status == Some(StatusCode::NO_RESPONDERS) => Err(Error::NobodyThere),
            Reply::Message(message) => match serde_json::from_slice(&message.payload) {
                Ok(Response::Ok(answer)) => Ok(answer),
                Ok(Response::Err { error }) => Err(Error::Refused(error)),
                Err(_) => Err(Error::Foreign),
            },
        }
    }
}

impl Settings {
    fn of(wanted: &NewStream, subject: &str) -> Self {
        // A configured duration is ten years at most.
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self {
            subjects: vec![subject.to_owned()],
            num_replicas: wanted.replicas,
            max_age: nanos(wanted.max_age.unwrap_or_default()),
            duplicate_window: nanos(wanted.duplicate_window()),
        }
    }

    fn differences(&self, wanted: &Self) -> Vec<String> {
        let duration = |nanos| humantime::format_duration(Duration::from_nanos(nanos)).to_string();
        let points = [
            ("subjects", self.subjects.join(", "), wanted.subjects.join(", ")),
            ("replicas", self.num_replicas.to_string(), wanted.num_replicas.to_string()),
            ("max_age", duration(self.max_age), duration(wanted.max_age)),
            ("duplicate_window", duration(self.duplicate_window), duration(wanted.duplicate_window)),
        ];
        let different = points.into_iter().filter(|(_, there, wanted)| there != wanted);
        different.map(|(name, there, wanted)| format!("{name} is {there} and not {wanted}")).collect()
    }
}
