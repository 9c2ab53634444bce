//! What every store must do.

use std::thread;
use std::time::Duration;

use logtide_coordinator::StoreError;
use logtide_coordinator::store::{Condition, Event, KeyValue, LeaseId, MAX_TXN_OPS, MAX_VALUE_BYTES, Txn, Watch};

use super::setup::Setup;

const AT_ONCE: Duration = Duration::ZERO;
const PATIENCE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(10);

fn put(setup: &Setup, key: &[u8], value: &[u8]) -> u64 {
    let outcome = setup.store().commit(Txn::new().put(key.to_vec(), value.to_vec())).unwrap();
    assert!(outcome.succeeded);
    outcome.revision
}

fn get(setup: &Setup, key: &[u8]) -> Option<KeyValue> {
    setup.store().get(key).unwrap()
}

fn exists(setup: &Setup, key: &[u8]) -> bool {
    get(setup, key).is_some()
}

/// Key, value (none for a delete) and revision.
type Seen = (Vec<u8>, Option<Vec<u8>>, u64);

fn seen(events: &[Event]) -> Vec<Seen> {
    let one = |event: &Event| match event {
        Event::Put(kv) => (kv.key.to_vec(), Some(kv.value.to_vec()), kv.mod_revision),
        Event::Delete { key, revision } => (key.to_vec(), None, *revision),
        Event::Reset { .. } => panic!("a reset"),
    };
    events.iter().map(one).collect()
}

pub(crate) fn keys_have_a_history(setup: &Setup) {
    let first = put(setup, b"k", b"1");
    put(setup, b"other", b"x");
    let second = put(setup, b"k", b"2");
    let kv = get(setup, b"k").unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, &kv.value[..]), (first, second, 2, &b"2"[..]));
    assert_eq!((first, second), (1, 3));
    setup.store().commit(Txn::new().delete("k")).unwrap();
    assert_eq!(get(setup, b"k"), None);
    let third = put(setup, b"k", b"3");
    let kv = get(setup, b"k").unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (third, third, 1, None));
}

pub(crate) fn any_bytes_are_a_key(setup: &Setup) {
    let keys: [&[u8]; 6] = [b"", b"/", b"a/../b", b"\0\xff\xfe//\n", &[0xff; 300], b"\xff\xff"];
    for key in keys {
        put(setup, key, key);
    }
    for key in keys {
        assert_eq!(get(setup, key).unwrap().value, key);
    }
    assert_eq!(setup.store().list(b"").unwrap().0.len(), keys.len());
    assert_eq!(setup.store().list(b"\xff").unwrap().0.len(), 2);
}

pub(crate) fn lists_are_by_prefix_in_order_at_one_revision(setup: &Setup) {
    for key in ["b/2", "b/1", "a", "b", "c", "b/1/x"] {
        put(setup, key.as_bytes(), b"");
    }
    let (found, revision) = setup.store().list(b"b/").unwrap();
    assert_eq!(found.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [&b"b/1"[..], b"b/1/x", b"b/2"]);
    assert_eq!(revision, 6);
    assert_eq!(setup.store().list(b"none").unwrap(), (vec![], 6));
}

pub(crate) fn conditions_decide_all_or_nothing(setup: &Setup) {
    let created = put(setup, b"k", b"1");
    let modified = put(setup, b"k", b"2");
    let k = || "k".into();
    let hold = [
        Condition::Absent("none".into()),
        Condition::CreateRevision(k(), created),
        Condition::ModRevision(k(), modified),
        Condition::Value(k(), "2".into()),
    ];
    let fail = [
        Condition::Absent(k()),
        Condition::CreateRevision(k(), modified),
        Condition::CreateRevision("none".into(), 0),
        Condition::ModRevision(k(), created),
        Condition::ModRevision("none".into(), 0),
        Condition::Value(k(), "1".into()),
        Condition::Value("none".into(), "".into()),
    ];
    for condition in fail {
        let txn = hold.iter().cloned().fold(Txn::new(), Txn::when).when(condition.clone());
        let outcome = setup.store().commit(txn.put("new", "x").delete("k")).unwrap();
        assert!(!outcome.succeeded, "{condition:?}");
        assert_eq!(outcome.revision, modified);
        assert!(exists(setup, b"k") && !exists(setup, b"new"));
    }
    let txn = hold.into_iter().fold(Txn::new(), Txn::when);
    assert!(setup.store().commit(txn.put("new", "x").delete("k")).unwrap().succeeded);
    assert!(!exists(setup, b"k") && exists(setup, b"new"));
}

