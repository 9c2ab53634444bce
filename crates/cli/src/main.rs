//! The logtide command.

fn main() {}
