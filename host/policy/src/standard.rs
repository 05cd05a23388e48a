//! The policy that ships: `plugin/standard`, built by this crate's build script.

/// The component's bytes.
pub const COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/standard.wasm"));
