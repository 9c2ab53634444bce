//! How many bytes were really read from disk: what the rate limit is about.

use std::fmt::Debug;

use logtide_model::KvSnapshot;

use crate::RateLimiter;

/// Knows how much a thread has read from disk.
pub trait ReadCounter: Debug + Send + Sync {
    /// Bytes that the calling thread has read from disk since it began; `None` if that is not known here.
    fn read_bytes(&self) -> Option<u64>;
}

/// The counter of Linux: `read_bytes` of `/proc/thread-self/io`, which says what a thread made the block layer fetch
/// (proc_pid_io(5)). What is found in a cache, or on a file system without a block device, counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadIo;

impl ReadCounter for ThreadIo {
    fn read_bytes(&self) -> Option<u64> {
        parse(&std::fs::read_to_string("/proc/thread-self/io").ok()?)
    }
}

fn parse(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

/// Measures one scan: by the limiter's counter, else by that of the engine, else it takes every byte that an iterator
/// yields for one that was read.
pub(crate) struct Meter<'a> {
    limiter: &'a RateLimiter,
    snapshot: &'a dyn KvSnapshot,
    /// The counter as last seen.
    seen: Option<u64>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(limiter: &'a RateLimiter, snapshot: &'a dyn KvSnapshot) -> Self {
        let mut meter = Meter { limiter, snapshot, seen: None };
        meter.seen = meter.count();
        meter
    }

    fn count(&self) -> Option<u64> {
        let counter = self.limiter.counter();
        counter.and_then(|counter| counter.read_bytes()).or_else(|| self.snapshot.read_bytes())
    }

    /// Bytes read since the last call, while `iterated` bytes came out of iterators.
    pub(crate) fn since(&mut self, iterated: u64) -> u64 {
        match (self.count(), self.seen) {
            (Some(now), Some(before)) => {
                self.seen = Some(now);
                now.saturating_sub(before)
            }
            (now, _) => {
                self.seen = now;
                iterated
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_kernel_is_read() {
        let io = "rchar: 323934931\nwchar: 323929600\nsyscr: 632687\nsyscw: 632675\nread_bytes: 4096\nwrite_bytes: 0\n";
        assert_eq!(parse(io), Some(4096));
        assert_eq!((parse("rchar: 1\n"), parse("read_bytes: many\n"), parse("")), (None, None, None));
    }

    #[test]
    fn a_counter_never_goes_back() {
        let before = ThreadIo.read_bytes();
        let text = std::fs::read_to_string("/proc/thread-self/io");
        assert_eq!(before.is_some(), text.is_ok_and(|io| io.contains("read_bytes:")), "wherever the kernel tells it");
        assert!(ThreadIo.read_bytes() >= before);
    }
}
