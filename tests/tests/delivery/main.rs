//! Stories of deferred messages, told end to end over real sockets with a real policy and a real disk.

mod announced;
mod commits;
mod core_network;
mod crash;
mod devices;
mod dispositions;
mod expiry;
mod fetched;
mod forms;
mod large;
mod names;
mod next_hops;
mod outages;
mod pages;
mod push;
mod refusals;
mod sessions;
