//! What a sink is, and which there are: the one place to add another.

mod body;
#[cfg(test)]
#[path = "../tests/it/broker.rs"]
mod broker;
mod cloudevents;
#[cfg(test)]
pub(crate) mod conformance;
mod excerpt;
mod filter;
pub mod forward;
pub mod log;
pub mod queue;
mod tls;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{self, units};
use crate::store::Start;

pub use crate::store::Entry as Delivery;
pub use body::Body;
pub use filter::Filter;

/// A destination of status changes.
///
/// A sink is called by its own drain and by nobody else, at most [`concurrency`](Self::concurrency) times at once. Of one message and
/// recipient there is never more than one change in all that it has in hand, so it may give them in any order and many at once.
/// Building one connects to nothing, so that a destination that is down can't keep callbacks from being received.
///
/// A program of one's own can add its own:
///
/// ```
/// use plugchat_receiver::sink::{Delivery, Failure, Sink};
///
/// struct Count(std::sync::atomic::AtomicUsize);
///
/// #[async_trait::async_trait]
/// impl Sink for Count {
///     async fn deliver(&self, changes: &[Delivery]) -> Vec<Result<(), Failure>> {
///         self.0.fetch_add(changes.len(), std::sync::atomic::Ordering::Relaxed);
///         vec![Ok(()); changes.len()]
///     }
/// }
///
/// # async fn run() -> anyhow::Result<()> {
/// let config = plugchat_receiver::Config::default();
/// let mut service = plugchat_receiver::service::Service::new(config);
/// service.add_sink("count".parse()?, Box::new(Count(0.into())));
/// service.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Sink: Send + Sync {
    /// Hands over `changes`, oldest first, and says of each what became of it, in the same order: `Ok` only when the destination
    /// has taken responsibility for it. Those beyond the end of a shorter list were not given, and will be given again.
    /// May see a change again after a crash. Safe to cancel.
    async fn deliver(&self, changes: &[Delivery]) -> Vec<Result<(), Failure>>;

    /// The most changes that are worth giving in one call. One, unless the destination takes many at once: a call is over when its
    /// last change is, so a slow one holds up those after it.
    fn batch(&self) -> usize {
        1
    }

    /// How many calls at a time suit the destination when the configuration doesn't say.
    fn concurrency(&self) -> usize {
        16
    }
}

/// Why a destination did not take a change.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What that means for the change.
    pub kind: FailureKind,
    /// What happened, as a fragment that fits "cannot deliver: …". It has no secret and no phone number in it.
    pub cause: String,
}

impl Failure {
    /// The destination will never accept this change.
    pub fn refused(cause: impl Into<String>) -> Self {
        Self { kind: FailureKind::Refused, cause: cause.into() }
    }

    /// This change failed, others may not.
    pub fn try_again(cause: impl Into<String>) -> Self {
        Self { kind: FailureKind::TryAgain { after: None }, cause: cause.into() }
    }

    /// The destination as a whole can't be reached or takes nothing now.
    pub fn away(cause: impl Into<String>) -> Self {
        Self { kind: FailureKind::Away { after: None }, cause: cause.into() }
    }
}

/// What a failure means for the change that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The destination will never accept this change.
    Refused,
    /// This change failed, others may not. It may be tried again, not before the given time.
    TryAgain {
        /// What the destination asked for, if it did.
        after: Option<Duration>,
    },
    /// The destination as a whole can't be reached or takes nothing now.
    Away {
        /// What the destination asked for, if it did.
        after: Option<Duration>,
    },
    /// The destination is gone for good: the sink is paused until somebody resumes it.
    Gone,
}

/// A sink's name: its place in the store goes by it, so a renamed sink is a new one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[a-z0-9_-]{1,64}$"))]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err("a sink's name is 1 to 64 lower-case letters, digits, hyphens or underscores".into());
        }
        Ok(Self(text))
    }
}

impl std::str::FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned()).map_err(anyhow::Error::msg)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One sink's configuration: exactly one kind, and what every kind may have.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A line on standard output for each change.
    pub log: Option<log::Config>,
    /// An HTTP request for each change.
    pub forward: Option<forward::Config>,
    /// A message at a broker for each change.
    pub queue: Option<queue::Config>,
    /// Which changes the sink is given.
    pub filter: Filter,
    /// How it is given them.
    pub delivery: DeliveryConfig,
}

/// How a sink is given its changes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// Where a new sink begins.
    pub start: Start,
    /// Calls at once; unset: what suits the kind of sink.
    #[serde(deserialize_with = "concurrency")]
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency: Option<usize>,
    /// How often a change is tried before it is a dead letter.
    #[serde(deserialize_with = "attempts")]
    #[schemars(range(min = 1))]
    pub attempts: u32,
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// Whether a change may be left out that a later one of the same message has overtaken.
    pub only_latest: bool,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        let (start, concurrency, backoff) = (Start::default(), None, Backoff::default());
        Self { start, concurrency, attempts: 20, backoff, only_latest: false }
    }
}

