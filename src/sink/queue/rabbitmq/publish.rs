//! Publishing a batch, and what the broker says to each message.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, PublisherConfirm};
use tokio::time::{Instant, timeout, timeout_at};

use super::link::{Lent, Link};
use super::message::Message;

/// How long a broker that has confirmed too little may take to close the channel.
const GRACE: Duration = Duration::from_secs(1);

/// What became of a message.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The broker has it.
    Confirmed,
    /// It went to no queue.
    Unroutable,
    /// The broker does not take it now.
    Nacked,
    /// The channel or the connection closed before the broker said anything about it.
    Closed(lapin::Error),
    /// The broker said nothing in time.
    Silence,
    /// It went nowhere, and what is missing there can't be declared, for this reason.
    Undeclared(String),
}

/// Publishes all of these on one channel, and then waits for what is said to each. Safe to cancel.
pub(super) async fn publish(
    link: &Arc<Link>,
    exchange: &ShortString,
    messages: &[&Message],
    within: Duration,
) -> Vec<Answer> {
    // Those who have the channels are as slow.
    let Ok(place) = timeout(within, link.place()).await else { return vec![Answer::Silence; messages.len()] };
    let deadline = Instant::now() + within;
    let lent = match timeout_at(deadline, link.channel(place)).await {
        Ok(Ok(lent)) => lent,
        Ok(Err(error)) => return vec![Answer::Closed(error); messages.len()],
        Err(_) => {
            if !link.is_blocked() {
                link.cut();
            }
            return vec![Answer::Silence; messages.len()];
        }
    };
    let channel = &lent.channel;
    let mut confirms = Confirms::default();
    let sent = timeout_at(deadline, send(channel, exchange, messages, &mut confirms)).await;
    let is_in_time = timeout_at(deadline, confirms.settle()).await.is_ok() && sent.is_ok();
    if !is_in_time && link.is_blocked() {
        hold(link, lent, confirms, sent.is_ok());
        return vec![Answer::Silence; messages.len()];
    }
    if !is_in_time {
        // The answer to this comes after all that was confirmed; and without one nothing more is to be expected.
        let grace = within.min(GRACE);
        let closed = timeout(grace, async {
            // An error is as much of an end.
            let _ = channel.close(200, "OK".into()).await;
            confirms.settle().await;
        });
        if closed.await.is_err() {
            link.cut();
            if timeout(grace, confirms.settle()).await.is_err() {
                return vec![Answer::Silence; messages.len()];
            }
        }
    }
    let unsent = sent.ok().and_then(Result::err);
    let errors = || unsent.iter().chain(confirms.settled.iter().filter_map(|settled| settled.as_ref().err()));
    // What the broker said of it, rather than what the client says to everything after that.
    let error = errors().find(|error| error.is_amqp_error()).or_else(|| errors().next().filter(|_| is_in_time));
    let answers = answers(messages, &confirms.settled, error);
    if is_in_time && error.is_none() {
        link.put_back(lent);
    }
    answers
}

/// Leaves a channel alone until the broker goes on. It then reads what was sent, even if the connection is cut before: whoever
/// cuts it, and sends it by another, has it there once more.
fn hold(link: &Arc<Link>, lent: Lent, mut confirms: Confirms, is_all_sent: bool) {
    let link = Arc::clone(link);
    tokio::spawn(async move {
        // Also when the connection ends.
        confirms.settle().await;
        if is_all_sent {
            link.put_back(lent);
        }
    });
}

async fn send(
    channel: &Channel,
    exchange: &ShortString,
    messages: &[&Message],
    confirms: &mut Confirms,
) -> lapin::Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    for message in messages {
        let (exchange, routing_key) = (exchange.clone(), message.routing_key.clone());
        let (body, properties) = (message.body.as_bytes(), message.properties.clone());
        let confirm = channel.basic_publish(exchange, routing_key, options, body, properties).await?;
        confirms.pending.push(confirm);
    }
    Ok(())
}

/// What each message's confirmation says. What is returned as unroutable is known by its message's id: the client attaches it to
/// the next confirmation that comes, which may be another message's. So nothing is certain before all have settled.
fn answers(
    messages: &[&Message],
    settled: &[lapin::Result<Confirmation>],
    error: Option<&lapin::Error>,
) -> Vec<Answer> {
    let returned = settled.iter().filter_map(|settled| match settled {
        Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) => {
            message.properties.message_id().as_ref().map(ShortString::as_str)
        }
        _ => None,
    });
    let returned: HashSet<&str> = returned.collect();
    let unconfirmed = error.map_or(Answer::Silence, |error| Answer::Closed(error.clone()));
    let answer = |(index, message): (usize, &&Message)| match settled.get(index) {
        Some(Ok(_)) if returned.contains(message.id.as_str()) => Answer::Unroutable,
        Some(Ok(Confirmation::Ack(_))) => Answer::Confirmed,
        Some(Ok(Confirmation::Nack(_))) => Answer::Nacked,
        Some(Ok(Confirmation::NotRequested) | Err(_)) | None => unconfirmed.clone(),
    };
    messages.iter().enumerate().map(answer).collect()
}

/// Confirmations that are awaited, in the order of the messages.
#[derive(Default)]
struct Confirms {
    pending: Vec<PublisherConfirm>,
    /// What the first ones said.
    settled: Vec<lapin::Result<Confirmation>>,
}

impl Confirms {
    /// Waits for all. Safe to cancel, and to call again.
    async fn settle(&mut self) {
        while let Some(confirm) = self.pending.get_mut(self.settled.len()) {
            self.settled.push(confirm.await);
        }
    }
}
