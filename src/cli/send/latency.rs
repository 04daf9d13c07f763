//! How long answers took.

use serde::Serialize;

/// Where the latencies of many answers lie, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Latency {
    /// Of latencies in microseconds, in any order; `None` when there are none.
    pub(super) fn of(mut microseconds: Vec<u32>) -> Option<Self> {
        microseconds.sort_unstable();
        let at = |percent| percentile(&microseconds, percent).map(|us| f64::from(us) / 1000.0);
        Some(Self { min: at(0)?, median: at(50)?, p95: at(95)?, p99: at(99)?, max: at(100)? })
    }
}

/// The smallest of these values, which are in order, that at least `percent` of a hundred are not greater than (the nearest
/// rank).
fn percentile(sorted: &[u32], percent: usize) -> Option<u32> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let hundred: Vec<u32> = (1..=100).collect();
        for (percent, value) in [(0, 1), (1, 1), (50, 50), (95, 95), (99, 99), (100, 100)] {
            assert_eq!(percentile(&hundred, percent), Some(value), "{percent}");
        }
        let five = [10, 20, 30, 40, 50];
        for (percent, value) in [(0, 10), (20, 10), (21, 20), (50, 30), (95, 50), (99, 50), (100, 50)] {
            assert_eq!(percentile(&five, percent), Some(value), "{percent}");
        }
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn latencies_may_come_in_any_order() {
        let latency = Latency::of(vec![3000, 1000, 2500, 2000]).unwrap();
        assert_eq!(latency, Latency { min: 1.0, median: 2.0, p95: 3.0, p99: 3.0, max: 3.0 });
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
