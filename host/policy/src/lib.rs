//! Loads, checks, limits and calls policy components.
