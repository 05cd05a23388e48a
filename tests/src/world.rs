//! The server of a story, and who is around it.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use restante::configuration::{AskedCertificates, Configuration, ListenAddress};
use restante::server::{Parts, Server, Shared};
use restante_client::proxy::{Proxy, ProxyConfiguration};
use restante_client::{Client, ClientConfiguration};
use restante_deferral::model::{RecipientKey, StoredMessage};
use restante_sip::uri::Uri;
use restante_store::{Filter, Store, StoreError};
use restante_transport::Protocol;
use tempfile::TempDir;

use crate::authority::{Authority, Issued, connect_tls};
use crate::compiled_policies;
use crate::held_store::HeldStore;
use crate::http::{HttpAnswer, http_over_socket};
use crate::patience::{in_time, until_equal};
use crate::person::Person;
use crate::raw_sip::{Duplex, RawSip};
use crate::recorder::Recorder;
use crate::setting::Setting;

/// Ports are free when they are looked for and may be taken when they are used.
const PORT_ATTEMPTS: usize = 20;

/// A server and who is around it.
pub struct World {
    configuration: Configuration,
    data: TempDir,
    server: Option<Server>,
    held: Option<Arc<HeldStore>>,
    is_held: bool,
    administration: Option<restante::admin::Running>,
    is_administered: bool,
    proxy: Option<Proxy>,
    proxy_wire: Arc<Recorder>,
    clients: Vec<Client>,
    allows_objections: bool,
    authority: Option<Authority>,
    is_media_encrypted: bool,
    takes_web_sockets: bool,
}

impl World {
    pub(crate) async fn make(setting: Setting) -> World {
        let mut configuration = usual();
        for change in setting.changes {
            change(&mut configuration);
        }
        let mut world = World {
            configuration,
            data: tempfile::tempdir().expect("a temporary directory"),
            server: None,
            held: None,
            is_held: setting.is_held,
            administration: None,
            is_administered: setting.is_administered,
            proxy: None,
            proxy_wire: Arc::default(),
            clients: Vec::new(),
            allows_objections: setting.allows_objections,
            is_media_encrypted: setting.is_media_encrypted,
            takes_web_sockets: setting.takes_web_sockets,
            authority: setting.is_encrypted.then(|| Authority::new("the authority of the story")),
        };
        world.write_certificates(setting.host);
        world.configuration.data = world.data.path().join("data");
        compiled_policies::lend(&world.configuration.data);
        for attempt in 1.. {
            world.choose_ports(setting.host);
            world.start_proxy(setting.host, setting.proxy).await;
            match world.try_start().await {
                Ok(()) => break,
                Err(error) if attempt < PORT_ATTEMPTS && is_taken(&error) => {}
                Err(error) => panic!("the server does not start: {error:#}"),
            }
        }
        compiled_policies::borrow(&world.configuration.data);
        world
    }

    /// The server's SIP address, the same for UDP and TCP.
    #[must_use]
    pub fn sip(&self) -> SocketAddr {
        self.configuration.sip.listen[0].socket
    }

    /// Where it listens for SIP over TLS.
    ///
    /// # Panics
    /// The setting is not encrypted.
    #[must_use]
    pub fn tls(&self) -> SocketAddr {
        self.listener(Protocol::Tls)
    }

