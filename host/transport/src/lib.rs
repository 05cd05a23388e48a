//! Sockets: what bytes arrive on and leave by. No SIP meaning beyond where one message ends and the next begins.
//!
//! * [`Transport`]: every SIP listener and outgoing connection behind one handler for what comes in and one [`Sender`]
//!   for what goes out.
//! * [`Tls`]: what is shown to and asked of peers on encrypted connections.
//! * [`queue`]: from a receiver to a shard, bounded in items and bytes, with a lane that load cannot starve.
//! * [`msrp`]: accepts MSRP connections and reads just enough to know whose they are.
//! * [`destination`]: where peers may make us connect to.
//! * [`resolution`]: where the hosts are that have names.
//!
//! Everything is bounded by [`TransportLimits`] and what a bound turned away is counted in [`TransportCounters`].

mod address;
mod counters;
pub mod destination;
mod event;
mod limits;
pub mod msrp;
mod permit;
pub mod queue;
pub mod resolution;
mod stun;
mod tcp;
mod tls;
mod transport;
mod udp;
mod web_socket;

pub use address::{AddressError, ConnectionId, Flow, HostPort, Listener, ListenerId, NameId, Protocol};
pub use counters::{Count, TransportCounters};
pub use event::{CloseReason, Handler, Intake, SendFailure, SendToken, TransportEvent, Unreadable};
pub use limits::TransportLimits;
pub use permit::{ConnectionPermit, source_of};
pub use tls::{CertificateStatus, ClientCertificates, PeerNames, Reloaded, Tls, TlsError, TlsFiles, TlsStatus};
pub use transport::{BoundListener, Drained, Layers, Sender, Target, Transport};
pub use web_socket::{MsrpWebSocket, WebSockets};
