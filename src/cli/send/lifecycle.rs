//! Made-up messages that live as real ones do.
//!
//! Most are sent, received and read. Steps are skipped and come out of order, second devices repeat them, a voice message is
//! played, one callback speaks of several messages, and now and then the same one comes twice. Messages go to people, to
//! groups and into stories, where each participant has steps of their own. Those of different recipients are mixed.

use std::collections::VecDeque;

use super::random::Random;
use crate::callback::Draft;
use crate::status::Rank;

/// How many recipients have steps to come, at the least.
const UNDER_WAY: usize = 64;

/// The devices seen in captured callbacks, the phone itself aside.
const OTHER_DEVICES: [i64; 5] = [5, 19, 35, 47, 86];

const HEXADECIMAL: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
const DIGITS: [char; 10] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];

/// Callbacks without end.
pub(super) struct Lifecycles {
    random: Random,
    instance: String,
    under_way: Vec<VecDeque<Draft>>,
}

impl Lifecycles {
    /// Of one connected account.
    pub(super) fn new(mut random: Random) -> Self {
        let instance = random.text(&HEXADECIMAL, 32);
        Self { random, instance, under_way: Vec::new() }
    }

    /// The next callback, at this time.
    pub(super) fn next(&mut self, now_ms: i64) -> Draft {
        while self.under_way.len() < UNDER_WAY {
            self.add_message(now_ms);
        }
        let index = usize::try_from(self.random.below(self.under_way.len() as u64)).expect("it is less than a length");
        let draft = self.under_way[index].pop_front().expect("whoever has no more steps is removed");
        if self.under_way[index].is_empty() {
            self.under_way.swap_remove(index);
        }
        if self.random.chance(1) {
            self.under_way.push(VecDeque::from([draft.clone()]));
        }
        draft
    }

    fn add_message(&mut self, now_ms: i64) {
        let first = self.draft(now_ms);
        let random = &mut self.random;
        match random.below(100) {
            0..50 => {
                let steps = steps(random, &first, [80, 95, 70, 10], now_ms);
                self.under_way.push(steps);
            }
            50..70 => {
                let group = format!("120363{}-group", random.text(&DIGITS, 12));
                for _ in 0..2 + random.below(7) {
                    let participant = Some(phone(random));
                    let first = Draft { phone: group.clone(), participant, ..first.clone() };
                    let steps = steps(random, &first, [0, 95, 60, 10], now_ms);
                    self.under_way.push(steps);
                }
            }
            70..95 => {
                for _ in 0..3 + random.below(28) {
                    let participant = Some(phone(random));
                    let first = Draft { phone: "status@broadcast".into(), participant, ..first.clone() };
                    let steps = steps(random, &first, [0, 20, 100, 0], now_ms);
                    self.under_way.push(steps);
                }
            }
            // The connected account itself read what somebody had sent to it.
            _ => self.under_way.push(VecDeque::from([Draft { status: "READ-SELF".into(), ..first }])),
        }
    }

    /// A message to somebody, sent in the last ten minutes, or several of which each callback speaks at once.
    fn draft(&mut self, now_ms: i64) -> Draft {
        let random = &mut self.random;
        let count = if random.chance(85) { 1 } else { 2 + random.below(4) };
        Draft {
            instance_id: self.instance.clone(),
            status: String::new(),
            ids: (0..count).map(|_| message_id(random)).collect(),
            moment_ms: (now_ms / 1000 - below(random, 600)) * 1000,
            phone: phone(random),
            participant: None,
            device: 0,
        }
    }
}

/// What becomes of one recipient's message; each status, lowest first, comes with its chance in a hundred. At least one step.
fn steps(random: &mut Random, first: &Draft, chances: [u64; 4], now_ms: i64) -> VecDeque<Draft> {
    let latest = now_ms / 1000 * 1000;
    let mut steps = VecDeque::new();
    let mut moment_ms = first.moment_ms;
    for (rank, chance) in Rank::ALL.into_iter().zip(chances) {
        if !random.chance(chance) {
            continue;
        }
        let step = Draft { status: rank.name().into(), moment_ms, ..first.clone() };
        moment_ms = (moment_ms + below(random, 60) * 1000).min(latest);
        steps.push_back(step.clone());
        if rank != Rank::Sent && random.chance(15) {
            steps.push_back(Draft { device: *random.pick(&OTHER_DEVICES), moment_ms, ..step });
        }
    }
    if steps.is_empty() {
        steps.push_back(Draft { status: Rank::Received.name().into(), ..first.clone() });
    }
    if steps.len() > 1 && random.chance(10) {
        let second = steps.pop_back().expect("there are two");
        let first = steps.pop_back().expect("there are two");
        steps.extend([second, first]);
    }
    steps
}

