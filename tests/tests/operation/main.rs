//! The program as an operator meets it: configuration, commands, administration, stopping, and what it needs.

mod administration;
mod commands;
mod configuration;
mod decisions;
mod memory;
mod policies;
mod reloads;
mod stopping;
mod tenants;
