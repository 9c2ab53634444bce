//! Every kind of storage does the same: one suite over a directory, memory, and the server that the environment names;
//! and what becomes of a put when a server, or the way to it, fails.
//!
//! A server is started by `.ci/servers/run`, which says where it is in `LOGTIDE_TEST_STORAGE`; see its head. The tests
//! against it are built with the feature `test-server` only, and fail if there is none: nothing is skipped in silence.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod place;
mod suite;

#[cfg(feature = "test-server")]
mod faults;
#[cfg(feature = "test-server")]
mod proxy;
#[cfg(feature = "test-server")]
mod refusals;
#[cfg(feature = "test-server")]
mod server;
#[cfg(feature = "test-server")]
mod tls;

/// The tests of the suite, for one kind of storage.
macro_rules! suite {
    ($kind:ident, $open:expr, [$($test:ident),* $(,)?]) => {
        mod $kind {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let place: $crate::place::Place = ($open)(stringify!($test));
                    $crate::suite::$test(&place).await;
                }
            )*
        }
    };
}

/// The same list for all.
macro_rules! suites {
    ($($(#[$gate:meta])? $kind:ident = $open:expr;)*) => {
        $(
            $(#[$gate])?
            suite!($kind, $open, [
                objects_are_read_as_they_were_written,
                ranges_are_parts_of_the_object,
                an_object_may_be_empty,
                what_is_not_there_is_not_found,
                names_keep_their_characters,
                a_listing_holds_all_and_nothing_else,
                objects_are_deleted,
                a_large_object_is_written_at_once,
                parts_become_one_object,
                an_upload_that_is_given_up_leaves_nothing,
                the_probe_tells_the_truth,
                a_prefix_has_one_owner,
                a_prefix_is_a_storage_of_its_own,
                the_checkpoint_only_grows,
            ]);
        )*
    };
}

suites! {
    directory = crate::place::directory;
    memory = crate::place::memory;
    #[cfg(feature = "test-server")]
    real_server = crate::server::place;
}
