//! Tasks, pauses, errors, checkpoints and safepoints in a shared store; the checkpoint advancer.
