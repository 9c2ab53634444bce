//! What a simulation can find.

use std::fmt;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A version came into being below a checkpoint (I1, I2, I3).
    Lie(String),
    /// The global checkpoint went down (I4), or the storage's one is above it.
    Checkpoint(String),
    /// A restore failed, or is not the state (I10).
    Restore(String),
    /// When all trouble was over, the checkpoint did not go on (I7).
    Stuck(String),
    /// More memory for events than their budget (I6).
    Memory(String),
    /// The simulation itself does not work.
    Broken(String),
}

impl Violation {
    /// The simulation itself does not work.
    pub fn broken(why: &dyn fmt::Display) -> Self {
        Violation::Broken(why.to_string())
    }

    /// A short name of its kind: a shrunk schedule must show the same kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Violation::Lie(_) => "lie",
            Violation::Checkpoint(_) => "checkpoint",
            Violation::Restore(_) => "restore",
            Violation::Stuck(_) => "stuck",
            Violation::Memory(_) => "memory",
            Violation::Broken(_) => "broken",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Violation::Lie(what)
        | Violation::Checkpoint(what)
        | Violation::Restore(what)
        | Violation::Stuck(what)
        | Violation::Memory(what)
        | Violation::Broken(what)) = self;
        write!(f, "{}: {what}", self.kind())
    }
}
