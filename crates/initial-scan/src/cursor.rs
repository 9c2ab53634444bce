//! Walks over a column family at the pace that the limiter allows.

use std::cmp::Ordering;
use std::time::Duration;

use logtide_model::{KvIter, KvSnapshot, Ts, append_ts, truncate_ts};

use crate::meter::Meter;
use crate::{RateLimiter, ScanError, Waiter};

/// Bytes read between two looks at the limiter and at the counter (a look at procfs takes some 10 µs).
const QUANTUM: u64 = 128 << 10;
/// A seek may read a block for little: it counts so much towards the next look.
const SEEK: u64 = 4 << 10;
/// The longest uninterrupted wait: a limit that was raised is noticed after it.
const SLICE: Duration = Duration::from_millis(10);
/// Steps before a seek is cheaper (TiKV's cursors use the same figure).
const NEAR: usize = 8;

/// Counts what is read, and waits when that was too much; ends on cancellation.
pub(crate) struct Pace<'a> {
    limiter: &'a RateLimiter,
    waiter: &'a dyn Waiter,
    meter: Meter<'a>,
    /// Bytes of keys and values since the last look.
    iterated: u64,
    /// What counts towards the next look.
    work: u64,
    pub(crate) read_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) seeks: u64,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(limiter: &'a RateLimiter, waiter: &'a dyn Waiter, snapshot: &'a dyn KvSnapshot) -> Self {
        let meter = Meter::new(limiter, snapshot);
        Pace { limiter, waiter, meter, iterated: 0, work: 0, read_bytes: 0, disk_bytes: 0, seeks: 0 }
    }

    /// Ends the scan if somebody asked for it.
    pub(crate) fn check(&self) -> Result<(), ScanError> {
        if self.waiter.is_cancelled() { Err(ScanError::Cancelled) } else { Ok(()) }
    }

    /// Waits a little; ends on cancellation.
    pub(crate) fn pause(&self, at_most: Duration) -> Result<(), ScanError> {
        self.waiter.wait(at_most);
        self.check()
    }

    /// Counts what was read, and waits when it was too much.
    pub(crate) fn read(&mut self, bytes: usize) -> Result<(), ScanError> {
        self.check()?;
        self.read_bytes += bytes as u64;
        self.iterated += bytes as u64;
        self.work += bytes as u64;
        if self.work < QUANTUM { Ok(()) } else { self.settle() }
    }

    fn charge(&mut self) {
        self.work = 0;
        let bytes = self.meter.since(std::mem::take(&mut self.iterated));
        self.disk_bytes += bytes;
        self.limiter.charge(bytes, self.waiter.now());
    }

    /// Charges what was read so far, and waits as long as the limiter says.
    fn settle(&mut self) -> Result<(), ScanError> {
        self.charge();
        loop {
            let delay = self.limiter.delay(self.waiter.now());
            if delay.is_zero() {
                return Ok(());
            }
            self.pause(delay.min(SLICE))?;
        }
    }

    /// Charges the rest, without waiting: nothing more is read.
    pub(crate) fn finish(&mut self) {
        self.charge();
    }
}

/// An iterator that is paced, and that seeks only where stepping would take longer.
pub(crate) struct Cursor<'a> {
    iter: Box<dyn KvIter + 'a>,
    /// True while it stands on an entry.
    pub(crate) valid: bool,
    target: Vec<u8>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(iter: Box<dyn KvIter + 'a>) -> Self {
        Cursor { iter, valid: false, target: Vec::new() }
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.iter.key()
    }

    pub(crate) fn value(&self) -> &[u8] {
        self.iter.value()
    }

    pub(crate) fn next(&mut self, pace: &mut Pace<'_>) -> Result<(), ScanError> {
        self.valid = self.iter.next()?;
        self.count(pace)
    }

    fn seek_target(&mut self, pace: &mut Pace<'_>) -> Result<(), ScanError> {
        pace.seeks += 1;
        pace.work += SEEK;
        self.valid = self.iter.seek(&self.target)?;
        self.count(pace)
    }

    fn count(&self, pace: &mut Pace<'_>) -> Result<(), ScanError> {
        pace.read(if self.valid { self.iter.key().len() + self.iter.value().len() } else { 0 })
    }

    /// Moves behind the versions of the user key that it stands on.
    pub(crate) fn skip_versions(&mut self, pace: &mut Pace<'_>) -> Result<(), ScanError> {
        let Ok(user) = truncate_ts(self.iter.key()) else { return self.next(pace) };
        self.target.clear();
        self.target.extend_from_slice(user);
        let len = self.target.len();
        for _ in 0..NEAR {
            self.next(pace)?;
            if !self.valid || truncate_ts(self.iter.key()) != Ok(&self.target[..len]) {
                return Ok(());
            }
        }
        append_ts(&mut self.target, Ts::ZERO);
        self.seek_target(pace)?;
        while self.valid && truncate_ts(self.iter.key()) == Ok(&self.target[..len]) {
            self.next(pace)?;
        }
        Ok(())
    }

    /// Moves to `user ++ ts`; true if there is such an entry.
    pub(crate) fn find(&mut self, user: &[u8], ts: Ts, pace: &mut Pace<'_>) -> Result<bool, ScanError> {
        self.target.clear();
        self.target.extend_from_slice(user);
        append_ts(&mut self.target, ts);
        for _ in 0..NEAR {
            match self.valid.then(|| self.iter.key().cmp(&self.target)) {
                Some(Ordering::Equal) => return Ok(true),
                Some(Ordering::Less) => self.next(pace)?,
                // Behind the target (versions of a key may commit in another order than they began), or nowhere.
                Some(Ordering::Greater) | None => break,
            }
        }
        self.seek_target(pace)?;
        Ok(self.valid && self.iter.key() == self.target)
    }
}
