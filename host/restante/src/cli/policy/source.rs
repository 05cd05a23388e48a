//! Components as they lie on disk.

use std::path::Path;

use anyhow::{Context, Result};

/// The bytes of a component.
///
/// # Errors
/// It cannot be read.
pub fn component_of(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
