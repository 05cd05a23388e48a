//! Where requests to a host go: RFC 3263, from names to addresses.
//!
//! | file | what |
//! |---|---|
//! | [`wanted`] | what is looked for |
//! | [`procedure`] | which questions are asked for it, and in which order their answers are tried |
//! | [`dns`] | who answers them: hickory, or a test |
//! | [`marks`] | which places did not work, so that the next one is taken |
//! | [`reach`] | which places our listeners can reach at all |
//! | [`names`] | what is known already; asks in the background, so that nobody who serves waits for a name server |

mod dns;
mod marks;
mod names;
mod procedure;
mod reach;
mod wanted;

pub use dns::{Dns, DnsFailure, Found, Pointer, ServiceRecord, SystemDns};
pub use marks::MarkLimits;
pub use names::{Asker, Known, NameLimits, Names};
pub use procedure::{Resolved, resolve};
pub use reach::Reach;
pub use wanted::{Place, Wanted};
