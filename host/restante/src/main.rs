//! The `restante` binary.
fn main() {}
