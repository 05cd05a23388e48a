//! A small CPM client over real sockets: it registers, sends and receives in page and large message mode, is notified of
//! deferred messages and fetches them, and objects to what a strict client would object to.
//!
//! * [`Client`]: the handle; [`ClientEvents`]: what happens to it.
//! * [`ClientConfiguration`], [`Behaviour`]: who it is, and how it may misbehave for a test.
//! * [`PageMessage`], [`LargeMessage`], [`Selection`]: what it can be asked for.
//! * [`Observer`]: sees every message that crosses the wire.
//! * [`proxy`]: an outbound proxy for tests and demonstrations.
//!
//! The protocols are those of restante-sip, restante-msrp and restante-cpim; this crate drives them with sockets and the
//! clock. It runs on a current-thread runtime as well as on any other.

mod behaviour;
mod client;
mod compose;
mod configuration;
mod content;
mod engine;
mod error;
mod event;
mod msrp_session;
mod observer;
mod outgoing;
pub mod proxy;
mod random;
mod strict;

pub use behaviour::{Behaviour, Scripted};
pub use client::{Client, ClientEvents};
pub use configuration::{
    ClientConfiguration, ClientCredentials, ClientLimits, ClientTls, Features, SetupChoice, Storage,
};
pub use error::ClientError;
pub use event::{ClientEvent, Content, Mode, ReceivedMessage, SessionSummary};
pub use observer::{Direction, Observer, WireProtocol, WireRecord};
pub use outgoing::{
    Answer, FetchOutcome, LargeMessage, LargeOutcome, PageMessage, PageOutcome, Progress, Selection, Source,
};
