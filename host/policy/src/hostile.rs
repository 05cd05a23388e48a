//! The policy that misbehaves, `plugin/hostile`: for tests, and no part of the program.

/// Where this crate's build script left the component.
pub const PATH: &str = concat!(env!("OUT_DIR"), "/hostile.wasm");
