//! The machines of this crate, through their public interface, against oracles that know better.

mod cover;
mod generations;
mod subscription;
mod world;
