//! Policies in their sandbox: the one that ships, and one that misbehaves.

mod cache;
mod examples;
mod failing;
mod fairness;
mod hostile;
mod loading;
mod standard;
mod support;
