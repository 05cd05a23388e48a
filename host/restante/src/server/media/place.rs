//! Where a session's connection leads that we make: hosts are looked for while the session waits, and nobody else does.
//!
//! The host of an MSRP URI has addresses and nothing more: no SRV, no NAPTR, and the port that is written or 2855 (RFC 4975
//! §6.2). Every address that a name leads to is held against the bounds of outgoing targets, as one that a path names is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use restante_msrp::sdp::{ConnectionPlace, Fingerprint, MsrpDescription};
use restante_msrp::uri::{Host, MsrpUri};
use restante_transport::destination::RefusedTarget;
use restante_transport::msrp::{Believed, MsrpStream, connect, connect_encrypted};
use restante_transport::resolution::{Asker, Wanted};
use restante_transport::{Protocol, SendFailure, Tls};
use tokio::time::{Instant, timeout_at};

use crate::server::Shared;

/// Addresses that are tried for one session.
const MAX_ADDRESSES: usize = 4;
/// Places that are known to have failed.
const MAX_FAILED: usize = 1_024;
/// How long a name that has other places leads there.
const FAILED_FOR: Duration = Duration::from_secs(30);

/// Places of MSRP where nobody was. Those of SIP are another matter: what peers write into their paths must not push next
/// hops aside.
#[derive(Debug, Default)]
pub struct FailedPlaces(Mutex<HashMap<SocketAddr, Instant>>);

impl FailedPlaces {
    /// Nobody was there.
    pub(in crate::server) fn note(&self, place: SocketAddr) {
        let now = Instant::now();
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= MAX_FAILED {
            failed.retain(|_, until| *until > now);
        }
        if failed.len() < MAX_FAILED {
            failed.insert(place, now + FAILED_FOR);
        }
    }

    /// The same places, those where somebody may be first.
    pub(in crate::server) fn sort(&self, places: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let now = Instant::now();
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_bad = |place: &SocketAddr| failed.get(place).is_some_and(|until| *until > now);
        let (bad, good): (Vec<SocketAddr>, Vec<SocketAddr>) = places.into_iter().partition(is_bad);
        good.into_iter().chain(bad).collect()
    }
}

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
    /// For whom names are looked for.
    asker: Asker,
    encryption: Option<Encryption>,
}

/// Why there is nowhere to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// What is named is no host.
    Unusable,
    /// All of it is out of bounds.
    Forbidden,
    /// Our own relay takes no further session now, which is nobody's refusal.
    RelayBusy,
}

impl Place {
    /// What a description names. Addresses are checked now, names when it is known where they lead.
    ///
    /// # Errors
    /// [`NoPlace`]
    pub fn of(
        theirs: &MsrpDescription,
        shared: Arc<Shared>,
        (signalled_from, asker): (IpAddr, Asker),
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
        if wanted.is_empty() { Err(refusal) } else { Ok(Place { shared, wanted, signalled_from, asker, encryption }) }
    }

    /// The next hop of what a client of our relay sends. Nobody's signalling speaks for it: only what the operator allows.
    ///
    /// # Errors
    /// [`NoPlace`]
    pub(in crate::server) fn of_next_hop(uri: &MsrpUri, shared: Arc<Shared>, asker: Asker) -> Result<Place, NoPlace> {
        let place = ConnectionPlace { host: uri.host.clone(), port: uri.port_or_default() };
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        if let Some(address) = place.socket_address()
            && !is_allowed(&shared, address, nobody)
        {
            return Err(NoPlace::Forbidden);
        }
        let wanted = vec![wanted_of(&place).ok_or(NoPlace::Unusable)?];
        let tls = shared.sender().filter(|_| uri.secure).map(|sender| sender.tls().clone());
        let name = wanted.first().map(|wanted| wanted.host().to_owned()).unwrap_or_default();
        let encryption = tls.map(|tls| Encryption { tls, name, fingerprints: Vec::new() });
        if uri.secure && encryption.is_none() {
            return Err(NoPlace::Unusable);
        }
        Ok(Place { shared, wanted, signalled_from: nobody, asker, encryption })
    }

