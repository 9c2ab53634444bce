//! The protobuf messages of a log backup, written by hand against kvproto (`brpb.proto`, `encryptionpb.proto`,
//! `metapb.proto`, revision `b6cdca19`). Field numbers: `reference/log-backup-format.md` §3.
//!
//! Only the messages that a backup consists of, or that a task is described with, are here. Unknown fields are dropped
//! when a message is decoded.
//!
//! The `Debug` form of no message has a secret in it.

/// `Debug` of a message with secrets: those fields tell only how long they are.
macro_rules! debug_without_secrets {
    ($message:ident { $($shown:ident),* ; $($secret:ident),+ }) => {
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut form = f.debug_struct(stringify!($message));
                $(form.field(stringify!($shown), &self.$shown);)*
                $(form.field(stringify!($secret), &format_args!("<{} bytes>", self.$secret.len()));)+
                form.finish()
            }
        }
    };
}

mod encryption;
mod marks;
mod metadata;
mod storage;
mod task;

pub use encryption::*;
pub use marks::*;
pub use metadata::*;
pub use storage::*;
pub use task::*;
