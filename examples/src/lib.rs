//! The README, whose example is compiled and run as a test of this crate.
#![doc = include_str!("../../README.md")]
