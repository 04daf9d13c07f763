//! What a drain has read of the log and not yet done with.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::sink::Delivery;
use crate::status::{Facts, Transition};

/// The most changes that are read ahead.
pub(super) const MAX_CHANGES: usize = 1000;

/// No more is read ahead when their texts are this long together: bodies may be large, and each sink has a window of its own.
const MAX_BYTES: usize = 16 << 20;

/// What must stay in order: one message and recipient. A hash will do: two that collide are kept in order for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn of(facts: &Facts) -> Self {
        let mut hash = DefaultHasher::new();
        (&facts.instance_id, &facts.message_id, facts.recipient()).hash(&mut hash);
        Self(hash.finish())
    }
}

/// The changes between the sink's cursor and the last one read, in the order stored.
pub(super) struct Window {
    places: BTreeMap<i64, Place>,
    read_to: i64,
    waiting: usize,
    /// How long the texts of all in here are.
    bytes: usize,
    /// The last change of each message in here that overtakes all before it.
    latest_advance: HashMap<Key, i64>,
}

struct Place {
    key: Key,
    state: State,
    bytes: usize,
}

enum State {
    Waiting(Box<Delivery>),
    InFlight,
    Done,
}

impl Window {
    pub(super) fn new(cursor: i64) -> Self {
        Self { places: BTreeMap::new(), read_to: cursor, waiting: 0, bytes: 0, latest_advance: HashMap::new() }
    }

    /// Where to read on.
    pub(super) fn read_to(&self) -> i64 {
        self.read_to
    }

    /// Whether more may be read.
    pub(super) fn has_room(&self) -> bool {
        self.places.len() < MAX_CHANGES && self.bytes < MAX_BYTES
    }

    /// How many have still to be given, and are not under way.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes what was read up to `read_to`; what the sink doesn't want is not among `changes`.
    pub(super) fn extend(&mut self, changes: impl IntoIterator<Item = Delivery>, read_to: i64) {
        for change in changes {
            let (seq, key) = (change.seq, Key::of(&change.change.facts));
            if change.change.transition == Transition::Advance {
                self.latest_advance.insert(key, seq);
            }
            let bytes = change.change.callback.get().len();
            self.places.insert(seq, Place { key, state: State::Waiting(Box::new(change)), bytes });
            self.waiting += 1;
            self.bytes += bytes;
        }
        self.read_to = self.read_to.max(read_to);
    }

    /// Takes the next at most `limit` that may be given now, in order: none whose key is in `busy`, and one of each key, so that a
    /// sink can give all of them at once; the others are passed over, or, `in_order`, end it. Those whose key `is_held` have to wait elsewhere, behind an earlier one of their message; with `only_latest`, those that a later one of their
    /// message has overtaken are done with.
    pub(super) fn take(
        &mut self,
        limit: usize,
        busy: &HashSet<Key>,
        is_held: impl Fn(Key) -> bool,
        only_latest: bool,
        in_order: bool,
    ) -> Taken {
        let (mut taken, mut keys) = (Taken::default(), HashSet::new());
        for (seq, place) in &mut self.places {
            if taken.lane.len() == limit {
                break;
            }
            if !matches!(place.state, State::Waiting(_)) || busy.contains(&place.key) {
                continue;
            }
            if keys.contains(&place.key) {
                if in_order {
                    break;
                }
                continue;
            }
            let is_overtaken = only_latest && self.latest_advance.get(&place.key).is_some_and(|latest| latest > seq);
            let is_held = is_held(place.key);
            let next = if is_overtaken || is_held { State::Done } else { State::InFlight };
            let State::Waiting(change) = std::mem::replace(&mut place.state, next) else { continue };
            self.waiting -= 1;
            if is_overtaken {
                taken.overtaken += 1;
            } else if is_held {
                taken.held.push((place.key, *change));
            } else {
                keys.insert(place.key);
                taken.lane.push((place.key, *change));
            }
        }
        taken
    }

    /// This one, which was under way, is done with: delivered, or written down elsewhere.
    pub(super) fn done(&mut self, seq: i64) {
        if let Some(place) = self.places.get_mut(&seq) {
            place.state = State::Done;
        }
    }

    /// This one, which was under way, has still to be given, unless it was forgotten meanwhile.
    pub(super) fn put_back(&mut self, change: Delivery) {
        if let Some(place) = self.places.get_mut(&change.seq)
            && matches!(place.state, State::InFlight)
        {
            place.state = State::Waiting(Box::new(change));
            self.waiting += 1;
        }
    }

    /// These are done with, also where they are under way.
    pub(super) fn forget(&mut self, is_erased: impl Fn(i64) -> bool) {
        for (_, place) in self.places.iter_mut().filter(|(seq, _)| is_erased(**seq)) {
            if let State::Waiting(_) = std::mem::replace(&mut place.state, State::Done) {
                self.waiting -= 1;
            }
        }
    }

    /// Lets go of what is done with at the beginning; the sequence number up to which everything is.
    pub(super) fn settle(&mut self) -> i64 {
        while let Some(first) = self.places.first_entry() {
            if !matches!(first.get().state, State::Done) {
                return first.key() - 1;
            }
            let (seq, place) = first.remove_entry();
            self.bytes -= place.bytes;
            if self.latest_advance.get(&place.key) == Some(&seq) {
                self.latest_advance.remove(&place.key);
            }
        }
        self.read_to
    }
}

/// What [`Window::take`] found.
#[derive(Default)]
pub(super) struct Taken {
    /// To be given now.
    pub(super) lane: Vec<(Key, Delivery)>,
    /// To be written down behind an earlier one of their message.
    pub(super) held: Vec<(Key, Delivery)>,
    /// How many a later one of their message has made superfluous.
    pub(super) overtaken: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::conformance::delivery;

    #[test]
    fn large_changes_are_not_read_ahead_without_a_bound() {
        let mut window = Window::new(0);
        let large = |seq: i64| {
            let mut change = delivery(&format!("m-{seq}"));
            let text = serde_json::to_string(&"x".repeat(MAX_BYTES / 4)).unwrap();
            change.seq = seq;
            change.change.callback = serde_json::value::RawValue::from_string(text).unwrap();
            change
        };
        window.extend([large(1), large(2), large(3)], 3);
        assert!(window.has_room());
        window.extend([large(4)], 4);
        assert!(!window.has_room());
        for seq in 1..=4 {
            window.done(seq);
        }
        assert_eq!(window.settle(), 4);
        assert!(window.has_room(), "what was let go of takes no room");
    }
}
