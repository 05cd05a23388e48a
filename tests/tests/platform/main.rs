//! Policies while the server runs: swapped, tried, rolled back, and cut off in the middle.

mod crash;
mod swap;
mod watching;
