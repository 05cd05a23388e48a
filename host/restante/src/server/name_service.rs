//! The name servers that are asked for hosts of next hops.

use std::net::SocketAddr;
use std::sync::Arc;

use restante_transport::resolution::{Dns, NameLimits, Names, SystemDns};
use tokio::runtime::Handle;

/// What is known of names, asked of these servers or of the system's. Must be called on a runtime, where it asks.
pub(super) fn names(servers: &[SocketAddr]) -> Arc<Names> {
    let dns = if servers.is_empty() { SystemDns::new() } else { SystemDns::of(servers) };
    match dns {
        Ok(dns) => {
            let dns: Arc<dyn Dns> = Arc::new(dns);
            Names::new(dns, Handle::current(), NameLimits::default(), random_up_to)
        }
        Err(error) => {
            tracing::warn!(%error, "no name servers: next hops must be addresses");
            Names::none()
        }
    }
}

/// For the shares of services (RFC 2782): without randomness the largest share.
fn random_up_to(most: u64) -> u64 {
    let mut random = [0; 8];
    match getrandom::fill(&mut random) {
        Ok(()) => u64::from_le_bytes(random) % most.saturating_add(1).max(1),
        Err(_) => most,
    }
}
