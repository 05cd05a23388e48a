//! `wit/released/0.1.0` in Rust, from the host's side.

#![allow(missing_docs, clippy::all)]

wasmtime::component::bindgen!({ world: "policy", path: "../../wit/released/0.1.0" });
