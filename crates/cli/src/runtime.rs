//! The runtime that the storage verbs run on.

use std::future::Future;

use crate::report::Failure;

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|e| Failure::usage(format!("cannot start threads: {e}"), "raise the limit of threads"))?;
    runtime.block_on(future)
}