    /// Connects to the first of them where somebody is. Each has an equal part of the time that is left.
    pub(in crate::server) async fn connect(&self, within: Duration) -> Option<MsrpStream> {
        let deadline = Instant::now() + within;
        let mut left = MAX_ADDRESSES;
        for (at, wanted) in self.wanted.iter().enumerate() {
            let others = self.wanted.len().saturating_sub(at).saturating_sub(1);
            let found = timeout_at(
                part(Instant::now(), deadline, others),
                self.shared.msrp_names.places(wanted, Some(self.asker)),
            )
            .await;
            let Ok(places) = found else { continue };
            let places = self.shared.failed_msrp_places.sort(places.into_iter().map(|place| place.socket));
            for (at, place) in places.iter().enumerate() {
                // What was allowed as an address may be looked at again: it is the same answer.
                if left == 0 || !is_allowed(&self.shared, *place, self.signalled_from) {
                    continue;
                }
                left -= 1;
                let more = places.len().saturating_sub(at).saturating_sub(1).min(left);
                let until = part(Instant::now(), deadline, others.saturating_add(more));
                match self.connect_to(*place, until.saturating_duration_since(Instant::now())).await {
                    Ok(stream) => return Some(stream),
                    // Of an address that a path names nothing is concluded.
                    Err(SendFailure::Connect(_) | SendFailure::ConnectTimeout) if wanted.place().is_none() => {
                        self.shared.failed_msrp_places.note(*place);
                    }
                    Err(_) => {}
                }
            }
        }
        None
    }

    async fn connect_to(&self, remote: SocketAddr, within: Duration) -> Result<MsrpStream, SendFailure> {
        let Some(Encryption { tls, name, fingerprints }) = &self.encryption else {
            return connect(remote, within).await.map(MsrpStream::Plain);
        };
        let is_named = |certificate: &[u8]| fingerprints.iter().any(|it| it.matches(certificate));
        let believed =
            if fingerprints.is_empty() { Believed::ByName(name) } else { Believed::ByCertificate(&is_named) };
        connect_encrypted(tls, remote, believed, within).await
    }
}

/// Until when one may take that so many others come after.
fn part(now: Instant, deadline: Instant, others: usize) -> Instant {
    let candidates = u32::try_from(others.saturating_add(1)).unwrap_or(u32::MAX);
    now + deadline.saturating_duration_since(now) / candidates
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
    // Where SIP came from is no place of MSRP.
    let checked: Result<(), RefusedTarget> = shared.destinations.check(remote, SocketAddr::new(signalled_from, 0));
    if let Err(error) = checked {
        tracing::warn!(
            %remote,
            %error,
            "an MSRP path points to a destination that is not allowed; see sip.allow_targets"
        );
        shared.metrics.count_dropped("forbidden-msrp-path");
    }
    checked.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_failed_is_tried_last_and_forgotten_in_a_bounded_map() {
        let place = |number: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, number));
        let failed = FailedPlaces::default();
        failed.note(place(1));
        assert_eq!(failed.sort([place(1), place(2), place(3)]), [place(2), place(3), place(1)]);
        (0..u16::MAX).for_each(|number| failed.note(place(number)));
        assert_eq!(failed.0.lock().unwrap().len(), MAX_FAILED);
    }

    #[test]
    fn each_candidate_has_its_part_of_what_is_left() {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(12);
        assert_eq!(part(now, deadline, 3), now + Duration::from_secs(3));
        let later = now + Duration::from_secs(10);
        assert_eq!((part(later, deadline, 1), part(later, deadline, 0)), (now + Duration::from_secs(11), deadline));
        let too_late = now + Duration::from_secs(20);
        assert_eq!(part(too_late, deadline, 0), too_late);
    }
}
