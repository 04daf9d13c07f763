//! Says on the log when an instance falls silent that usually has callbacks, and when it is heard again: once each.
//!
//! What is silence, the store knows: see [`Instance`](crate::store::Instance).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::status::with_milliseconds;
use crate::store::Store;

/// How often the instances are looked at. They are few, and in memory.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until `stop`.
pub(crate) async fn watch(store: Store, stop: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut silent = BTreeSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let instances = store.instances();
        for instance in &instances {
            let (id, last) = (instance.instance_id.as_deref(), with_milliseconds(instance.last_callback_at));
            if instance.silent && silent.insert(instance.instance_id.clone()) {
                tracing::warn!(
                    instance = id,
                    last_callback_at = last,
                    silent_after_seconds = instance.silent_after_seconds,
                    "no callback has come from this instance for unusually long: is it connected, and is the callback URL still \
                     registered?"
                );
            } else if !instance.silent && silent.remove(&instance.instance_id) {
                tracing::info!(instance = id, last_callback_at = last, "callbacks come from this instance again");
            }
        }
        // One that is forgotten is not missed.
        silent.retain(|id| instances.iter().any(|instance| instance.instance_id == *id));
    }
}
