//! Forgetting changes that were taken out of the store.

use super::Drain;
use crate::store::Outcome;

impl Drain {
    /// Gives none of the changes with these sequence numbers (ascending) any more. An attempt that is under way can't be called back;
    /// when it fails, nothing is kept of its change.
    pub(super) fn forget(&mut self, seqs: &[i64]) {
        let is_erased = |seq: i64| seqs.binary_search(&seq).is_ok();
        let under_way = self.under_way.values().flat_map(|lane| lane.changes.iter());
        self.erased.extend(under_way.map(|change| change.seq).filter(|seq| is_erased(*seq)));
        self.window.forget(is_erased);
        if let Some(running) = &mut self.replay {
            running.forget(is_erased);
        }
        self.outcomes.extend(self.waiting.forget(is_erased).into_iter().map(Outcome::Settled));
        self.standing.update(|snapshot| snapshot.deferred = self.waiting.len());
    }
}
