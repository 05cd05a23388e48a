//! Lines for the operator, in the tenant's log.
//!
//! The host cuts lines over 512 bytes, and drops those over a decision's or a tenant's limit. In native tests lines go
//! where `testing::log_lines` takes them.

pub use crate::bindings::restante::policy::log::Level;

/// Writes a line. [`debug!`](crate::debug), [`info!`](crate::info) and [`warning!`](crate::warning) format it first.
pub fn log(level: Level, text: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::restante::policy::log::log(level, text);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::keep_log_line(level, text);
}

/// A line for the policy's author.
#[macro_export]
macro_rules! debug {
    ($($format:tt)*) => { $crate::log::log($crate::log::Level::Debug, &format!($($format)*)) };
}

/// A line for the operator.
#[macro_export]
macro_rules! info {
    ($($format:tt)*) => { $crate::log::log($crate::log::Level::Info, &format!($($format)*)) };
}

/// A line that the operator should see soon.
#[macro_export]
macro_rules! warning {
    ($($format:tt)*) => { $crate::log::log($crate::log::Level::Warning, &format!($($format)*)) };
}
