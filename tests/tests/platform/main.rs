//! Policies while the server runs: swapped, tried, rolled back, and cut off in the middle.

mod commands;
mod crash;
mod load;
mod records;
mod swap;
mod watching;
