//! `restante client`: a client for a person's hand.

mod fetch;
mod listen;
mod send;
mod show;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use restante_client::{Client, ClientConfiguration, ClientCredentials, ClientEvents, ClientTls, Storage};
use restante_sip::identity::canonical;
use restante_sip::uri::{Uri, host_address};
use restante_transport::{HostPort, Protocol, TlsFiles};

use super::password;

/// Lifetime of registrations and subscriptions; they are refreshed.
const LIFETIME_SECONDS: u32 = 600;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send a message.
    Send(send::Arguments),
    /// Register, and show incoming messages.
    Listen(listen::Arguments),
    /// Fetch deferred messages.
    Fetch(fetch::Arguments),
}

/// Which server, and how to reach it.
#[derive(Args, Debug)]
pub struct Connection {
    /// Where the server listens for SIP: HOST, HOST:PORT, or either after `udp:`, `tcp:`, `tls:`, `ws:` or `wss:`.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5060")]
    server: String,
    /// Transport for SIP, if `--server` does not name one; what is too large for UDP goes over TCP in any case.
    #[arg(long, value_name = "NAME", default_value = "udp")]
    transport: TransportChoice,
    /// File with the authorities that sign servers' certificates (PEM); by default the system's.
    #[arg(long, value_name = "FILE")]
    authorities: Option<PathBuf>,
    /// Offer MSRP over TLS, for servers that accept nothing else.
    #[arg(long)]
    encrypt_media: bool,
    /// File with this client's certificate (PEM), for servers that ask for one.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// File with its key (PEM).
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// File with the password; by default it is taken from RESTANTE_PASSWORD.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Username that the password belongs to; by default the part before the domain.
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TransportChoice {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

/// Where received content that is no text goes.
#[derive(Args, Debug)]
pub struct Saving {
    /// Directory to save content in that comes in sessions or is not text, under generated names; without it such
    /// content is discarded.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

/// Runs a command. The exit status says whether what was asked for came about.
///
/// # Errors
/// What kept it from being tried.
pub fn run(command: Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Send(arguments) => send::run(&arguments).await,
            Command::Listen(arguments) => listen::run(&arguments).await,
            Command::Fetch(arguments) => fetch::run(&arguments).await,
        }
    })
}

impl Connection {
    /// What a client with this address needs.
    async fn configuration(&self, identity: &str) -> Result<ClientConfiguration> {
        check_address(identity)?;
        let (transport, place) = self.place();
        let server = resolve(&place, transport).await?;
        let bind = own_address(server).with_context(|| format!("no route to {server}"))?;
        let credentials = self.credentials(identity)?;
        let tls = self.tls(&place);
        Ok(ClientConfiguration { transport, tls, bind, credentials, ..ClientConfiguration::new(identity, server) })
    }

    /// What to speak, and where.
    fn place(&self) -> (Protocol, String) {
        let said = self.server.split_once(':').and_then(|(first, rest)| Some((first.parse().ok()?, rest.to_owned())));
        said.unwrap_or_else(|| {
            let transport = match self.transport {
                TransportChoice::Udp => Protocol::Udp,
                TransportChoice::Tcp => Protocol::Tcp,
                TransportChoice::Tls => Protocol::Tls,
                TransportChoice::Ws => Protocol::Ws,
                TransportChoice::Wss => Protocol::Wss,
            };
            (transport, self.server.clone())
        })
    }

    fn tls(&self, place: &str) -> ClientTls {
        // An address is asked for as such.
        let host = place.parse::<HostPort>().ok().map(|place| place.host);
        let server_name = host.filter(|host| host_address(host).is_none());
        let files = TlsFiles {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            authorities: self.authorities.clone(),
            ..TlsFiles::default()
        };
        ClientTls { server_name, files, media: self.encrypt_media }
    }

