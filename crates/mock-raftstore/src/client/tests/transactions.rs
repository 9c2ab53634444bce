//! What transactions see and leave, on a cluster that behaves, and on one that does not.

use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::cluster::{Cluster, Fault};
use crate::client::{Client, ClientError, TxnOptions};
use crate::rpc::Command;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Bytes)> {
    pairs.iter().map(|(k, v)| (k.as_bytes().to_vec(), Bytes::copy_from_slice(v.as_bytes()))).collect()
}

fn put(client: &Client, options: TxnOptions, writes: &[(&str, &str)]) -> logtide_model::Ts {
    let mut txn = client.begin_with(options).unwrap();
    writes.iter().for_each(|(key, value)| txn.put(*key, value.to_string()));
    txn.commit().unwrap()
}

fn all_options() -> Vec<TxnOptions> {
    let mut all = Vec::new();
    for n in 0..8 {
        let (pessimistic, async_commit, one_pc) = (n & 1 > 0, n & 2 > 0, n & 4 > 0);
        all.push(TxnOptions { pessimistic, async_commit, one_pc, ..TxnOptions::default() });
    }
    all
}

#[test]
fn transactions_span_regions() {
    for options in all_options() {
        let cluster = Cluster::new(&["c", "e"]);
        let client = cluster.client(0);
        let writes = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")];
        let first = put(&client, options, &writes);
        let mut txn = client.begin_with(options).unwrap();
        txn.delete("b");
        txn.put("d", "new");
        txn.put("f", "6");
        assert_eq!(txn.get(b"b").unwrap(), None, "it sees its own writes");
        assert_eq!(txn.scan(b"b", b"e", 2).unwrap(), pairs(&[("c", "3"), ("d", "new")]));
        txn.commit().unwrap();
        assert_eq!(cluster.pairs(), pairs(&[("a", "1"), ("c", "3"), ("d", "new"), ("e", "5"), ("f", "6")]));
        assert_eq!(client.snapshot(first).scan(b"", b"", 99).unwrap(), pairs(&writes), "the past stays");
        assert_eq!(client.snapshot(first).scan(b"b", b"e", 2).unwrap(), pairs(&writes[1..3]));
        assert_eq!(client.snapshot(first.prev()).scan(b"", b"", 99).unwrap(), []);
        assert_eq!(cluster.locks(), 0, "{options:?}");
    }
}

#[test]
fn a_transaction_that_changes_nothing_sends_nothing() {
    let cluster = Cluster::new(&[]);
    let txn = cluster.client(0).begin().unwrap();
    let start_ts = txn.start_ts();
    assert_eq!(txn.commit().unwrap(), start_ts);
    assert!(cluster.take_log().is_empty());
}

