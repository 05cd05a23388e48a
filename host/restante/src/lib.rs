//! The server: configuration, wiring, command line, administration.

pub mod admin;
pub mod cli;
pub mod configuration;
pub mod demo;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod policies;
pub mod server;
pub mod signatures;
pub mod times;
pub mod watch;
