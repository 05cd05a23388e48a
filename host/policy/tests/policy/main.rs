//! Policies in their sandbox: the one that ships, and one that misbehaves.

mod cache;
mod examples;
mod fairness;
mod hostile;
mod loading;
mod standard;
mod support;