impl DeliveryConfig {
    /// How many calls at once this sink gets.
    pub(crate) fn concurrency(&self, sink: &dyn Sink) -> usize {
        self.concurrency.unwrap_or_else(|| sink.concurrency()).max(1)
    }
}

fn concurrency<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    units::count(deserializer).and_then(|count| match count {
        ..=1000 => Ok(Some(count)),
        _ => Err(serde::de::Error::custom("is more than 1000")),
    })
}

fn attempts<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    std::num::NonZeroU32::deserialize(deserializer).map(std::num::NonZeroU32::get)
}

/// The pauses between attempts: doubled from `min` to `max`, each shortened at random.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// The first pause is at most this.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(schema_with = "units::duration::schema")]
    pub min: Duration,
    /// No pause is longer.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(schema_with = "units::duration::schema")]
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(600) }
    }
}

/// The one kind that a sink is of.
enum Kind<'a> {
    Log(&'a log::Config),
    Forward(&'a forward::Config),
    Queue(&'a queue::Config),
}

impl Config {
    /// Checks what the types alone don't say.
    ///
    /// # Errors
    /// A sentence for the one who wrote the configuration.
    pub(crate) fn validate(&self) -> Result<(), String> {
        match self.one_kind()? {
            Kind::Log(_) => {}
            Kind::Forward(forward) => forward.validate()?,
            Kind::Queue(queue) => queue.validate()?,
        }
        if self.delivery.backoff.min > self.delivery.backoff.max {
            return Err("delivery.backoff: min is longer than max".into());
        }
        Ok(())
    }

    fn one_kind(&self) -> Result<Kind<'_>, String> {
        match (&self.log, &self.forward, &self.queue) {
            (Some(log), None, None) => Ok(Kind::Log(log)),
            (None, Some(forward), None) => Ok(Kind::Forward(forward)),
            (None, None, Some(queue)) => Ok(Kind::Queue(queue)),
            (None, None, None) => {
                Err("has no kind; add a table such as [sinks.NAME.log] or [sinks.NAME.forward]".into())
            }
            _ => Err("has several kinds; keep one, and give the others a name of their own".into()),
        }
    }

    /// The kind's name, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self.one_kind() {
            Ok(Kind::Log(_)) => "log",
            Ok(Kind::Forward(_)) => "forward",
            Ok(Kind::Queue(queue)) => queue.kind(),
            // Only what a program of one's own adds isn't configured by kind.
            Err(_) => "own",
        }
    }

    /// What the sink does, for people. Reads the files that its configuration names.
    ///
    /// # Errors
    /// When a file can't be used.
    pub(crate) fn describe(&self) -> anyhow::Result<String> {
        match self.one_kind().map_err(anyhow::Error::msg)? {
            Kind::Log(log) => Ok(log.describe()),
            Kind::Forward(forward) => Ok(forward::ForwardSink::new(forward)?.describe()),
            Kind::Queue(queue) => Ok(queue.build()?.describe()),
        }
    }

    /// Tries whether the destination can be reached, and says what came of it. Hands nothing over.
    ///
    /// # Errors
    /// What keeps it from being reached.
    pub(crate) async fn reach(&self) -> anyhow::Result<String> {
        match self.one_kind().map_err(anyhow::Error::msg)? {
            Kind::Log(_) => Ok("standard output, always there".into()),
            Kind::Forward(forward) => forward::ForwardSink::new(forward)?.reach().await.map_err(anyhow::Error::msg),
            Kind::Queue(queue) => queue.build()?.reach().await.map_err(anyhow::Error::msg),
        }
    }
}

/// What runs when no sink is configured: every change on the log.
pub(crate) fn default_sinks() -> std::collections::BTreeMap<Name, Config> {
    let audit = Config { log: Some(log::Config::default()), ..Config::default() };
    std::iter::once((Name("audit".into()), audit)).collect()
}

/// Builds the sink that a configuration describes. `folder` is the store's, where keys that were made are kept.
pub(crate) fn build(name: &Name, config: &Config, folder: &Path, pretty: bool) -> anyhow::Result<Box<dyn Sink>> {
    let wrong = |error| config::Error::new(format!("sinks.{name}"), format!("{error:#}"));
    Ok(match config.one_kind().map_err(|error| anyhow::anyhow!("the sink {name} {error}"))? {
        Kind::Log(log) => Box::new(log::LogSink::new(name.as_str(), log, folder, pretty)?),
        Kind::Forward(forward) => Box::new(forward::ForwardSink::new(forward).map_err(wrong)?),
        Kind::Queue(queue) => queue.build().map_err(wrong)?,
    })
}
