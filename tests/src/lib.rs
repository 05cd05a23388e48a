//! A small world to tell stories in: a server in this process or in one of its own, clients, a proxy, and bare sockets,
//! all on loopback, with a real policy and a real disk. Everything ends with its story.
//!
//! * [`story`], [`Setting`], [`World`]: the server and where it stands.
//! * [`Person`]: a client and what happened to it.
//! * [`HeldStore`]: a store whose commits wait until they are told to go on.
//! * [`RawSip`], [`RawMsrp`]: sockets that say what no client would; [`raw_device`]: with them a device that is pushed
//!   to. [`WebMsrp`]: MSRP as a browser has it.
//! * [`Cpim`]: messages as others write them.
//! * [`Authority`], [`TlsPeer`]: certificates, and the other end of TLS.
//! * [`NameServer`]: names for next hops. [`Middlebox`]: what stands before clients and changes descriptions.
//! * [`DeadPlace`]: where nobody is.
//! * [`Program`]: the binary as a child process.
//! * [`Outage`]: a core that refuses everything for a while.
//!
//! Nothing here sleeps to let something happen: whoever waits says for what, and fails after [`PATIENCE`].

mod authority;
pub mod bytes_of_components;
mod commands;
mod compiled_policies;
mod cpim;
mod dead_place;
mod digest;
mod held_store;
mod http;
mod middlebox;
mod name_server;
mod outage;
mod patience;
mod person;
mod program;
pub mod raw_device;
mod raw_msrp;
mod raw_sip;
mod recorder;
mod setting;
mod web_msrp;
mod world;

pub use authority::{
    Authority, Issued, TlsPeer, client_config, connect_tls, connect_tls_again, is_asked_for_a_certificate,
};
pub use cpim::Cpim;
pub use dead_place::DeadPlace;
pub use digest::{Digest, OUTSIDE, challenges};
pub use held_store::HeldStore;
pub use http::{HttpAnswer, http, http_request, http_that_stays};
pub use middlebox::Middlebox;
pub use name_server::NameServer;
pub use outage::{Figures, Outage};
pub use patience::{PATIENCE, in_time, until, until_equal};
pub use person::Person;
pub use program::{Finished, PATIENT_LIMITS, Program, Served, binary, run, run_in};
pub use raw_msrp::{Chunk, Head, MsrpReply, RawMsrp};
pub use raw_sip::{Duplex, RawSip, Request};
pub use recorder::Recorder;
pub use setting::{Setting, setting, story};
pub use tokio_tungstenite::tungstenite::Message as Frame;
pub use web_msrp::WebMsrp;
pub use world::{World, free_tcp_port, free_tcp_port_on, free_udp_port_on, metric_in};

/// The file of a guest of `plugin/`: `hostile`, `scripted`.
#[must_use]
pub fn guest(name: &str) -> String {
    format!("{}/{name}.wasm", env!("RESTANTE_GUESTS"))
}

/// Content that is no repetition of itself within a block.
#[must_use]
pub fn pattern(length: usize) -> bytes::Bytes {
    let byte = |at: usize| u8::try_from((at.wrapping_mul(31) ^ (at >> 8).wrapping_mul(17)) % 251).unwrap_or(0);
    (0..length).map(byte).collect::<Vec<u8>>().into()
}
