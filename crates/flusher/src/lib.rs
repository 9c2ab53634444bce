//! Uploads sealed generations in parallel, commits them in order, publishes checkpoints.
