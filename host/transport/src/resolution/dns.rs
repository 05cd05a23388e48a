//! Who answers questions about names.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use thiserror::Error;

/// The system's name servers are asked so often for one name.
const ATTEMPTS: usize = 2;
/// And given so much time each.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// An answer that comes later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Found<T>, DnsFailure>> + Send + 'a>>;

/// What an answer says, and how long that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The records; none when there are none.
    pub records: Vec<T>,
    /// From now; of an empty answer what its zone says about that.
    pub valid_for: Duration,
}

/// Nobody could say whether there is something. Temporary.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct DnsFailure(pub String);

/// A NAPTR record (RFC 3403), as far as SIP uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Lower ones come first.
    pub order: u16,
    /// The same among those of one order.
    pub preference: u16,
    /// `s` where the replacement is the name of SRV records.
    pub flags: String,
    /// For example `SIP+D2U`.
    pub service: String,
    /// The name to look for next.
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Lower ones come first.
    pub priority: u16,
    /// The share among those of one priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host.
    pub target: String,
}

/// Answers questions about names. An empty answer says that there is nothing; a failure, that nobody knows.
pub trait Dns: Send + Sync {
    /// NAPTR records.
    fn pointers<'a>(&'a self, name: &'a str) -> Answer<'a, Pointer>;

    /// SRV records.
    fn services<'a>(&'a self, name: &'a str) -> Answer<'a, ServiceRecord>;

    /// Addresses of both families, in the order in which they are to be tried.
    fn addresses<'a>(&'a self, name: &'a str) -> Answer<'a, IpAddr>;
}

/// The name servers that the system is configured with, and its hosts file.
pub struct SystemDns {
    resolver: TokioResolver,
}

impl SystemDns {
    /// As `/etc/resolv.conf` says.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be.
    pub fn new() -> Result<SystemDns, DnsFailure> {
        SystemDns::built(TokioResolver::builder_tokio().map_err(|error| DnsFailure(error.to_string()))?)
    }

    /// Other name servers, over UDP, and over TCP where answers are large.
    ///
    /// # Errors
    /// They cannot be asked.
    pub fn of(servers: &[SocketAddr]) -> Result<SystemDns, DnsFailure> {
        let server = |socket: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(socket.ip());
            server.connections.iter_mut().for_each(|connection| connection.port = socket.port());
            server
        };
        let configuration = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        SystemDns::built(TokioResolver::builder_with_config(configuration, TokioRuntimeProvider::default()))
    }

    fn built(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<SystemDns, DnsFailure> {
        builder.options_mut().attempts = ATTEMPTS;
        builder.options_mut().timeout = ATTEMPT_TIMEOUT;
        Ok(SystemDns { resolver: builder.build().map_err(|error| DnsFailure(error.to_string()))? })
    }

    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Found<T>, DnsFailure> {
        match self.resolver.lookup(absolute(name), kind).await {
            Ok(lookup) => Ok(Found {
                records: lookup.answers().iter().filter_map(|record| read(&record.data)).collect(),
                valid_for: remaining(lookup.valid_until()),
            }),
            Err(error) => nothing_or(&error),
        }
    }
}

impl Dns for SystemDns {
    fn pointers<'a>(&'a self, name: &'a str) -> Answer<'a, Pointer> {
        let read = |data: &RData| match data {
            RData::NAPTR(naptr) => Some(Pointer {
                order: naptr.order,
                preference: naptr.preference,
                flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
                service: String::from_utf8_lossy(&naptr.services).into_owned(),
                replacement: naptr.replacement.to_ascii(),
            }),
            _ => None,
        };
        Box::pin(self.ask(name, RecordType::NAPTR, read))
    }

    fn services<'a>(&'a self, name: &'a str) -> Answer<'a, ServiceRecord> {
        let read = |data: &RData| match data {
            RData::SRV(srv) => Some(ServiceRecord {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii(),
            }),
            _ => None,
        };
        Box::pin(self.ask(name, RecordType::SRV, read))
    }

    fn addresses<'a>(&'a self, name: &'a str) -> Answer<'a, IpAddr> {
        Box::pin(async move {
            // A name without a dot may be one of the system's search list, or of its hosts file.
            let name = if name.contains('.') { absolute(name) } else { name.to_owned() };
            match self.resolver.lookup_ip(name.as_str()).await {
                Ok(lookup) => {
                    let records = lookup.iter().collect();
                    Ok(Found { records, valid_for: remaining(lookup.valid_until()) })
                }
                Err(error) => nothing_or(&error),
            }
        })
    }
}

/// With the dot at its end, so that no search list is tried.
fn absolute(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

fn remaining(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn nothing_or<T>(error: &NetError) -> Result<Found<T>, DnsFailure> {
    if error.is_no_records_found() || error.is_nx_domain() {
        return Ok(Found { records: Vec::new(), valid_for: Duration::ZERO });
    }
    Err(DnsFailure(error.to_string()))
}
