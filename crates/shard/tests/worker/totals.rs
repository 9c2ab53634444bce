//! What came of a history, and how often things happened in it.

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) lies: Vec<String>,
    pub(crate) caught_up: bool,
    pub(crate) totals: Totals,
}

#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) facts: usize,
    pub(crate) seals: usize,
    pub(crate) commits: usize,
    pub(crate) splits: usize,
    pub(crate) merges: usize,
    pub(crate) lost: usize,
    /// Regions that were caught up from the log.
    pub(crate) replays: usize,
    pub(crate) gaps: u64,
    pub(crate) releases: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.facts += other.facts;
        self.seals += other.seals;
        self.commits += other.commits;
        self.splits += other.splits;
        self.merges += other.merges;
        self.lost += other.lost;
        self.replays += other.replays;
        self.gaps += other.gaps;
        self.releases += other.releases;
    }
}

/// SplitMix64, 32 bits of it.
pub(crate) fn next_random(seed: &mut u64) -> u32 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 24) as u32
}
