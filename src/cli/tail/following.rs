//! Following a stream of events over as many connections as it takes.

use std::ops::ControlFlow;
use std::time::Duration;

use reqwest::Response;
use tokio::time::{Instant, timeout};

use super::events::{Event, Reader};
use crate::cli::client::NotFollowed;
use crate::dispatch::backoff::pause;
use crate::network::NoAnswer;
use crate::sink::Backoff;

/// A connection on which nothing has come for so long is dead, whatever it looks like: a receiver sends something every ten seconds.
const SILENT: Duration = Duration::from_secs(25);

/// The first pause before a connection is tried again is at least so long, whatever a receiver asks for, and no pause is longer.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What there is to tell.
#[derive(Debug)]
pub(super) enum Told<'a> {
    /// An event has come.
    Event(Event),
    /// The connection is lost. A new one will go on after the event with this id.
    Lost { why: &'a str, last_id: Option<&'a str> },
    /// There is a new one.
    Back,
}

/// Follows until `tell` has heard enough. `connect` makes a connection that goes on after the event with an id.
///
/// # Errors
/// When the first connection does not come about, when a later one never will, or when `tell` can't make anything of an event.
pub(super) async fn follow(
    connect: impl AsyncFn(Option<&str>) -> Result<Response, NotFollowed>,
    mut tell: impl FnMut(Told<'_>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    let mut last_id: Option<String> = None;
    let mut backoff = Backoff { min: Duration::from_secs(1), max: MAX_PAUSE };
    let mut failures = 0;
    let mut response = connect_within(&connect, None).await.map_err(|error| match error {
        NotFollowed::ForNow(error) | NotFollowed::ForGood(error) => error,
    })?;
    loop {
        let mut reader = Reader::default();
        let begun = Instant::now();
        let why = loop {
            let bytes = match timeout(SILENT, response.chunk()).await {
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => break "the receiver has ended it".to_owned(),
                Ok(Err(error)) => {
                    break match NoAnswer::from(&error) {
                        // Its words are about an answer that has not begun.
                        NoAnswer::Closed => "it broke off".to_owned(),
                        other => other.to_string(),
                    };
                }
                Err(_) => break format!("nothing has come for {} seconds", SILENT.as_secs()),
            };
            for event in reader.read(&bytes)? {
                failures = 0;
                if tell(Told::Event(event))?.is_break() {
                    return Ok(());
                }
            }
            if let Some(id) = reader.last_id() {
                last_id = Some(id.to_owned());
            }
        };
        // One that comes about and is lost at once, again and again, is no better than none.
        if begun.elapsed() > MAX_PAUSE {
            failures = 0;
        }
        if let Some(retry_ms) = reader.retry_ms() {
            backoff.min = Duration::from_millis(retry_ms).clamp(MIN_PAUSE, MAX_PAUSE);
        }
        if tell(Told::Lost { why: &why, last_id: last_id.as_deref() })?.is_break() {
            return Ok(());
        }
        response = loop {
            failures += 1;
            tokio::time::sleep(pause(&backoff, failures, None)).await;
            match connect_within(&connect, last_id.as_deref()).await {
                Ok(response) => break response,
                Err(NotFollowed::ForNow(_)) => {}
                Err(NotFollowed::ForGood(error)) => return Err(error),
            }
        };
        if tell(Told::Back)?.is_break() {
            return Ok(());
        }
    }
}

/// Somebody who takes the connection and says nothing is no receiver.
async fn connect_within(
    connect: &impl AsyncFn(Option<&str>) -> Result<Response, NotFollowed>,
    last_id: Option<&str>,
) -> Result<Response, NotFollowed> {
    timeout(SILENT, connect(last_id))
        .await
        .unwrap_or_else(|_| Err(NotFollowed::ForNow(anyhow::anyhow!("no receiver answers: {}", NoAnswer::Timeout))))
}

#[cfg(test)]
mod tests;
