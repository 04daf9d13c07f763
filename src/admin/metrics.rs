//! What there is to watch, for Prometheus. What the store and the drains know is asked of them at each scrape; only what nobody
//! else remembers is counted as it happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};
use tokio::time::{Instant, timeout_at};

use super::Admin;
use crate::dispatch::Snapshot;
use crate::http::problem::Problem;
use crate::store::Store;

/// How long the store may take for all that it is asked: a scraper waits ten seconds, and what else there is to tell must not be
/// lost with it.
const READ_WITHIN: Duration = Duration::from_secs(3);

/// What stands for the instance of callbacks that name none.
const NO_INSTANCE: &str = "none";

/// `GET /metrics`
pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    match exposition(&admin).await {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written; the log has the cause")
                .into_response()
        }
    }
}

async fn exposition(admin: &Admin) -> prometheus::Result<String> {
    let (page, deadline) = (Page(Registry::new()), Instant::now() + READ_WITHIN);
    receiving(&page, admin)?;
    storing(&page, &admin.store, deadline).await?;
    delivering(&page, admin, deadline).await?;
    TextEncoder::new().encode_to_string(&page.0.gather())
}

/// What is gathered in one scrape.
struct Page(Registry);

impl Page {
    fn add(&self, collector: Box<dyn Collector>) -> prometheus::Result<()> {
        self.0.register(collector)
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.add(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        self.add(Box::new(gauge.clone()))?;
        Ok(gauge)
    }
}

fn receiving(page: &Page, admin: &Admin) -> prometheus::Result<()> {
    page.add(admin.counts.ack.collector())?;
    let callbacks =
        page.counter("plugchat_callbacks_total", "Callbacks that were answered, and how.", &["outcome", "reason"])?;
    for (outcome, reason, count) in admin.counts.all() {
        callbacks.with_label_values(&[outcome, reason]).inc_by(count);
    }
    let last = page.gauge(
        "plugchat_last_callback_timestamp_seconds",
        "When the last callback came from an instance; those beyond the hundred that are kept apart are \"other\".",
        &["instance"],
    )?;
    let silent = page.gauge(
        "plugchat_instance_silent",
        "1 while an instance that usually has callbacks is quiet for unusually long.",
        &["instance"],
    )?;
    // By label, as an instance may be called "none", too.
    let mut instances = BTreeMap::new();
    for instance in admin.store.instances() {
        let label = instance.instance_id.unwrap_or_else(|| NO_INSTANCE.to_owned());
        let (at, is_silent) = instances.entry(label).or_insert((instance.last_callback_at, true));
        (*at, *is_silent) = (instance.last_callback_at.max(*at), instance.silent && *is_silent);
    }
    for (label, (at, is_silent)) in instances {
        last.with_label_values(&[&label]).set(at.as_millisecond() as f64 / 1000.0);
        silent.with_label_values(&[&label]).set(f64::from(u8::from(is_silent)));
    }
    Ok(())
}

async fn storing(page: &Page, store: &Store, deadline: Instant) -> prometheus::Result<()> {
    let counts = store.counts();
    page.add(counts.commit.collector())?;
    let changes = page.counter(
        "plugchat_status_changes_total",
        "Status changes that were stored, exact duplicates not among them.",
        &["status", "transition"],
    )?;
    for (status, transition, count) in counts.changes() {
        changes.with_label_values(&[status, transition]).inc_by(count);
    }
    let lag = page.gauge(
        "plugchat_sender_lag_seconds",
        "How long after its moment the latest callback came; negative when the sender's clock is ahead.",
        &[],
    )?;
    if let Some(seconds) = counts.sender_lag_seconds() {
        lag.with_label_values::<&str>(&[]).set(seconds);
    }
    let used = page.gauge("plugchat_store_bytes", "What the database holds.", &[])?;
    let most = page.gauge("plugchat_store_max_bytes", "What the database may hold at the most.", &[])?;
    // A store that fails says so on the log.
    if let Ok(Ok((used_bytes, max_bytes))) = timeout_at(deadline, store.bytes()).await {
        used.with_label_values::<&str>(&[]).set(used_bytes as f64);
        most.with_label_values::<&str>(&[]).set(max_bytes as f64);
    }
    Ok(())
}

async fn delivering(page: &Page, admin: &Admin, deadline: Instant) -> prometheus::Result<()> {
    let of_sink = ["sink"];
    let delivered =
        page.counter("plugchat_sink_delivered_total", "Changes that a sink's destination took.", &of_sink)?;
    let attempts = page.counter(
        "plugchat_sink_attempts_total",
        "Changes that were given to a sink's destination, and what came of it.",
        &["sink", "outcome"],
    )?;
    let lag = page.gauge("plugchat_sink_lag_changes", "How many stored changes a sink is behind.", &of_sink)?;
    let oldest = page.gauge(
        "plugchat_sink_oldest_undelivered_seconds",
        "How long ago the oldest change was received that a sink has still to be given; 0 when there is none.",
        &of_sink,
    )?;
    let deferred = page.gauge("plugchat_sink_deferred", "Changes that a sink will be given again.", &of_sink)?;
    let dead = page.gauge(
        "plugchat_sink_dead_letters",
        "Changes that a sink refused, or that ran out of attempts.",
        &of_sink,
    )?;
    let state = page.gauge("plugchat_sink_state", "1 for the state that a sink is in.", &["sink", "state"])?;
    for sink in &admin.sinks {
        let (name, snapshot) = (sink.name().as_str(), sink.snapshot());
        delivered.with_label_values(&[name]).inc_by(snapshot.delivered);
        let failures = snapshot.failures;
        for (outcome, count) in [
            ("delivered", snapshot.delivered),
            ("refused", failures.refused),
            ("failed", failures.failed),
            ("away", failures.away),
            ("gone", failures.gone),
        ] {
            attempts.with_label_values(&[name, outcome]).inc_by(count);
        }
        let behind = admin.store.places().get(name).map_or(0, |cursor| admin.store.latest() - cursor);
        lag.with_label_values(&[name]).set(behind as f64);
        let waiting = match (behind, snapshot.deferred) {
            (0, 0) => Some(Ok(None)),
            _ => timeout_at(deadline, admin.store.oldest_undelivered(name)).await.ok(),
        };
        if let Some(Ok(received_at)) = waiting {
            let age = received_at.map_or(0.0, |at| Timestamp::now().duration_since(at).as_secs_f64());
            oldest.with_label_values(&[name]).set(age.max(0.0));
        }
        deferred.with_label_values(&[name]).set(snapshot.deferred as f64);
        dead.with_label_values(&[name]).set(snapshot.dead as f64);
        for possible in Snapshot::STATES {
            state.with_label_values(&[name, possible]).set(f64::from(u8::from(possible == snapshot.state())));
        }
    }
    Ok(())
}
