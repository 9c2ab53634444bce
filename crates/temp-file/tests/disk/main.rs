//! The disk of the spool: its quota, its faults, and a real one that is small. Nothing that was appended is lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests, also in what tests share")]

mod faults;
mod faulty;
mod quota;
mod real;
mod records;
