//! What only sockets show: which answer each request gets, whatever it is and whoever sends it.

mod ipv6;
mod modules;
mod msrp;
mod reasons;
mod refreshes;
mod registrations;
mod repetitions;
mod requests;
mod routes;
mod subscriptions;
mod targets;
mod torture;