pub(crate) fn a_transaction_has_one_revision_and_an_idle_one_none(setup: &Setup) {
    let before = put(setup, b"p/1", b"");
    let txn = Txn::new().put("a", "1").put("b", "2").delete_prefix("p/").delete("none");
    let outcome = setup.store().commit(txn).unwrap();
    assert_eq!(outcome.revision, before + 1);
    let (all, revision) = setup.store().list(b"").unwrap();
    assert_eq!(all.iter().map(|kv| kv.mod_revision).collect::<Vec<_>>(), [before + 1, before + 1]);
    assert_eq!(revision, before + 1);
    for idle in [Txn::new(), Txn::new().delete("none"), Txn::new().delete_prefix("none")] {
        let outcome = setup.store().commit(idle).unwrap();
        assert_eq!((outcome.succeeded, outcome.revision), (true, before + 1));
    }
}

pub(crate) fn no_two_actions_touch_a_key(setup: &Setup) {
    for bad in [
        Txn::new().put("k", "1").put("k", "2"),
        Txn::new().put("k", "1").delete("k"),
        Txn::new().put("k/1", "1").delete_prefix("k/"),
    ] {
        assert!(matches!(setup.store().commit(bad), Err(StoreError::InvalidTxn(_))));
    }
    assert_eq!(setup.store().list(b"").unwrap(), (vec![], 0));
}

pub(crate) fn sizes_are_limited(setup: &Setup) {
    put(setup, b"big", &vec![7; MAX_VALUE_BYTES]);
    assert_eq!(get(setup, b"big").unwrap().value.len(), MAX_VALUE_BYTES);
    let half = vec![7; MAX_VALUE_BYTES / 2];
    let many = |n: usize| (0..n).fold(Txn::new(), |txn, i| txn.put(format!("{i}"), "x"));
    assert!(setup.store().commit(many(MAX_TXN_OPS)).unwrap().succeeded);
    for bad in [
        Txn::new().put("k", vec![7; MAX_VALUE_BYTES + 1]),
        Txn::new().put("a", half.clone()).put("b", half.clone()).put("c", half),
        many(MAX_TXN_OPS + 1),
    ] {
        assert!(matches!(setup.store().commit(bad), Err(StoreError::InvalidTxn(_))));
    }
}

pub(crate) fn watches_tell_every_event_in_order(setup: &Setup) {
    put(setup, b"w/old", b"0");
    let (_, revision) = setup.store().list(b"w/").unwrap();
    let mut watch = setup.store().watch(b"w/", revision + 1).unwrap();
    assert_eq!(watch.next(AT_ONCE).unwrap(), []);
    let r1 = put(setup, b"w/a", b"1");
    put(setup, b"x", b"not watched");
    let r2 = setup.store().commit(Txn::new().put("w/b", "2").delete("w/a")).unwrap().revision;
    let r3 = put(setup, b"w/b", b"3");
    let expected = [
        (b"w/a".to_vec(), Some(b"1".to_vec()), r1),
        (b"w/b".to_vec(), Some(b"2".to_vec()), r2),
        (b"w/a".to_vec(), None, r2),
        (b"w/b".to_vec(), Some(b"3".to_vec()), r3),
    ];
    assert_eq!(seen(&collect(&mut *watch, 4)), expected);
    assert_eq!(watch.next(AT_ONCE).unwrap(), []);
}

fn collect(watch: &mut dyn Watch, at_least: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < at_least {
        let more = watch.next(PATIENCE).unwrap();
        assert!(!more.is_empty(), "the watch fell silent after {} events", events.len());
        events.extend(more);
    }
    events
}

pub(crate) fn a_watch_of_the_past_tells_what_happened_since(setup: &Setup) {
    let mut live = setup.store().watch(b"", 1).unwrap();
    for i in 0..10u8 {
        put(setup, b"k", &[i]);
    }
    assert_eq!(seen(&collect(&mut *live, 10)).len(), 10);
    let mut late = setup.store().watch(b"k", 4).unwrap();
    let values: Vec<_> = seen(&collect(&mut *late, 7)).into_iter().map(|(_, value, _)| value.unwrap()[0]).collect();
    assert_eq!(values, [3, 4, 5, 6, 7, 8, 9]);
    let mut future = setup.store().watch(b"k", 12).unwrap();
    assert_eq!(future.next(AT_ONCE).unwrap(), []);
    put(setup, b"k", b"revision 11");
    assert_eq!(future.next(AT_ONCE).unwrap(), []);
    put(setup, b"k", b"revision 12");
    assert_eq!(seen(&collect(&mut *future, 1))[0].2, 12);
}

pub(crate) fn a_watch_that_is_too_late_is_reset_and_goes_on(setup: &Setup) {
    let mut watch = setup.store().watch(b"k", 1).unwrap();
    put(setup, b"k/gone", b"");
    put(setup, b"k/stays", b"");
    setup.store().commit(Txn::new().delete("k/gone")).unwrap();
    // Enough to be forgotten, and for a directory to begin a new journal.
    for _ in 0..16 {
        put(setup, b"big", &vec![1; MAX_VALUE_BYTES]);
    }
    let events = collect(&mut *watch, 1);
    let [Event::Reset { revision, entries }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*revision, entries.len(), &entries[0].key[..]), (19, 1, &b"k/stays"[..]));
    let next = put(setup, b"k/new", b"");
    assert_eq!(seen(&collect(&mut *watch, 1)), [(b"k/new".to_vec(), Some(vec![]), next)]);
}

