//! A restore ends in whatever sink it is given, with the same state, whether threads or the caller do the work; and a
//! sink sees all of a restore, in order, or nothing of its end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod lab;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lab::history::Cluster;
use lab::{chain, difference, restore_in_memory};
use logtide_model::{Cf, Class, Diagnose, KeyRange, Ts, encode_raw_key};
use logtide_restore::{Finish, Made, RestoreError, RestoreOptions, Silent, Sink, SinkPart, Window, restore_to};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_restore_into_memory_is_the_state_at_t(seed: u64, steps in 20u64..400, fraction in 0.0f64..=1.0) {
        let history = Cluster::run(seed, steps);
        let span = history.checkpoint - history.start;
        for at in [history.start + (span as f64 * fraction) as u64, history.checkpoint] {
            let with = |threads| {
                restore_in_memory(&history.storage, Some(at), |options| options.threads = threads)
                    .unwrap_or_else(|e| panic!("{seed}: {}", chain(&e)))
            };
            let (summary, state) = with(Some(0));
            let (by_threads, same) = with(Some(2));
            prop_assert_eq!(&state, &same);
            prop_assert_eq!(summary.records, by_threads.records);
            prop_assert_eq!((summary.records.writes, summary.records.values), (state.writes.len() as u64, state.values.len() as u64));
            for ts in [at, at - (at - history.start) / 3, at - (at - history.start) / 2, history.start] {
                prop_assert_eq!(difference(&history.at(ts), &state.state_at(Ts::new(ts)).unwrap()), lab::NOTHING);
            }
        }
    }
}

#[test]
fn a_dump_of_memory_keeps_to_its_range() {
    let history = Cluster::run(3, 300);
    let (_, state) = restore_in_memory(&history.storage, None, |_| ()).unwrap();
    let want = history.at(history.checkpoint);
    let keys: Vec<_> = want.keys().cloned().collect();
    let (from, to) = (&keys[keys.len() / 3], &keys[keys.len() * 2 / 3]);
    for (range, inside) in [
        (KeyRange::new(encode_raw_key(from), encode_raw_key(to)), keys.len() * 2 / 3 - keys.len() / 3),
        (KeyRange::new(encode_raw_key(to), encode_raw_key(from)), 0),
        (KeyRange::new(encode_raw_key(to), b"".to_vec()), keys.len() - keys.len() * 2 / 3),
    ] {
        let mut seen = Vec::new();
        let summary = state.dump(Ts::new(history.checkpoint), &range, &mut |key, value| {
            assert_eq!(want[key], value);
            seen.push(key.to_vec());
            Ok(())
        });
        assert_eq!((seen.len(), summary.unwrap().keys as usize), (inside, inside));
        assert!(seen.is_sorted());
    }
}

/// What a sink saw.
#[derive(Default)]
struct Seen {
    windows: Mutex<Vec<Window>>,
    parts: Mutex<Vec<(usize, KeyRange)>>,
    records: AtomicUsize,
    finished: AtomicBool,
    dropped: AtomicBool,
}

/// Fails at the n-th record, or in the end.
struct Fussy {
    seen: Arc<Seen>,
    fails_at: usize,
}

struct FussyPart {
    seen: Arc<Seen>,
    range: KeyRange,
    last: Option<(Cf, Vec<u8>)>,
    fails_at: usize,
}

fn refusal(doing: &str) -> RestoreError {
    RestoreError::Sink { doing: doing.into(), source: "the engine is full".into() }
}

impl Sink for Fussy {
    type Part = FussyPart;
    type Output = &'static str;

    fn begin(&mut self, window: &Window) -> Result<(), RestoreError> {
        self.seen.windows.lock().unwrap().push(window.clone());
        Ok(())
    }

    fn part(&mut self, index: usize, range: KeyRange) -> Result<FussyPart, RestoreError> {
        self.seen.parts.lock().unwrap().push((index, range.clone()));
        Ok(FussyPart { seen: self.seen.clone(), range, last: None, fails_at: self.fails_at })
    }

    fn finish(self, done: Finish<'_, FussyPart>) -> Result<&'static str, RestoreError> {
        assert!(done.parts.is_sorted(), "parts in the order of their index: {:?}", done.parts);
        (done.told)(done.summary.sst_bytes)?;
        if self.fails_at == usize::MAX - 1 {
            return Err(refusal("making it visible"));
        }
        self.seen.finished.store(true, Ordering::SeqCst);
        Ok("all of it")
    }
}

impl Drop for Fussy {
    fn drop(&mut self) {
        self.seen.dropped.store(true, Ordering::SeqCst);
    }
}

impl SinkPart for FussyPart {
    type Done = Vec<u8>;

