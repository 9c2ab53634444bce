//! The shard worker: lock trackers, subscriptions and spools of the regions that one thread owns.
