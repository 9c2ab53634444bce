//! list, plan, fetch, merge, write SSTs.
