//! Growing pauses with full jitter, so that many that failed together don't come back together.

use std::time::Duration;

use crate::sink::Backoff;

/// The pause before attempt `attempts + 1`, after `attempts` that failed (at least one): at most `min` doubled for each, at most
/// `max`, shortened at random. What the destination asks for is obeyed up to `max`.
pub(crate) fn pause(backoff: &Backoff, attempts: u32, asked: Option<Duration>) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    let longest = backoff.min.saturating_mul(1 << doublings).min(backoff.max);
    // Without randomness from the system the longest pause is as good as any.
    let random = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    longest.mul_f64(random).max(asked.unwrap_or_default()).min(backoff.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_obey_the_destination_within_it() {
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(10) };
        for (attempts, longest) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (4_000_000_000, 10)] {
            let pauses: Vec<_> = (0..200).map(|_| pause(&backoff, attempts, None)).collect();
            assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(longest)), "{attempts}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause > Duration::from_secs(longest) / 2), "{attempts}: {pauses:?}");
        }
        assert!(pause(&backoff, 1, Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        assert_eq!(pause(&backoff, 1, Some(Duration::from_secs(3600))), Duration::from_secs(10));
    }
}