    fn put(&mut self, cf: Cf, key: &[u8], _: &[u8]) -> Result<(), RestoreError> {
        assert!(self.range.contains(key));
        if let Some((of, last)) = &self.last {
            let ordered = if *of == cf { &last[..] < key } else { (*of, cf) == (Cf::Write, Cf::Default) };
            assert!(ordered, "{of:?} {last:?}, then {cf:?} {key:?}");
        }
        self.last = Some((cf, key.to_vec()));
        let before = self.seen.records.fetch_add(1, Ordering::SeqCst);
        if before == self.fails_at { Err(refusal("putting a record")) } else { Ok(()) }
    }

    fn finish(self) -> Result<(Vec<u8>, Made), RestoreError> {
        Ok((self.range.start.to_vec(), Made { files: 1, bytes: 10 }))
    }
}

#[test]
fn a_sink_gets_disjoint_ordered_parts_and_one_end() {
    let history = Cluster::run(21, 400);
    for threads in [Some(0), Some(2), Some(7)] {
        let seen = Arc::new(Seen::default());
        let sink = Fussy { seen: seen.clone(), fails_at: usize::MAX };
        let options = RestoreOptions { threads, ..RestoreOptions::for_sink() };
        let (summary, output) = lab::block_on(restore_to(&history.storage, &options, sink, &Silent)).unwrap();
        assert_eq!(output, "all of it");
        let parts = seen.parts.lock().unwrap();
        assert_eq!((summary.ssts, summary.sst_bytes), (parts.len() as u64, 10 * parts.len() as u64));
        assert_eq!(parts.len(), threads.unwrap().max(1), "as many parts as threads");
        assert!(parts.iter().enumerate().all(|(i, (index, _))| i == *index));
        assert!(parts.windows(2).all(|pair| pair[0].1.end == pair[1].1.start));
        assert!(parts[0].1.start.is_empty() && parts[parts.len() - 1].1.end.is_empty());
        let windows = seen.windows.lock().unwrap();
        assert_eq!((windows.len(), windows[0].upto.get()), (1, history.checkpoint));
        assert_eq!(seen.records.load(Ordering::SeqCst) as u64, summary.records.writes + summary.records.values);
    }
}

#[test]
fn what_a_sink_says_ends_the_restore_and_nothing_is_finished() {
    let history = Cluster::run(21, 200);
    for (threads, fails_at, doing) in [
        (Some(0), 0, "putting a record"),
        (Some(2), 50, "putting a record"),
        (None, 50, "putting a record"),
        (Some(2), usize::MAX - 1, "making it visible"),
    ] {
        let seen = Arc::new(Seen::default());
        let sink = Fussy { seen: seen.clone(), fails_at };
        let options = RestoreOptions { threads, ..RestoreOptions::for_sink() };
        let error = lab::block_on(restore_to(&history.storage, &options, sink, &Silent)).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(doing) && text.contains("the engine is full"), "{text}");
        assert_eq!(error.class(), Class::Fatal);
        assert!(!error.remedy().is_empty());
        assert!(!seen.finished.load(Ordering::SeqCst) && seen.dropped.load(Ordering::SeqCst));
    }
}

/// A simulator runs on one thread: no other one may take part, and the same restore is the same every time.
#[test]
fn without_threads_all_happens_on_the_callers() {
    let history = Cluster::run(5, 300);
    let options = RestoreOptions { threads: Some(0), ..RestoreOptions::for_sink() };
    // Other tests of this process have threads too: those of this runtime have a name.
    let named = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.starts_with("restore-block"))
            .count()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().thread_name("restore-block").build().unwrap();
    let once =
        || runtime.block_on(restore_to(&history.storage, &options, logtide_restore::MemorySink, &Silent)).unwrap();
    let (first, state) = once();
    for _ in 0..5 {
        let (summary, again) = once();
        assert_eq!(again, state);
        assert_eq!((summary.records, summary.peak_memory), (first.records, first.peak_memory));
    }
    assert_eq!(named(), 0, "a blocking thread was started");
    let with = RestoreOptions { threads: None, ..RestoreOptions::for_sink() };
    runtime.block_on(restore_to(&history.storage, &with, logtide_restore::MemorySink, &Silent)).unwrap();
    assert!(named() > 0, "the count would show a blocking thread");
}
