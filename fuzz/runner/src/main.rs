//! One binary for all targets: `FUZZ_TARGET` says which.
#![no_main]

use std::sync::LazyLock;

use logtide_fuzz::{Target, target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET='{name}' is none of {:?}", logtide_fuzz::TARGETS))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
