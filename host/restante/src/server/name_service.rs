//! The name servers that are asked for hosts of next hops, and for hosts of MSRP paths.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use restante_transport::resolution::{Dns, NameLimits, Names, Reach, SystemDns};
use tokio::runtime::Handle;

use crate::configuration::ListenAddress;

/// What is known of next hops, asked of these servers or of the system's; the listeners say which can be reached. Must be
/// called on a runtime, where it asks.
pub(super) fn next_hops(servers: &[SocketAddr], listeners: &[ListenAddress]) -> Arc<Names> {
    let reach = Reach::of(listeners.iter().map(|listener| (listener.protocol, listener.socket)));
    names(servers, NameLimits::default(), reach)
}

/// The same of what peers name in MSRP, which anybody may fill with names of its own: so nothing of it is shared with next
/// hops. Whoever waits for one of them connects within seconds or not at all.
pub(super) fn hosts_of_msrp(servers: &[SocketAddr]) -> Arc<Names> {
    let limits =
        NameLimits { max_names: 2_000, max_waiting: 1_000, timeout: Duration::from_secs(5), ..NameLimits::default() };
    names(servers, limits, Reach::of([]))
}

fn names(servers: &[SocketAddr], limits: NameLimits, reach: Reach) -> Arc<Names> {
    let dns = if servers.is_empty() { SystemDns::new() } else { SystemDns::of(servers) };
    match dns {
        Ok(dns) => {
            let dns: Arc<dyn Dns> = Arc::new(dns);
            Names::new((dns, Handle::current()), limits, reach, random_up_to)
        }
        Err(error) => {
            tracing::warn!(%error, "no name servers: next hops and MSRP hosts must be IP addresses");
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
