//! Where a session's connection leads that we make: hosts are looked for while the session waits, and nobody else does.
//!
//! The host of an MSRP URI has addresses and nothing more: no SRV, no NAPTR, and the port that is written or 2855 (RFC 4975
//! §6.2). Every address that a name leads to is held against the bounds of outgoing targets, as one that a path names is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use restante_msrp::sdp::{ConnectionPlace, Fingerprint, MsrpDescription};
use restante_msrp::uri::Host;
use restante_transport::destination::RefusedTarget;
use restante_transport::msrp::{Believed, MsrpStream, connect, connect_encrypted};
use restante_transport::resolution::Wanted;
use restante_transport::{Protocol, Tls};
use tokio::time::{Instant, timeout_at};

use crate::server::Shared;

/// Addresses that are tried for one session.
const MAX_ADDRESSES: usize = 4;

/// What a connection of ours is encrypted with, and by what the peer is believed: by the fingerprints that it named, else by
/// the host of its path (RFC 4975 §14.4).
pub struct Encryption {
    /// What we show and believe.
    pub tls: Arc<Tls>,
    /// The host.
    pub name: String,
    /// What its description named.
    pub fingerprints: Vec<Fingerprint>,
}

/// Where to connect to.
pub struct Place {
    /// Names and bounds.
    shared: Arc<Shared>,
    /// In the order to be tried.
    wanted: Vec<Wanted>,
    /// Where the signalling that named them came from.
    signalled_from: IpAddr,
    encryption: Option<Encryption>,
}

/// Why there is nowhere to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// What is named is no host.
    Unusable,
    /// All of it is out of bounds.
    Forbidden,
}

impl Place {
    /// What a description names. Addresses are checked now, names when it is known where they lead.
    ///
    /// # Errors
    /// [`NoPlace`]
    pub fn of(
        theirs: &MsrpDescription,
        shared: Arc<Shared>,
        signalled_from: IpAddr,
        encryption: Option<Encryption>,
    ) -> Result<Place, NoPlace> {
        let mut refusal = NoPlace::Unusable;
        let mut wanted = Vec::new();
        for place in theirs.connection_places() {
            match &place.host {
                Host::Address(address)
                    if !is_allowed(&shared, SocketAddr::new(*address, place.port), signalled_from) =>
                {
                    refusal = NoPlace::Forbidden;
                }
                _ => wanted.extend(wanted_of(&place)),
            }
        }
        if wanted.is_empty() { Err(refusal) } else { Ok(Place { shared, wanted, signalled_from, encryption }) }
    }

    /// Connects to the first of them where somebody is.
    pub(super) async fn connect(&self, within: Duration) -> Option<MsrpStream> {
        let deadline = Instant::now() + within;
        let mut left = MAX_ADDRESSES;
        for wanted in &self.wanted {
            let places = timeout_at(deadline, self.shared.names.places(wanted)).await.ok()?;
            for place in places {
                // What was allowed as an address may be looked at again: it is the same answer.
                if left == 0 || !is_allowed(&self.shared, place.socket, self.signalled_from) {
                    continue;
                }
                left -= 1;
                match self.connect_to(place.socket, deadline.saturating_duration_since(Instant::now())).await {
                    Some(stream) => return Some(stream),
                    None => self.shared.names.note_failure(place.socket, Instant::now().into_std()),
                }
            }
        }
        None
    }

    async fn connect_to(&self, remote: SocketAddr, within: Duration) -> Option<MsrpStream> {
        let Some(Encryption { tls, name, fingerprints }) = &self.encryption else {
            return connect(remote, within).await.ok().map(MsrpStream::Plain);
        };
        let is_named = |certificate: &[u8]| fingerprints.iter().any(|it| it.matches(certificate));
        let believed =
            if fingerprints.is_empty() { Believed::ByName(name) } else { Believed::ByCertificate(&is_named) };
        connect_encrypted(tls, remote, believed, within).await.ok()
    }
}

/// What is looked for: the port is always said, so that nothing but addresses is asked for.
fn wanted_of(place: &ConnectionPlace) -> Option<Wanted> {
    let host = match &place.host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    };
    Wanted::new(&host, Some(place.port), Some(Protocol::Tcp))
}

fn is_allowed(shared: &Shared, remote: SocketAddr, signalled_from: IpAddr) -> bool {
    let checked: Result<(), RefusedTarget> = shared.destinations.check(remote, signalled_from);
    if let Err(error) = checked {
        tracing::warn!(%remote, %error, "an MSRP path leads where we may not connect to; see sip.allow_targets");
        shared.metrics.count_dropped("forbidden-msrp-path");
    }
    checked.is_ok()
}
