//! How commits end: known, unknown, and left to others.

use std::sync::Arc;

use logtide_model::Ts;

use super::cluster::{Cluster, Fault};
use crate::client::{Client, ClientError, Prewritten, Retry, TxnOptions};
use crate::rpc::Command;

fn begin(client: &Client, options: TxnOptions, keys: &[&str]) -> crate::client::Txn {
    let mut txn = client.begin_with(options).unwrap();
    keys.iter().for_each(|key| txn.put(*key, "new"));
    txn
}

fn prewrite(client: &Client, options: TxnOptions, keys: &[&str]) -> Prewritten {
    begin(client, options, keys).prewrite().unwrap()
}

fn count(cluster: &Cluster) -> usize {
    cluster.pairs().len()
}

const TWO_PHASES: TxnOptions =
    TxnOptions { pessimistic: false, async_commit: false, one_pc: false, lock_ttl_ms: 3000, batch_bytes: 1 << 18 };
const ASYNC: TxnOptions = TxnOptions { async_commit: true, ..TWO_PHASES };
const ONE_PC: TxnOptions = TxnOptions { one_pc: true, ..TWO_PHASES };

#[test]
fn a_lost_answer_is_asked_for_again() {
    for options in [TWO_PHASES, ASYNC, ONE_PC] {
        let cluster = Cluster::new(&["b"]);
        let client = cluster.client(10);
        // Every command is applied twice.
        let mut seen: Option<Command> = None;
        cluster.set_faults(move |command| {
            let again = seen.as_ref() == Some(command);
            seen = (!again).then(|| command.clone());
            (!again).then_some(Fault::AnswerLost)
        });
        let commit_ts = begin(&client, options, &["a"]).commit().unwrap();
        assert_eq!(client.snapshot(commit_ts).get(b"a").unwrap(), Some("new".into()), "{options:?}");
        assert_eq!(client.snapshot(commit_ts.prev()).get(b"a").unwrap(), None, "{options:?}");
        begin(&client, options, &["a", "c"]).commit().unwrap();
        assert_eq!((count(&cluster), cluster.locks()), (2, 0));
    }
}

#[test]
fn who_gives_up_after_a_lost_commit_does_not_know() {
    for (applied, fault) in [(true, Fault::AnswerLost), (false, Fault::ProposalLost)] {
        let cluster = Cluster::new(&[]);
        let client = cluster.client(2);
        let lost = fault.clone();
        cluster.set_faults(move |command| matches!(command, Command::Commit { .. }).then(|| lost.clone()));
        let outcome = begin(&client, TWO_PHASES, &["a"]).commit();
        assert!(matches!(outcome, Err(ClientError::Undetermined { .. })), "{outcome:?}");
        cluster.advance(10_000);
        assert_eq!(count(&cluster), usize::from(applied));

        let cluster = Cluster::new(&[]);
        let lost = fault;
        cluster.set_faults(move |command| matches!(command, Command::Prewrite(_)).then(|| lost.clone()));
        let outcome = begin(&cluster.client(2), ONE_PC, &["a"]).commit();
        assert!(matches!(outcome, Err(ClientError::Undetermined { .. })), "{outcome:?}");
        assert_eq!(count(&cluster), usize::from(applied));
    }
}

#[test]
fn who_gives_up_before_the_commit_knows() {
    let cluster = Cluster::new(&[]);
    let client = cluster.client(2);
    cluster.set_faults(|command| matches!(command, Command::Prewrite(_)).then_some(Fault::AnswerLost));
    let outcome = begin(&client, TWO_PHASES, &["a"]).commit();
    assert!(matches!(outcome, Err(ClientError::GaveUp { attempts: 3, .. })), "{outcome:?}");
    cluster.set_faults(|command| matches!(command, Command::Commit { .. }).then_some(Fault::Busy));
    let outcome = begin(&client, TWO_PHASES, &["b"]).commit();
    assert!(matches!(outcome, Err(ClientError::GaveUp { .. })), "{outcome:?}");
    cluster.advance(10_000);
    assert_eq!((count(&cluster), cluster.locks()), (0, 0));
}

#[test]
fn an_undecided_transaction_holds_writers_until_its_time_is_over() {
    let cluster = Cluster::new(&["b"]);
    let client = cluster.client(2);
    drop(prewrite(&client, TWO_PHASES, &["a", "c"]));
    assert_eq!(cluster.locks(), 2);
    let outcome = begin(&client, TWO_PHASES, &["c"]).commit();
    assert!(matches!(outcome, Err(ClientError::GaveUp { .. })), "{outcome:?}");
    // Readers do not wait: they push its commit ts.
    let ts = client.timestamp().unwrap();
    assert_eq!(client.snapshot(ts).scan(b"", b"", 9).unwrap(), []);
    cluster.advance(4000);
    begin(&client, TWO_PHASES, &["c"]).commit().unwrap();
    assert_eq!(count(&cluster), 1);
    assert_eq!(cluster.locks(), 0);
}

