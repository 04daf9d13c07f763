//! The changes that a sink will be given again, each message's in order behind the one that failed.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use jiff::Timestamp;

use super::window::Key;
use crate::store::Deferred;

/// The most changes that may be deferred for one sink. At it the sink reads no further until some are done with.
pub const MAX_DEFERRED: usize = if cfg!(test) { 100 } else { 10_000 };

/// Deferred changes by message; of each message the first one alone can be due.
#[derive(Default)]
pub(super) struct Waiting {
    queues: HashMap<Key, VecDeque<Deferred>>,
    due: BTreeSet<(Timestamp, Key)>,
    /// Messages of which one is being given now.
    taken: HashSet<Key>,
    count: usize,
}

impl Waiting {
    /// How many there are, those being given now included.
    pub(super) fn len(&self) -> usize {
        self.count + self.taken.len()
    }

    /// Whether changes of this message wait, or one of them is being given.
    pub(super) fn holds(&self, key: Key) -> bool {
        self.taken.contains(&key) || self.queues.contains_key(&key)
    }

    /// Puts one among those of its message, in the order stored; `false` when it is there already.
    pub(super) fn insert(&mut self, key: Key, deferred: Deferred) -> bool {
        let queue = self.queues.entry(key).or_default();
        let place = queue.partition_point(|waiting| waiting.seq < deferred.seq);
        if queue.get(place).is_some_and(|waiting| waiting.seq == deferred.seq) {
            return false;
        }
        if let Some(first) = queue.front() {
            self.due.remove(&(first.due_at, key));
        }
        queue.insert(place, deferred);
        self.count += 1;
        self.plan(key);
        true
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due_at, _)| *due_at)
    }

    /// Takes one that is due at `now` and not to be skipped. The others of its message wait until [`finish`](Self::finish).
    pub(super) fn take_due(&mut self, now: Timestamp, is_skipped: impl Fn(Key) -> bool) -> Option<(Key, Deferred)> {
        let mut due = self.due.iter().take_while(|(due_at, _)| *due_at <= now);
        let next @ (_, key) = *due.find(|(_, key)| !is_skipped(*key))?;
        self.due.remove(&next);
        let queue = self.queues.get_mut(&key)?;
        let deferred = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        self.count -= 1;
        self.taken.insert(key);
        Some((key, deferred))
    }

    /// The one that was taken is done with, or, given here, has to be given again.
    pub(super) fn finish(&mut self, key: Key, again: Option<Deferred>) {
        self.taken.remove(&key);
        match again {
            Some(deferred) => drop(self.insert(key, deferred)),
            None => self.plan(key),
        }
    }

    /// Lets those go that wait; which they were.
    pub(super) fn forget(&mut self, is_erased: impl Fn(i64) -> bool) -> Vec<i64> {
        let mut gone = Vec::new();
        for (key, queue) in &mut self.queues {
            if let Some(first) = queue.front() {
                self.due.remove(&(first.due_at, *key));
            }
            let (erased, kept) = queue.drain(..).partition(|deferred| is_erased(deferred.seq));
            *queue = kept;
            gone.extend(VecDeque::into_iter(erased).map(|deferred: Deferred| deferred.seq));
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        self.count -= gone.len();
        for key in self.queues.keys().copied().collect::<Vec<_>>() {
            self.plan(key);
        }
        gone
    }

    /// The first of a message is due at its time, unless one of them is being given.
    fn plan(&mut self, key: Key) {
        if !self.taken.contains(&key)
            && let Some(first) = self.queues.get(&key).and_then(VecDeque::front)
        {
            self.due.insert((first.due_at, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Facts, Status};

    fn key(message_id: &str) -> Key {
        Key::of(&Facts {
            instance_id: None,
            message_id: message_id.into(),
            status: Status::new("READ"),
            phone: None,
            participant: None,
            device: None,
            moment: None,
        })
    }

    fn deferred(seq: i64, due_at: i64) -> Deferred {
        Deferred { seq, attempts: 1, due_at: Timestamp::from_second(due_at).unwrap(), in_flight: false }
    }

    #[test]
    fn those_of_one_message_are_due_one_after_another_in_the_order_stored() {
        let (one, other) = (key("one"), key("other"));
        let mut waiting = Waiting::default();
        waiting.insert(one, deferred(5, 0));
        waiting.insert(one, deferred(3, 50));
        waiting.insert(one, deferred(3, 0));
        waiting.insert(other, deferred(4, 20));
        let now = Timestamp::from_second(100).unwrap();
        assert_eq!(waiting.take_due(now, |_| false).map(|(_, deferred)| deferred.seq), Some(4), "due first");
        assert_eq!(
            waiting.take_due(now, |_| false).map(|(_, deferred)| deferred.seq),
            Some(3),
            "the first of its message"
        );
        assert_eq!(waiting.take_due(now, |_| false), None, "the second of a message waits while the first is given");
        waiting.insert(one, deferred(2, 0));
        assert_eq!(waiting.take_due(now, |_| false), None);
        assert_eq!(waiting.len(), 4);
        waiting.finish(other, None);
        assert!(!waiting.holds(other));
        waiting.finish(one, Some(deferred(3, 200)));
        assert_eq!(waiting.take_due(now, |_| false).map(|(_, deferred)| deferred.seq), Some(2));
        waiting.finish(one, None);
        assert_eq!(waiting.take_due(now, |_| false), None, "the first is not due, and the second is behind it");
        assert_eq!(waiting.next_due(), Timestamp::from_second(200).ok());
    }
}
