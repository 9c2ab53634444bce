//! Cluster timestamps.

use std::fmt;
use std::str::FromStr;

/// Bits of a timestamp that hold the logical counter (TiDB's timestamp oracle: 18).
const LOGICAL_BITS: u32 = 18;

/// A cluster timestamp: `physical_ms << 18 | logical`, as TiDB's timestamp oracle hands them out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ts(u64);

impl Ts {
    /// The smallest timestamp; means "nothing yet" where a checkpoint is expected.
    pub const ZERO: Ts = Ts(0);
    /// The largest timestamp.
    pub const MAX: Ts = Ts(u64::MAX);

    /// A timestamp from its 64-bit form.
    pub const fn new(ts: u64) -> Self {
        Ts(ts)
    }

    /// Puts a timestamp together. `logical` above 18 bits carries into the physical part.
    pub const fn compose(physical_ms: u64, logical: u64) -> Self {
        Ts((physical_ms << LOGICAL_BITS) + logical)
    }

    /// The 64-bit form.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch.
    pub const fn physical_ms(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }

    /// The counter within the millisecond.
    pub const fn logical(self) -> u64 {
        self.0 & ((1 << LOGICAL_BITS) - 1)
    }

    /// True for [`Ts::ZERO`].
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The next timestamp; [`Ts::MAX`] stays.
    pub const fn next(self) -> Self {
        Ts(self.0.saturating_add(1))
    }

    /// The previous timestamp; [`Ts::ZERO`] stays.
    pub const fn prev(self) -> Self {
        Ts(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Ts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for Ts {
    fn from(ts: u64) -> Self {
        Ts(ts)
    }
}

impl FromStr for Ts {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Ts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composes_as_the_timestamp_oracle_does() {
        let ts = Ts::compose(1_760_000_150_000, 7);
        assert_eq!(ts.get(), 1_760_000_150_000 * 262_144 + 7);
        assert_eq!((ts.physical_ms(), ts.logical()), (1_760_000_150_000, 7));
    }

    #[test]
    fn ends_saturate() {
        assert_eq!(Ts::ZERO.prev(), Ts::ZERO);
        assert_eq!(Ts::MAX.next(), Ts::MAX);
    }
}
