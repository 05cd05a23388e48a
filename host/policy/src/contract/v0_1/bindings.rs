//! `wit/policy.wit` in Rust, from the host's side.

#![allow(missing_docs, clippy::all)]

wasmtime::component::bindgen!({ world: "policy", path: "../../wit" });
