//! Policies in their sandbox: the one that ships, and one that misbehaves.

#[path = "../../../deferral/tests/json/any.rs"]
mod any;
mod by_hand;
mod cache;
mod comparison;
mod contract_json;
mod examples;
mod failing;
mod fairness;
mod generated;
mod hostile;
mod impossible;
mod loading;
mod pseudonyms;
mod records;
mod released;
mod standard;
mod support;
