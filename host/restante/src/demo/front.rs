//! What may stand between the clients of a story and its server: a proxy that is none of ours.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

/// Starts something in front of a server.
pub trait Front: Send + Sync {
    /// Starts it in front of the server that will be at this place. `directory` ends with the story.
    ///
    /// # Errors
    /// It does not start.
    fn start(&self, server: SocketAddr, directory: &Path) -> Result<Standing>;
}

/// Something that stands in front of a server.
pub struct Standing {
    /// Where clients talk to it.
    pub clients: SocketAddr,
    /// Where the server sends everything: its `sip.outbound`.
    pub outbound: SocketAddr,
    /// It ends when this is dropped.
    pub running: Box<dyn Send + Sync>,
}