fn below(random: &mut Random, end: u32) -> i64 {
    i64::try_from(random.below(u64::from(end))).expect("it is less than 2^32")
}

/// In one of the forms of captured ones.
fn message_id(random: &mut Random) -> String {
    let (beginning, length) = *random.pick(&[("3EB0", 22), ("3A", 20), ("A5", 32), ("", 32), ("3EB0", 20)]);
    format!("{beginning}{}", random.text(&HEXADECIMAL, length - beginning.len()))
}

/// In one of the forms of captured ones, with an area code that nobody has: it must not be a real person's.
fn phone(random: &mut Random) -> String {
    match random.below(20) {
        0 => format!("{}@lid", random.text(&DIGITS, 15)),
        1..4 => format!("5500{}", random.text(&DIGITS, 8)),
        _ => format!("55009{}", random.text(&DIGITS, 8)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::callback::{self, Callback};

    const NOW_MS: i64 = 1_790_000_000_123;

    /// So many that everything that can happen does.
    fn many() -> Vec<Callback> {
        let mut lifecycles = Lifecycles::new(Random::new(7));
        let bodies = (0..5_000).map(|_| lifecycles.next(NOW_MS).to_json());
        bodies.map(|body| callback::parse(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))).collect()
    }

    #[test]
    fn every_callback_is_valid_and_of_a_whole_second_that_has_been() {
        for callback in many() {
            let moment = callback.facts("").moment.unwrap().as_millisecond();
            assert!(moment % 1000 == 0 && moment <= NOW_MS && moment > NOW_MS - 601_000, "{moment}");
        }
    }

    #[test]
    fn everything_that_happens_to_messages_happens() {
        let callbacks = many();
        let facts: Vec<_> = callbacks.iter().map(|callback| callback.facts(&callback.ids()[0])).collect();
        let statuses: HashSet<_> = facts.iter().map(|facts| facts.status.as_str()).collect();
        assert_eq!(statuses, HashSet::from(["SENT", "RECEIVED", "READ", "PLAYED", "READ-SELF"]));
        let count = |what: &dyn Fn(&callback::Callback) -> bool| callbacks.iter().filter(|c| what(c)).count();
        let phone_ends = |c: &Callback, end: &str| c.facts("").phone.is_some_and(|phone| phone.ends_with(end));
        assert!(count(&|c| c.is_group() && c.facts("").participant.is_some()) > 100, "groups");
        assert!(count(&|c| phone_ends(c, "status@broadcast")) > 100, "stories");
        assert!(count(&|c| phone_ends(c, "@lid")) > 10, "accounts without a number");
        assert!(count(&|c| c.ids().len() > 1) > 100, "several messages at once");
        assert!(count(&|c| c.facts("").device != Some(0)) > 100, "other devices");

        let (mut highest, mut seen) = (HashMap::new(), HashSet::new());
        let (mut late, mut skipped, mut same) = (0, 0, 0);
        for facts in &facts {
            same += usize::from(!seen.insert(facts.event_id()));
            let Some(rank) = facts.status.rank() else { continue };
            let key = (facts.message_id.clone(), facts.recipient().to_owned());
            let before = highest.entry(key).or_insert(0);
            late += usize::from((rank as i64) < *before);
            skipped += usize::from(rank as i64 > *before + 1);
            *before = (*before).max(rank as i64);
        }
        assert!(late > 10, "out of order: {late}");
        assert!(skipped > 100, "skipped: {skipped}");
        assert!((10..250).contains(&same), "the same once more: {same}");
    }

    #[test]
    fn no_phone_is_one_that_somebody_may_have() {
        for callback in many() {
            let facts = callback.facts("");
            for phone in facts.phone.iter().chain(&facts.participant) {
                let is_nobody_s = phone.starts_with("5500") || phone.contains(['@', '-']);
                assert!(is_nobody_s, "{phone}");
            }
        }
    }
}
