//! A small but real multi-store raftstore, for tests, the demo and the simulator.
