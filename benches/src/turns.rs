//! Two things measured in turns.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long something took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// On the clock on the wall.
    pub wall: Duration,
    /// Of the processors, all threads together: a neighbour's load counts less in it.
    pub cpu: Duration,
}

impl Took {
    /// Times `work` on this thread.
    pub fn of<T>(work: impl FnOnce() -> T) -> (Took, T) {
        let (cpu, wall) = (cpu_of(ClockId::ThreadCPUTime), Instant::now());
        let result = work();
        (Took { wall: wall.elapsed(), cpu: cpu_of(ClockId::ThreadCPUTime).saturating_sub(cpu) }, result)
    }

    /// Times `work` by the processor time of the whole process: for work that a runtime spreads over threads.
    pub fn of_process<T>(work: impl FnOnce() -> T) -> (Took, T) {
        let (cpu, wall) = (cpu_of(ClockId::ProcessCPUTime), Instant::now());
        let result = work();
        (Took { wall: wall.elapsed(), cpu: cpu_of(ClockId::ProcessCPUTime).saturating_sub(cpu) }, result)
    }
}

fn cpu_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Times of a floor and of what stands on it, pair by pair.
#[derive(Debug, Default)]
pub struct Turns {
    pairs: Vec<(Took, Took)>,
}

impl Turns {
    /// Runs both on `state` once, each of which tells its time, and returns the time of the second.
    pub fn run<S: ?Sized>(
        &mut self,
        state: &mut S,
        floor: impl FnOnce(&mut S) -> Took,
        subject: impl FnOnce(&mut S) -> Took,
    ) -> Duration {
        let pair = (floor(state), subject(state));
        self.pairs.push(pair);
        pair.1.wall
    }

    /// The medians of the floor's times.
    pub fn floor(&self) -> Took {
        medians(self.pairs.iter().map(|pair| pair.0))
    }

    /// The medians of the subject's times.
    pub fn subject(&self) -> Took {
        medians(self.pairs.iter().map(|pair| pair.1))
    }

    /// The median over the pairs of the subject's time divided by the floor's: on the wall, and of the processors.
    pub fn ratio(&self) -> (f64, f64) {
        let of = |time: fn(&Took) -> Duration| {
            let ratio =
                |(floor, subject): &(Took, Took)| time(subject).as_secs_f64() / time(floor).as_secs_f64().max(1e-12);
            let mut ratios: Vec<f64> = self.pairs.iter().map(ratio).collect();
            ratios.sort_by(f64::total_cmp);
            ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
        };
        (of(|took| took.wall), of(|took| took.cpu))
    }
}

fn medians(times: impl Iterator<Item = Took>) -> Took {
    let (mut wall, mut cpu): (Vec<_>, Vec<_>) = times.map(|took| (took.wall, took.cpu)).unzip();
    wall.sort();
    cpu.sort();
    let median = |times: &[Duration]| times.get(times.len() / 2).copied().unwrap_or_default();
    Took { wall: median(&wall), cpu: median(&cpu) }
}
