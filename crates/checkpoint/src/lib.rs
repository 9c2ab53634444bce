//! Sans-IO state machines: lock tracking, region subscriptions, generations in flight, the global frontier.
