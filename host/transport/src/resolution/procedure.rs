//! RFC 3263 §4: which questions are asked about a host, and in which order what they lead to is tried.
//!
//! | what is said of it | is asked |
//! |---|---|
//! | an address | nothing |
//! | a port | its addresses; UDP where no transport is said |
//! | a transport | SRV of it, else its addresses and port 5060 |
//! | neither | NAPTR, then SRV of what they point to; else SRV of UDP, then of TCP; else its addresses, UDP and port 5060 |
//! | neither, and that it must be encrypted (`sips:`) | NAPTR of TLS; else SRV of TLS; else its addresses, TLS and port 5061 |
//!
//! The service of TLS is `_sips._tcp`, and its port 5061.
//!
//! Of a relay of MSRP without a port (RFC 4976 §8) SRV of `_msrps._tcp` is asked, else its addresses and port 2855. A relay
//! that is not encrypted has no such service.
//!
//! Transports that this server does not speak are passed over.

use std::net::SocketAddr;
use std::time::Duration;

use super::dns::{Dns, DnsFailure, Pointer, ServiceRecord};
use super::wanted::{Place, Wanted};
use crate::address::Protocol;

/// Places that are kept of one name; more are not tried.
const MAX_PLACES: usize = 16;
/// Records of one answer that are looked at.
const MAX_RECORDS: usize = 32;

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The places, the best first; none when the name leads nowhere.
    pub places: Vec<Place>,
    /// How long that holds: what the shortest-lived record says.
    pub valid_for: Duration,
    /// Some question was not answered: there may be other places, and better ones.
    pub is_partial: bool,
}

/// Follows the procedure. `random` gives a number below or equal to its argument, for shares (RFC 2782).
///
/// # Errors
/// Nobody could say, and nothing was found otherwise. Temporary.
pub async fn resolve(
    dns: &dyn Dns,
    wanted: &Wanted,
    random: &(dyn Fn(u64) -> u64 + Send + Sync),
) -> Result<Resolved, DnsFailure> {
    if let Some(place) = wanted.place() {
        return Ok(Resolved { places: vec![place], valid_for: Duration::MAX, is_partial: false });
    }
    let mut search =
        Search { dns, random, places: Vec::new(), valid_for: Duration::MAX, failure: None, is_named: false };
    if wanted.port().is_none() {
        for (protocol, name) in search.service_names(wanted).await {
            search.services(protocol, &name).await;
        }
    }
    if !search.is_named {
        search.host(wanted).await;
    }
    match search.failure {
        Some(failure) if search.places.is_empty() => Err(failure),
        failure => Ok(Resolved { places: search.places, valid_for: search.valid_for, is_partial: failure.is_some() }),
    }
}

/// What was found so far.
struct Search<'a> {
    dns: &'a dyn Dns,
    random: &'a (dyn Fn(u64) -> u64 + Send + Sync),
    places: Vec<Place>,
    valid_for: Duration,
    failure: Option<DnsFailure>,
    /// There are services of this name: its own addresses are not where it wants to be asked.
    is_named: bool,
}