pub(crate) fn a_watch_wakes_up_and_gives_up(setup: &Setup) {
    let mut watch = setup.store().watch(b"k", 1).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| watch.next(PATIENCE).unwrap());
        put(setup, b"k", b"");
        assert_eq!(waiting.join().unwrap().len(), 1);
    });
    assert_eq!(watch.next(Duration::from_millis(20)).unwrap(), []);
}

fn leased(setup: &Setup, key: &str) -> LeaseId {
    let lease = setup.store().grant(TTL).unwrap();
    setup.store().commit(Txn::new().put_leased(key.to_owned(), "", lease)).unwrap();
    lease
}

pub(crate) fn leases_expire_with_their_keys(setup: &Setup) {
    let lease = leased(setup, "a");
    leased(setup, "b");
    put(setup, b"c", b"");
    assert_eq!(get(setup, b"a").unwrap().lease, Some(lease));
    let mut watch = setup.store().watch(b"", 4).unwrap();
    setup.clock.advance(TTL - Duration::from_millis(1));
    assert!(exists(setup, b"a"));
    setup.clock.advance(Duration::from_millis(1));
    assert!(!exists(setup, b"a") && !exists(setup, b"b") && exists(setup, b"c"));
    // One revision for what expired together; told to those who watch.
    assert_eq!(seen(&collect(&mut *watch, 2)), [(b"a".to_vec(), None, 4), (b"b".to_vec(), None, 4)]);
    assert!(matches!(setup.store().keep_alive(lease), Err(StoreError::LeaseGone(id)) if id == lease));
    let txn = Txn::new().put_leased("d", "", lease);
    assert!(matches!(setup.store().commit(txn), Err(StoreError::LeaseGone(id)) if id == lease));
    assert!(setup.store().grant(TTL).unwrap() > lease);
}

pub(crate) fn leases_live_as_long_as_they_are_kept(setup: &Setup) {
    let lease = leased(setup, "a");
    for _ in 0..5 {
        setup.clock.advance(TTL / 2);
        setup.store().keep_alive(lease).unwrap();
    }
    assert!(exists(setup, b"a"));
    let txn = Txn::new().when(Condition::Absent("a".into())).put("won", "");
    assert!(!setup.store().commit(txn.clone()).unwrap().succeeded);
    setup.clock.advance(TTL);
    assert!(setup.store().commit(txn).unwrap().succeeded);
}

pub(crate) fn a_revoked_lease_takes_its_keys_along(setup: &Setup) {
    let lease = leased(setup, "a");
    setup.store().revoke(lease).unwrap();
    assert!(!exists(setup, b"a"));
    setup.store().revoke(lease).unwrap();
    assert!(matches!(setup.store().keep_alive(lease), Err(StoreError::LeaseGone(_))));
}

pub(crate) fn a_clock_that_jumps_back_does_not_keep_a_lease(setup: &Setup) {
    setup.clock.set_ms(1_000_000_000);
    leased(setup, "a");
    setup.clock.set_ms(5);
    assert!(!exists(setup, b"a"));
}

pub(crate) fn a_put_without_lease_frees_the_key(setup: &Setup) {
    leased(setup, "a");
    put(setup, b"a", b"");
    setup.clock.advance(TTL);
    assert!(exists(setup, b"a"));
}

pub(crate) fn counting_from_many_threads_loses_nothing(setup: &Setup) {
    const THREADS: u64 = 4;
    const TIMES: u64 = 25;
    put(setup, b"n", &0u64.to_be_bytes());
    let mut watch = setup.store().watch(b"n", 1).unwrap();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..TIMES).for_each(|_| count_up(setup)));
        }
    });
    let n = |value: &[u8]| u64::from_be_bytes(value.try_into().unwrap());
    assert_eq!(n(&get(setup, b"n").unwrap().value), THREADS * TIMES);
    let told = seen(&collect(&mut *watch, (THREADS * TIMES + 1) as usize));
    let values: Vec<u64> = told.iter().map(|(_, value, _)| n(value.as_ref().unwrap())).collect();
    assert_eq!(values, (0..=THREADS * TIMES).collect::<Vec<_>>());
}

fn count_up(setup: &Setup) {
    loop {
        let kv = get(setup, b"n").unwrap();
        let n = u64::from_be_bytes(kv.value[..].try_into().unwrap()) + 1;
        let txn = Txn::new().when(Condition::ModRevision(kv.key, kv.mod_revision)).put("n", n.to_be_bytes().to_vec());
        if setup.store().commit(txn).unwrap().succeeded {
            return;
        }
    }
}
