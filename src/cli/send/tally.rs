//! What became of many callbacks.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::latency::Latency;
use super::target::Outcome;

/// More kinds of problems than this are counted as one: each may have a text of its own.
const MAX_PROBLEMS: usize = 10;

/// Counts outcomes.
#[derive(Default)]
pub(super) struct Tally {
    answers: BTreeMap<u16, u64>,
    taken: u64,
    unanswered: u64,
    stored: u64,
    duplicates: u64,
    problems: BTreeMap<String, u64>,
    latencies_us: Vec<u32>,
}

impl Tally {
    /// Counts one; `took` is from sending it to the end of the answer.
    pub(super) fn add(&mut self, outcome: &Outcome, took: Duration) {
        match outcome.status() {
            Some(status) => {
                *self.answers.entry(status).or_default() += 1;
                self.latencies_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            }
            None => self.unanswered += 1,
        }
        self.stored += outcome.stored();
        self.duplicates += outcome.duplicates();
        if outcome.is_taken() {
            self.taken += 1;
        } else {
            self.add_problem(outcome.to_string(), 1);
        }
    }

    fn add_problem(&mut self, problem: String, count: u64) {
        let is_one_too_many = self.problems.len() >= MAX_PROBLEMS && !self.problems.contains_key(&problem);
        let problem = if is_one_too_many { "others".into() } else { problem };
        *self.problems.entry(problem).or_default() += count;
    }

    /// Counts what another one has counted.
    pub(super) fn merge(&mut self, other: Self) {
        for (status, count) in other.answers {
            *self.answers.entry(status).or_default() += count;
        }
        for (problem, count) in other.problems {
            self.add_problem(problem, count);
        }
        self.taken += other.taken;
        self.unanswered += other.unanswered;
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.latencies_us.extend(other.latencies_us);
    }

    /// All that was counted, and how long it took on so many connections.
    pub(super) fn finish(self, connections: u16, took: Duration) -> Summary {
        let Self { answers, taken, unanswered, stored, duplicates, problems, latencies_us } = self;
        let callbacks = answers.values().sum::<u64>() + unanswered;
        let seconds = took.as_secs_f64().max(0.001);
        let per_second = callbacks as f64 / seconds;
        Summary {
            callbacks,
            answers,
            taken,
            unanswered,
            stored,
            duplicates,
            connections,
            seconds: (seconds * 1000.0).round() / 1000.0,
            per_second: (per_second * 10.0).round() / 10.0,
            latency_ms: Latency::of(latencies_us),
            problems,
        }
    }
}

/// What became of them all.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    callbacks: u64,
    answers: BTreeMap<u16, u64>,
    #[serde(skip)]
    taken: u64,
    unanswered: u64,
    stored: u64,
    duplicates: u64,
    connections: u16,
    seconds: f64,
    per_second: f64,
    latency_ms: Option<Latency>,
    problems: BTreeMap<String, u64>,
}

impl Summary {
    /// How many were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { callbacks, seconds, per_second, connections, .. } = self;
        writeln!(f, "posted     {callbacks} in {seconds} s: {per_second} a second on {connections} connections")?;
        let answers: Vec<_> = self.answers.iter().map(|(status, count)| format!("{count} with {status}")).collect();
        writeln!(f, "answered   {}", if answers.is_empty() { "none".into() } else { answers.join(", ") })?;
        if self.unanswered > 0 {
            writeln!(f, "unanswered {}", self.unanswered)?;
        }
        write!(f, "changes    {} stored, {} duplicates", self.stored, self.duplicates)?;
        if let Some(Latency { min, median, p95, p99, max }) = self.latency_ms {
            write!(f, "\nlatency    min {min} ms, median {median} ms, p95 {p95} ms, p99 {p99} ms, max {max} ms")?;
        }
        for (problem, count) in &self.problems {
            write!(f, "\nproblem    {count} times: {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NoAnswer;

    #[test]
    fn what_several_counted_is_one_sum() {
        let mut tally = Tally::default();
        for number in 0..3 {
            let mut other = Tally::default();
            for kind in 0..MAX_PROBLEMS {
                let why = NoAnswer::Other(format!("{number} {kind}"));
                other.add(&Outcome::unanswered(&why), Duration::from_millis(1));
            }
            tally.merge(other);
        }
        let summary = tally.finish(3, Duration::from_secs(10));
        assert_eq!((summary.callbacks, summary.unanswered, summary.taken()), (30, 30, 0));
        assert_eq!(summary.problems.values().sum::<u64>(), 30);
        assert_eq!(summary.problems["others"], 20, "the texts that are kept are bounded");
        assert_eq!((summary.per_second, summary.latency_ms), (3.0, None));
    }
}
