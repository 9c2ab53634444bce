//! One suite for every store: memory; a directory; a directory through two instances that take turns.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests fail by panicking")]

mod conformance {
    pub(super) mod setup;
    pub(super) mod suite;
}

use conformance::{setup, suite};

macro_rules! conformance {
    ($($case:ident)*) => {
        mod memory {
            $(#[test] fn $case() { super::suite::$case(&super::setup::memory()) })*
        }
        mod directory {
            $(#[test] fn $case() { super::suite::$case(&super::setup::directory(1)) })*
        }
        mod two_directories {
            $(#[test] fn $case() { super::suite::$case(&super::setup::directory(2)) })*
        }
    };
}

conformance! {
    keys_have_a_history
    any_bytes_are_a_key
    lists_are_by_prefix_in_order_at_one_revision
    conditions_decide_all_or_nothing
    a_transaction_has_one_revision_and_an_idle_one_none
    no_two_actions_touch_a_key
    sizes_are_limited
    watches_tell_every_event_in_order
    a_watch_of_the_past_tells_what_happened_since
    a_watch_that_is_too_late_is_reset_and_goes_on
    a_watch_wakes_up_and_gives_up
    leases_expire_with_their_keys
    leases_live_as_long_as_they_are_kept
    a_revoked_lease_takes_its_keys_along
    a_clock_that_jumps_back_does_not_keep_a_lease
    a_put_without_lease_frees_the_key
    counting_from_many_threads_loses_nothing
}