    /// Where it listens for SIP over something.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn listener(&self, protocol: Protocol) -> SocketAddr {
        let found = self.configuration.sip.listen.iter().find(|listen| listen.protocol == protocol);
        found.unwrap_or_else(|| panic!("no listener for {protocol}")).socket
    }

    /// Who signed the server's certificate.
    ///
    /// # Panics
    /// The setting is not encrypted.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        self.authority.as_ref().expect("an encrypted setting")
    }

    /// What the running server's parts share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        self.server().shared()
    }

    /// The running server.
    #[must_use]
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("a server that runs")
    }

    /// The configuration.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// A directory that ends with the story.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.data.path()
    }

    /// The store whose commits can be held back.
    #[must_use]
    pub fn held(&self) -> &HeldStore {
        self.held.as_ref().expect("a setting with a held store")
    }

    /// The same, to be kept.
    #[must_use]
    pub fn held_store(&self) -> Arc<HeldStore> {
        self.held.clone().expect("a setting with a held store")
    }

    /// Asks the administration interface, on its Unix socket.
    pub async fn administration(&self, path: &str) -> HttpAnswer {
        let running = self.administration.as_ref().expect("a setting with administration");
        http_over_socket(running.socket(), path).await
    }

    /// The proxy that everything goes through.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("a setting with a proxy")
    }

    /// What the proxy sees on the wire.
    #[must_use]
    pub fn proxy_wire(&self) -> &Recorder {
        &self.proxy_wire
    }

    /// Somebody: `name@example.org`, or a URI.
    pub async fn person(&mut self, name: &str) -> Person {
        self.person_with(name, |_| {}).await
    }

    /// Somebody whose client is different from usual.
    ///
    /// # Panics
    /// There are no sockets.
    pub async fn person_with(&mut self, name: &str, change: impl FnOnce(&mut ClientConfiguration)) -> Person {
        let identity = if name.contains(':') { name.to_owned() } else { format!("sip:{name}@example.org") };
        let wire = Arc::<Recorder>::default();
        let server = self.proxy.as_ref().map_or(self.sip(), Proxy::sip_address);
        let mut configuration = ClientConfiguration::new(&identity, server);
        configuration.bind = self.sip().ip();
        configuration.observer = Some(wire.clone());
        configuration.deferred_uri = Some("sip:deferred@example.org".to_owned());
        change(&mut configuration);
        let (client, events) = Client::start(configuration).await.expect("sockets for a client");
        if let Some(proxy) = &self.proxy {
            proxy.route(&identity, &format!("sip:{}", client.sip_address()));
        }
        self.clients.push(client.clone());
        Person::new(client, events, wire)
    }

    /// Somebody whose client speaks SIP over TLS.
    pub async fn person_over_tls(&mut self, name: &str) -> Person {
        self.person_over(name, Protocol::Tls).await
    }

    /// Somebody whose client speaks SIP over that.
    pub async fn person_over(&mut self, name: &str, transport: Protocol) -> Person {
        let (server, authorities) = (self.listener(transport), self.configuration.tls.authorities.clone());
        let media = self.is_media_encrypted;
        // Where its address says nothing it needs a password.
        let credentials = if transport.is_web_socket() { Some(self.credentials_of(name).await) } else { None };
        self.person_with(name, |client| {
            client.credentials = credentials;
            client.server = server;
            client.transport = transport;
            client.tls.files.authorities = authorities;
            client.tls.media = media;
        })
        .await
    }

    /// A bare TLS connection to the server, showing a certificate where there is one.
    pub async fn raw_tls(&self, own: Option<&Issued>) -> RawSip {
        RawSip::tls(self.tls(), self.authority(), own).await
    }

    /// A bare WebSocket to the server, for a sub-protocol and from a page.
    ///
    /// # Errors
    /// The status that it answers instead.
    ///
    /// # Panics
    /// There is no connection.
    pub async fn raw_web(
        &self,
        protocol: Protocol,
        sub_protocol: Option<&str>,
        origin: Option<&str>,
    ) -> Result<RawSip, u16> {
        let server = self.listener(protocol);
        let (stream, local): (Box<dyn Duplex>, SocketAddr) = if protocol == Protocol::Wss {
            let stream = connect_tls(server, self.authority(), None).await.expect("TLS");
            let local = stream.get_ref().0.local_addr().expect("a connected socket");
            (Box::new(stream), local)
        } else {
            let stream = tokio::net::TcpStream::connect(server).await.expect("a connection");
            let local = stream.local_addr().expect("a connected socket");
            (Box::new(stream), local)
        };
        RawSip::web(stream, protocol.as_str(), (local, server), (sub_protocol, origin)).await
    }

    /// A bare UDP socket towards the server.
    pub async fn udp(&self) -> RawSip {
        RawSip::udp(self.sip().ip(), self.sip()).await
    }

    /// A bare TCP connection to the server.
    pub async fn tcp(&self) -> RawSip {
        RawSip::tcp(self.sip()).await
    }

    /// Starts the server again on the same data and ports; whoever was there stays.
    ///
    /// # Panics
    /// It does not start.
    pub async fn restart(&mut self) {
        self.stop_server().await;
        let again = async {
            loop {
                match self.try_start().await {
                    Ok(()) => return,
                    // The socket goes with the task that had it, and the store's lock with whoever was the last to have it.
                    Err(error) if is_taken(&error) => tokio::task::yield_now().await,
                    Err(error) => panic!("the server does not start again: {error:#}"),
                }
            }
        };
        in_time("the server starts again", again).await;
    }

    /// Starts the server again with another configuration.
    ///
    /// # Panics
    /// It does not start.
    pub async fn restart_with(&mut self, change: impl FnOnce(&mut Configuration)) {
        self.stop_server().await;
        change(&mut self.configuration);
        self.restart().await;
    }

    /// Stops the server; nothing of it is left then, and its store is closed.
    pub async fn stop_server(&mut self) {
        self.held = None;
        if let Some(administration) = self.administration.take() {
            administration.stop();
        }
        if let Some(server) = self.server.take() {
            let shared = Arc::downgrade(server.shared());
            in_time("the server stops", server.stop()).await;
            until_equal("holders of what the server's parts share", 0, || shared.strong_count()).await;
        }
    }

    /// The recipient that an address names.
    #[must_use]
    pub fn recipient(&self, address: &str) -> RecipientKey {
        let uri = Uri::parse(address).expect("an address");
        self.shared().directory.served(&uri).expect("a served user").1
    }

    /// What waits, for anybody, in order of arrival.
    #[must_use]
    pub fn queue(&self) -> Vec<StoredMessage> {
        let found = self.shared().store.list(&Filter::default(), 100_000).expect("a queue that can be read");
        found.into_iter().map(|(message, _)| message).collect()
    }

    /// Waits until so many messages wait.
    pub async fn until_waiting(&self, count: usize) {
        until_equal("messages in the queue", count, || self.queue().len()).await;
    }

    /// Waits until the server has settled everything: nothing waits, no session is open.
    pub async fn until_settled(&self) {
        self.until_waiting(0).await;
        self.until_no_session().await;
    }

    /// Waits until no MSRP session is open.
    pub async fn until_no_session(&self) {
        until_equal("MSRP sessions", 0, || self.shared().metrics.sessions.get()).await;
    }

    /// Files of bodies.
    #[must_use]
    pub fn spooled(&self) -> usize {
        let folders = std::fs::read_dir(self.configuration.data.join("spool")).expect("the spool");
        let files = |folder: std::io::Result<std::fs::DirEntry>| {
            folder.ok().and_then(|folder| Some(std::fs::read_dir(folder.path()).ok()?.count())).unwrap_or(0)
        };
        folders.map(files).sum()
    }

    /// What the transport counted under a name.
    ///
    /// # Panics
    /// It counts nothing of that name.
    #[must_use]
    pub fn transport_count(&self, name: &str) -> u64 {
        let counters = self.server().transport_counters().snapshot();
        counters.into_iter().find(|it| it.name == name).expect("a counter of that name").count
    }

    /// The sum of a metric over its labels; with labels, of those that have them all.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        metric_in(&self.shared().metrics.encode(None), name, labels)
    }

    /// Waits until the sum of a metric over its labels is this. An empty queue does not say so: a commit is visible before
    /// the queue's owner hears of it and counts.
    pub async fn until_counted(&self, name: &str, expected: u64) {
        until_equal(name, expected, || self.metric(name, &[])).await;
    }

    async fn start_proxy(&mut self, host: IpAddr, transport: Option<Protocol>) {
        let Some(transport) = transport else { return };
        if let Some(earlier) = self.proxy.take() {
            earlier.stop().await;
        }
        let mut configuration = ProxyConfiguration::new(self.sip());
        configuration.transport = transport;
        configuration.bind = host;
        configuration.observer = Some(self.proxy_wire.clone());
        let proxy = Proxy::start(configuration).await.expect("sockets for a proxy");
        self.configuration.sip.outbound =
            Some(ListenAddress { protocol: transport, socket: proxy.sip_address() }.into());
        self.proxy = Some(proxy);
    }

    async fn try_start(&mut self) -> anyhow::Result<()> {
        let held = Arc::<OnceLock<Arc<HeldStore>>>::default();
        let mut parts = Parts::default();
        if self.is_held {
            let held = held.clone();
            parts.store = Box::new(move |options, sink| {
                let (store, spool) = HeldStore::open(options, sink)?;
                let _ = held.set(store.clone());
                Ok((store as Arc<dyn Store>, spool))
            });
        }
        let server = Server::start_with(&self.configuration, parts).await?;
        if self.is_administered {
            self.administration = Some(restante::admin::start(&self.configuration, &server).await?);
        }
        self.server = Some(server);
        self.held = held.get().cloned();
        Ok(())
    }

    fn write_certificates(&mut self, host: IpAddr) {
        let Some(authority) = &self.authority else { return };
        let directory = self.data.path();
        let authorities = directory.join("authority.pem");
        std::fs::write(&authorities, authority.certificate()).expect("a file");
        let issued = authority.issue(&["sip.example.org", &host.to_string()]);
        let (certificate, key) = issued.write(directory, "server");
        let tls = &mut self.configuration.tls;
        if tls.client_certificates != AskedCertificates::None {
            tls.client_authorities = Some(authorities.clone());
        }
        (tls.certificate, tls.key, tls.authorities) = (Some(certificate), Some(key), Some(authorities));
    }

    /// One port for UDP and TCP, another for MSRP, chosen by the system. The server is told of them before it starts, so
    /// that it can start on them again.
    fn choose_ports(&mut self, host: IpAddr) {
        let (sip, msrp) = free_ports(host);
        let address = |protocol, port| ListenAddress { protocol, socket: SocketAddr::new(host, port) };
        self.configuration.sip.listen = vec![address(Protocol::Udp, sip), address(Protocol::Tcp, sip)];
        let media = if self.is_media_encrypted { Protocol::Tls } else { Protocol::Tcp };
        self.configuration.msrp.listen = vec![address(media, msrp)];
        if self.authority.is_some() {
            let (tls, _) = free_ports(host);
            self.configuration.sip.listen.push(address(Protocol::Tls, tls));
        }
        if self.takes_web_sockets {
            let (ws, wss) = free_ports(host);
            self.configuration.sip.listen.extend([address(Protocol::Ws, ws), address(Protocol::Wss, wss)]);
        }
    }

    /// Ends everything. What clients objected to.
    pub(crate) async fn end(mut self) -> Vec<String> {
        self.stop_server().await;
        if let Some(proxy) = self.proxy.take() {
            proxy.stop().await;
        }
        let mut objections = Vec::new();
        for client in &self.clients {
            let of_client = client.violations().into_iter();
            objections.extend(of_client.map(|text| format!("{}: {text}", client.identity())));
            client.stop().await;
        }
        if self.allows_objections { Vec::new() } else { objections }
    }
}