#[test]
fn large_transactions_go_in_batches() {
    let cluster = Cluster::new(&["k5"]);
    let client = cluster.client(0);
    let mut txn = client.begin_with(TxnOptions { batch_bytes: 1000, one_pc: true, ..TxnOptions::default() }).unwrap();
    for n in 0..10 {
        txn.put(format!("k{n}"), vec![b'x'; 300]);
    }
    txn.commit().unwrap();
    let sizes = cluster.take_log().into_iter().filter_map(|command| match command {
        Command::Prewrite(p) => Some(p.mutations.len()),
        _ => None,
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [3, 2, 3, 2]);
    assert_eq!(cluster.pairs().len(), 10);
    // More keys than a command takes, and a value larger than one.
    let mut txn = client.begin().unwrap();
    (0..2500).for_each(|n| txn.put(format!("m{n:05}"), "x"));
    txn.put("n", vec![b'x'; 1 << 20]);
    txn.commit().unwrap();
    assert_eq!(cluster.pairs().len(), 2511);
}

#[test]
fn one_phase_needs_one_region() {
    let cluster = Cluster::new(&[]);
    let client = cluster.client(3);
    let options = TxnOptions { one_pc: true, ..TxnOptions::default() };
    put(&client, options, &[("a", "1"), ("z", "1")]);
    assert_eq!(cluster.take_log().len(), 1);
    // The region splits while the request is on its way.
    let mut split = Some(Fault::Split(b"m".to_vec()));
    cluster.set_faults(move |_| split.take());
    put(&client, options, &[("a", "2"), ("z", "2")]);
    assert!(cluster.take_log().len() >= 4);
    assert_eq!(cluster.pairs(), pairs(&[("a", "2"), ("z", "2")]));
}

#[test]
fn the_later_of_two_optimistic_writers_loses() {
    let cluster = Cluster::new(&["k"]);
    let client = cluster.client(0);
    let (mut a, mut b) = (client.begin().unwrap(), client.begin().unwrap());
    a.put("k", "a");
    b.put("j", "b");
    b.put("k", "b");
    a.commit().unwrap();
    assert!(matches!(b.commit(), Err(ClientError::RolledBack { .. })));
    assert_eq!((cluster.pairs(), cluster.locks()), (pairs(&[("k", "a")]), 0));
    // A key that was only locked conflicts too.
    let (mut a, mut b) = (client.begin().unwrap(), client.begin().unwrap());
    assert_eq!(a.lock(&[b"k"]).unwrap(), [Some("a".into())]);
    a.put("x", "a");
    b.put("k", "b");
    b.commit().unwrap();
    assert!(matches!(a.commit(), Err(ClientError::RolledBack { .. })));
}

#[test]
fn pessimistic_locks_read_the_newest_and_keep_it() {
    let cluster = Cluster::new(&["c"]);
    let client = cluster.client(3);
    let options = TxnOptions { pessimistic: true, ..TxnOptions::default() };
    put(&client, options, &[("a", "1"), ("d", "1")]);
    let mut txn = client.begin_with(options).unwrap();
    put(&client, TxnOptions::default(), &[("a", "2")]);
    assert_eq!(txn.lock(&[b"d", b"a"]).unwrap(), [Some("1".into()), Some("2".into())]);
    assert_eq!(txn.get(b"a").unwrap(), Some("1".into()), "a plain read is as of the start");
    let mut other = client.begin_with(options).unwrap();
    assert!(matches!(other.lock(&[b"a"]), Err(ClientError::GaveUp { .. })), "it is locked");
    other.rollback().unwrap();
    txn.put("a", "3");
    txn.commit().unwrap();
    assert_eq!((cluster.pairs(), cluster.locks()), (pairs(&[("a", "3"), ("d", "1")]), 0));
    let mut gone = client.begin_with(options).unwrap();
    gone.lock(&[b"a", b"d"]).unwrap();
    gone.rollback().unwrap();
    assert_eq!(cluster.locks(), 0);
}

/// One transfer between two accounts.
fn transfer(client: &Client, rng: &mut SmallRng, accounts: u8, options: TxnOptions) -> Result<(), ClientError> {
    let (a, b) = (rng.random_range(0..accounts), rng.random_range(1..accounts));
    let (a, b) = ([b'a', a], [b'a', (a + b) % accounts]);
    let mut txn = client.begin_with(options)?;
    let found = if options.pessimistic {
        txn.lock(&[&a, &b])
    } else {
        txn.get(&a).and_then(|from| Ok(vec![from, txn.get(&b)?]))
    };
    let money = |value: &Option<Bytes>| std::str::from_utf8(value.as_ref().unwrap()).unwrap().parse::<i64>().unwrap();
    let (from, to) = match found {
        Ok(found) => (money(&found[0]), money(&found[1])),
        Err(error) => {
            let _ = txn.rollback();
            return Err(error);
        }
    };
    txn.put(a, (from - 1).to_string());
    txn.put(b, (to + 1).to_string());
    txn.commit().map(|_| ())
}

fn fill(client: &Client, accounts: u8) {
    let mut txn = client.begin().unwrap();
    (0..accounts).for_each(|n| txn.put(vec![b'a', n], "100"));
    txn.commit().unwrap();
}

fn sum(cluster: &Cluster) -> i64 {
    cluster.advance(100_000);
    cluster.pairs().iter().map(|(_, v)| std::str::from_utf8(v).unwrap().parse::<i64>().unwrap()).sum()
}

fn random_fault(rng: &mut SmallRng, accounts: u8) -> Option<Fault> {
    match rng.random_range(0..20) {
        0 => Some(Fault::Busy),
        1 => Some(Fault::Moved),
        2 => Some(Fault::Split(vec![b'a', rng.random_range(0..accounts)])),
        3 => Some(Fault::AnswerLost),
        4 => Some(Fault::ProposalLost),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn bank_transfers_survive_splits_moves_and_lost_answers(seed: u64, attempts in 2u32..30) {
        let run = || {
            let mut rng = SmallRng::seed_from_u64(seed);
            let cluster = Cluster::new(&[]);
            fill(&cluster.client(0), 10);
            let mut faults = SmallRng::seed_from_u64(seed + 1);
            cluster.set_faults(move |_| random_fault(&mut faults, 10));
            let client = cluster.client(attempts);
            for n in 0..60 {
                let options = all_options()[n % 8];
                match transfer(&client, &mut rng, 10, options) {
                    Ok(()) | Err(ClientError::RolledBack { .. } | ClientError::GaveUp { .. } | ClientError::Undetermined { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                cluster.advance(rng.random_range(0..2000));
            }
            let sum = sum(&cluster);
            (sum, cluster.data_locks(), cluster.pairs(), cluster.take_log())
        };
        let (sum, locks, pairs, log) = run();
        prop_assert_eq!((sum, locks), (1000, 0));
        // Driven by one thread, it does the same things again.
        let again = run();
        prop_assert_eq!((pairs, log), (again.2, again.3));
    }
}

#[test]
fn bank_transfers_of_many_threads_keep_the_sum() {
    let cluster = Cluster::new(&["a\x05", "a\x0a"]);
    fill(&cluster.client(0), 15);
    let committed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u64)
            .map(|n| {
                let cluster = &cluster;
                scope.spawn(move || {
                    let client = cluster.client(u32::MAX - 1);
                    let mut rng = SmallRng::seed_from_u64(n);
                    let options = |n: usize| TxnOptions { lock_ttl_ms: 1_000_000, ..all_options()[n % 8] };
                    (0..100).filter(|n| transfer(&client, &mut rng, 15, options(*n)).is_ok()).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(committed > 50, "{committed}");
    assert_eq!(sum(&cluster), 1500);
}
