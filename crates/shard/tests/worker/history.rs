//! Random histories of a small cluster: no fact may claim a ts below which a sealed spool misses a commit.

use proptest::prelude::*;

use crate::totals::{Totals, next_random};
use crate::world;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_fact_lies_in_any_history(actions in prop::collection::vec(any::<u32>(), 0..400), tight: bool) {
        let outcome = world::run(&actions, tight);
        prop_assert!(outcome.lies.is_empty(), "{:#?}", outcome.lies);
        prop_assert!(outcome.caught_up, "every region must come to state the barrier");
    }
}

#[test]
fn long_histories_reach_everything_and_do_not_lie() {
    let (mut seed, mut totals) = (7u64, Totals::default());
    for history in 0..40 {
        let actions: Vec<u32> = (0..3000).map(|_| next_random(&mut seed)).collect();
        let outcome = world::run(&actions, history % 2 == 0);
        assert!(outcome.lies.is_empty() && outcome.caught_up, "history {history}: {:#?}", outcome.lies);
        totals += outcome.totals;
    }
    assert!(totals.facts > 1000 && totals.seals > 500 && totals.commits > 5000, "{totals:?}");
    assert!(totals.splits > 50 && totals.merges > 20 && totals.gaps > 50 && totals.lost > 20, "{totals:?}");
    assert!(totals.replays > 100 && totals.releases > 50, "{totals:?}");
}