/// The configuration of a story: defaults, but that a busy machine is no reason for refusals and nobody waits for long.
fn usual() -> Configuration {
    let mut configuration = Configuration::default();
    let limits = &mut configuration.limits;
    limits.registration_delay_milliseconds = 20;
    limits.max_decision_milliseconds = 10_000;
    limits.max_commit_wait_milliseconds = 30_000;
    limits.max_drain_seconds = 1;
    configuration
}

/// A port that is free for UDP and TCP, and another one for TCP. Both below those that systems give to whoever asks for none:
/// nobody's connection takes them between two starts of what listens there.
pub(crate) fn free_ports(host: IpAddr) -> (u16, u16) {
    let any = || u16::try_from(RandomState::new().hash_one(host) % 22_000 + 10_000).expect("a port");
    for _ in 0..PORT_ATTEMPTS {
        let (sip, msrp) = (any(), any());
        let tcp = [sip, msrp].map(|port| TcpListener::bind((host, port)));
        if sip != msrp && tcp.iter().all(Result::is_ok) && UdpSocket::bind((host, sip)).is_ok() {
            return (sip, msrp);
        }
    }
    panic!("no port is free for UDP and TCP");
}

/// A place on loopback that is free for TCP.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_tcp_port() -> SocketAddr {
    free_tcp_port_on(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// A place on this address that is free for TCP.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_tcp_port_on(host: IpAddr) -> SocketAddr {
    SocketAddr::new(host, free_ports(host).1)
}

/// A place on this address that is free for UDP.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_udp_port_on(host: IpAddr) -> SocketAddr {
    SocketAddr::new(host, free_ports(host).0)
}

fn is_taken(error: &anyhow::Error) -> bool {
    let in_use = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|it| it.kind() == std::io::ErrorKind::AddrInUse)
            || cause.downcast_ref::<StoreError>().is_some_and(|it| matches!(it, StoreError::InUse(_)))
    };
    error.chain().any(in_use)
}

/// The sum of a metric over its labels in what `/metrics` says; with labels, of those that have them all.
#[must_use]
pub fn metric_in(text: &str, name: &str, labels: &[&str]) -> u64 {
    let values = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, with) = series.split_once('{').unwrap_or((series, ""));
        (found == name && labels.iter().all(|label| with.contains(label))).then(|| value.parse::<u64>().ok()).flatten()
    });
    values.sum()
}