impl Search<'_> {
    /// The names of the services that are to be tried, in order.
    async fn service_names(&mut self, wanted: &Wanted) -> Vec<(Protocol, String)> {
        if wanted.is_msrp_relay() {
            let service = (Protocol::Tls, format!("_msrps._tcp.{}", wanted.host()));
            return Some(service).filter(|_| wanted.is_secure()).into_iter().collect();
        }
        let usual = |protocol: Protocol| match protocol {
            Protocol::Tls => (protocol, format!("_sips._tcp.{}", wanted.host())),
            _ => (protocol, format!("_sip._{protocol}.{}", wanted.host())),
        };
        if let Some(protocol) = wanted.protocol() {
            return vec![usual(protocol)];
        }
        let pointers = match self.dns.pointers(wanted.host()).await {
            Ok(found) => self.note(found.records, found.valid_for),
            Err(failure) => self.failed(failure),
        };
        let mut named = in_order(pointers);
        if wanted.is_secure() {
            named.retain(|(protocol, _)| protocol.is_encrypted());
        }
        match (named.is_empty(), wanted.is_secure()) {
            (false, _) => named,
            (true, true) => vec![usual(Protocol::Tls)],
            (true, false) => vec![usual(Protocol::Udp), usual(Protocol::Tcp)],
        }
    }

    /// The places of a service.
    async fn services(&mut self, protocol: Protocol, name: &str) {
        let records = match self.dns.services(name).await {
            Ok(found) => self.note(found.records, found.valid_for),
            Err(failure) => self.failed(failure),
        };
        self.is_named |= !records.is_empty();
        for record in by_priority_and_weight(records, self.random) {
            // RFC 2782: "." says that the service is decidedly not there.
            let target = record.target.trim_end_matches('.');
            if let Some(wanted) = Wanted::new(target, Some(record.port), Some(protocol)).filter(|_| record.port != 0) {
                self.host(&wanted).await;
            }
        }
    }

    /// The addresses of a host.
    async fn host(&mut self, wanted: &Wanted) {
        if self.places.len() >= MAX_PLACES {
            return;
        }
        let addresses = match self.dns.addresses(wanted.host()).await {
            Ok(found) => self.note(found.records, found.valid_for),
            Err(failure) => self.failed(failure),
        };
        for address in addresses {
            let place = wanted.at(address);
            let is_new = !self.places.contains(&place) && !is_no_place(place.socket);
            if is_new && self.places.len() < MAX_PLACES {
                self.places.push(place);
            }
        }
    }

    fn note<T>(&mut self, mut records: Vec<T>, valid_for: Duration) -> Vec<T> {
        records.truncate(MAX_RECORDS);
        // That there is no NAPTR says nothing about how long an address holds.
        if !records.is_empty() {
            self.valid_for = self.valid_for.min(valid_for);
        }
        records
    }

    fn failed<T>(&mut self, failure: DnsFailure) -> Vec<T> {
        self.failure.get_or_insert(failure);
        Vec::new()
    }
}

fn is_no_place(socket: SocketAddr) -> bool {
    socket.port() == 0 || socket.ip().is_unspecified() || socket.ip().is_multicast()
}

/// The services that this server speaks, by order and preference.
fn in_order(mut pointers: Vec<Pointer>) -> Vec<(Protocol, String)> {
    pointers.sort_by_key(|pointer| (pointer.order, pointer.preference));
    let protocol_of = |pointer: &Pointer| match pointer.service.to_ascii_uppercase().as_str() {
        "SIP+D2U" => Some(Protocol::Udp),
        "SIP+D2T" => Some(Protocol::Tcp),
        "SIPS+D2T" => Some(Protocol::Tls),
        _ => None,
    };
    pointers
        .into_iter()
        .filter(|pointer| pointer.flags.eq_ignore_ascii_case("s") && !pointer.replacement.is_empty())
        .filter_map(|pointer| Some((protocol_of(&pointer)?, pointer.replacement)))
        .collect()
}

/// RFC 2782: by priority, and within one priority by chance, according to the weights.
fn by_priority_and_weight(mut records: Vec<ServiceRecord>, random: &dyn Fn(u64) -> u64) -> Vec<ServiceRecord> {
    // Those without weight first, so that they have their small chance.
    records.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|first| first.priority) {
        let rivals = records.iter().take_while(|record| record.priority == priority);
        let total: u64 = rivals.clone().map(|record| u64::from(record.weight)).sum();
        let drawn = random(total).min(total);
        let chosen = rivals
            .scan(0, |sum: &mut u64, record| {
                *sum = sum.saturating_add(u64::from(record.weight));
                Some(*sum)
            })
            .position(|sum| sum >= drawn)
            .unwrap_or(0);
        ordered.push(records.remove(chosen));
    }
    ordered
}

#[cfg(test)]
mod tests;
