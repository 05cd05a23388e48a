//! The policy that ships: `plugin/standard`, built by this crate's build script.

/// The component's bytes.
pub const COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/standard.wasm"));

/// Its name: the one that it gives itself, and that a configuration names it by.
pub const NAME: &str = "standard";
