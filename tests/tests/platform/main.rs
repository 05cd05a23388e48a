//! Policies while the server runs: swapped, tried, rolled back, and cut off in the middle.

mod commands;
mod compiling;
mod crash;
mod hostile;
mod load;
mod records;
mod swap;
mod watching;