#[test]
fn a_transaction_that_was_pushed_commits_above_its_readers() {
    let cluster = Cluster::new(&[]);
    let client = cluster.client(2);
    let prewritten = prewrite(&client, TWO_PHASES, &["a"]);
    let ts = client.timestamp().unwrap();
    assert_eq!(client.snapshot(ts).get(b"a").unwrap(), None);
    let commit_ts = prewritten.commit().unwrap();
    assert!(commit_ts > ts);
    assert_eq!(client.snapshot(ts).get(b"a").unwrap(), None);
    assert_eq!(client.snapshot(commit_ts).get(b"a").unwrap(), Some("new".into()));
}

#[test]
fn a_committed_primary_commits_the_rest() {
    let cluster = Cluster::new(&["b"]);
    let client = cluster.client(2);
    let mut prewritten = prewrite(&client, TWO_PHASES, &["a", "c"]);
    assert_eq!(prewritten.decided(), None);
    let commit_ts = prewritten.commit_primary().unwrap();
    assert_eq!((prewritten.decided(), prewritten.primary()), (Some(commit_ts), &b"a"[..]));
    assert!(prewritten.rollback().is_err());
    assert_eq!(cluster.locks(), 1);
    assert_eq!(client.snapshot(commit_ts).get(b"c").unwrap(), Some("new".into()));
    assert_eq!(cluster.locks(), 0, "the reader has resolved it");
}

#[test]
fn async_commit_is_decided_by_its_locks() {
    let cluster = Cluster::new(&["b"]);
    let client = cluster.client(2);
    let prewritten = prewrite(&client, ASYNC, &["a", "c"]);
    let commit_ts = prewritten.decided().unwrap();
    drop(prewritten);
    assert_eq!(cluster.locks(), 2);
    let ts = client.timestamp().unwrap();
    assert!(ts >= commit_ts);
    assert!(client.snapshot(ts).get(b"c").is_err(), "its client may be about to end it");
    cluster.advance(4000);
    assert_eq!(client.snapshot(commit_ts).get(b"c").unwrap(), Some("new".into()));
    assert_eq!(client.snapshot(commit_ts.prev()).get(b"a").unwrap(), None);
    assert_eq!(cluster.locks(), 0);
}

#[test]
fn async_commit_is_above_a_reader_between_its_prewrites() {
    let cluster = Cluster::new(&["b"]);
    let reader = cluster.client(2);
    let mut prewrites = 0;
    cluster.set_faults(move |command| {
        prewrites += u32::from(matches!(command, Command::Prewrite(_)));
        (prewrites == 2).then_some(Fault::Busy)
    });
    // Somebody reads while the client waits to prewrite its second key.
    let (others, undisturbed) = (reader.clone(), cluster.clone());
    let hook = move |_: &Retry<'_>| {
        undisturbed.set_faults(|_| None);
        (0..10).for_each(|_| drop(others.timestamp()));
        others.snapshot(others.timestamp().unwrap()).get(b"c").unwrap();
        true
    };
    let client = Client::with_retry(Arc::new(cluster.clone()), Arc::new(hook));
    let prewritten = prewrite(&client, ASYNC, &["a", "c"]);
    let commit_ts = prewritten.decided().unwrap();
    assert!(commit_ts > prewritten.start_ts().next().next().next());
    drop(prewritten);
    cluster.advance(4000);
    for key in [&b"a"[..], b"c"] {
        assert_eq!(reader.snapshot(commit_ts.prev()).get(key).unwrap(), None);
        assert_eq!(reader.snapshot(commit_ts).get(key).unwrap(), Some("new".into()));
    }
}

#[test]
fn async_commit_without_all_its_locks_is_rolled_back() {
    let cluster = Cluster::new(&["b"]);
    let client = cluster.client(2);
    cluster.set_faults(|command| match command {
        Command::Prewrite(p) if p.mutations[0].key == b"c" => Some(Fault::Busy),
        _ => None,
    });
    let outcome = begin(&client, ASYNC, &["a", "c"]).commit();
    assert!(matches!(outcome, Err(ClientError::Undetermined { .. })), "{outcome:?}");
    cluster.advance(4000);
    assert_eq!((count(&cluster), cluster.locks()), (0, 0));
}

#[test]
fn many_keys_commit_in_two_phases() {
    let cluster = Cluster::new(&[]);
    let client = cluster.client(2);
    let keys: Vec<String> = (0..300).map(|n| format!("k{n:03}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert!(prewrite(&client, ASYNC, &names[..256]).decided().is_some());
    cluster.advance(4000);
    let mut prewritten = prewrite(&client, ASYNC, &names);
    assert_eq!(prewritten.decided(), None);
    assert!(prewritten.commit_primary().unwrap() > Ts::ZERO);
}

#[test]
fn what_is_rolled_back_cannot_be_committed() {
    let cluster = Cluster::new(&[]);
    let client = cluster.client(2);
    let prewritten = prewrite(&client, TWO_PHASES, &["a"]);
    cluster.advance(4000);
    assert_eq!(count(&cluster), 0);
    assert!(matches!(prewritten.commit(), Err(ClientError::RolledBack { .. })));
    prewrite(&client, TWO_PHASES, &["a"]).rollback().unwrap();
    assert_eq!(cluster.locks(), 0);
}
