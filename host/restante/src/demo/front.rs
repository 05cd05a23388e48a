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

    /// Whether it is the registrar of the clients, and tells the server who is there.
    fn is_registrar(&self) -> bool {
        false
    }

    /// Whether it and the server are killed and started again in the middle: wherever a story notes something.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Something that stands in front of a server.
pub struct Standing {
    /// Where clients talk to it.
    pub clients: SocketAddr,
    /// Where the server sends everything: its `sip.outbound`.
    pub outbound: SocketAddr,
    /// It ends when this is dropped.
    pub running: Box<dyn Running>,
}

/// What runs in front of a server.
pub trait Running: Send + Sync {
    /// Kills it, without a word, and starts it again where it was.
    ///
    /// # Errors
    /// It does not start.
    fn restart(&mut self) -> Result<()>;
}
