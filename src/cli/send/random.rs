//! Random values that only have to look random.

/// SplitMix64: a few operations a number, and good enough for made-up ids.
pub(super) struct Random(u64);

impl Random {
    /// The same seed gives the same values.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Begins where nobody can tell.
    pub(super) fn seeded() -> anyhow::Result<Self> {
        Ok(Self::new(getrandom::u64()?))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `end`, which is at least one.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True in so many cases of a hundred.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub(super) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        let index = self.below(among.len() as u64);
        &among[usize::try_from(index).expect("it is less than a slice's length")]
    }

    /// So many of these characters.
    pub(super) fn text(&mut self, of: &[char], length: usize) -> String {
        (0..length).map(|_| *self.pick(of)).collect()
    }
}