    fn credentials(&self, identity: &str) -> Result<Option<ClientCredentials>> {
        let password = password::given(self.password_file.as_deref(), std::env::var_os(password::VARIABLE))?;
        let Some(password) = password else {
            anyhow::ensure!(
                self.username.is_none(),
                "--username needs a password: --password-file or {}",
                password::VARIABLE
            );
            return Ok(None);
        };
        let username = self.username.clone().or_else(|| password::usual_username(identity));
        Ok(Some(ClientCredentials {
            username: username.with_context(|| format!("{identity:?} has no username"))?,
            password,
        }))
    }
}

async fn resolve(place: &str, transport: Protocol) -> Result<SocketAddr> {
    let has_port = place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let place = if has_port { place.to_owned() } else { format!("{place}:{}", transport.default_port()) };
    let found = tokio::net::lookup_host(&place).await.with_context(|| format!("--server {place}"))?;
    // Servers listen on IPv4 more often than not.
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().with_context(|| format!("--server {place}: the name has no address"))
}

impl Saving {
    fn storage(&self) -> Result<Storage> {
        match &self.save {
            Some(directory) => {
                std::fs::create_dir_all(directory).with_context(|| format!("--save {}", directory.display()))?;
                Ok(Storage::Directory(directory.clone()))
            }
            None => Ok(Storage::Memory),
        }
    }

    fn directory(&self) -> Option<&Path> {
        self.save.as_deref()
    }
}

async fn start(configuration: ClientConfiguration) -> Result<(Client, ClientEvents)> {
    Client::start(configuration).await.context("the client cannot start")
}

/// Registers.
///
/// # Errors
/// It was refused: with the server's words.
async fn register(client: &Client) -> Result<()> {
    let answer = client.register(LIFETIME_SECONDS).await.context("cannot register")?;
    if !answer.is_success() {
        bail!("the server refused to register {}: {}", client.identity(), show::answer(&answer));
    }
    Ok(())
}

fn check_address(text: &str) -> Result<()> {
    let is_address = Uri::parse(text).is_ok_and(|uri| canonical(&uri).is_some());
    if !is_address {
        bail!("{text:?} is not the address of a user: expected sip:USER@DOMAIN or tel:+NUMBER");
    }
    Ok(())
}

/// The address of this machine that the server sees. Nothing is sent.
fn own_address(server: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = if server.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(server: &str) -> Connection {
        Connection {
            server: server.to_owned(),
            transport: TransportChoice::Udp,
            authorities: None,
            encrypt_media: false,
            certificate: None,
            key: None,
            password_file: None,
            username: None,
            json: false,
        }
    }

    #[tokio::test]
    async fn a_server_is_an_address_with_a_port_or_without() {
        for (text, expected, name) in [
            ("127.0.0.1:5070", "127.0.0.1:5070", None),
            ("127.0.0.1", "127.0.0.1:5060", None),
            ("[::1]:5070", "[::1]:5070", None),
            ("tls:[::1]", "[::1]:5061", None),
            ("tls:localhost:5071", "127.0.0.1:5071", Some("localhost")),
            ("tcp:127.0.0.1", "127.0.0.1:5060", None),
        ] {
            let (transport, place) = connection(text).place();
            assert_eq!(resolve(&place, transport).await.unwrap().to_string(), expected);
            assert_eq!(connection(text).tls(&place).server_name.as_deref(), name);
        }
        assert!(resolve("", Protocol::Udp).await.is_err());
    }

    #[test]
    fn whoever_has_no_name_is_nobody() {
        for address in ["sip:alice@example.org", "tel:+15550123", "sips:a@b"] {
            check_address(address).unwrap();
        }
        for address in ["alice", "sip:example.org", "mailto:alice@example.org", ""] {
            assert!(check_address(address).is_err(), "{address}");
        }
    }

    #[test]
    fn loopback_is_reached_from_loopback() {
        assert!(own_address(([127, 0, 0, 1], 5060).into()).unwrap().is_loopback());
    }
}
