//! Transactions as scripts that are polled step by step.
