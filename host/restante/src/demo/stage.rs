//! What a story is played on: a server with a directory of its own, a core where there is one, and clients.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use restante_client::proxy::{Proxy, ProxyConfiguration};
use restante_client::{ClientConfiguration, Storage};
use restante_deferral::model::TenantName;
use tempfile::TempDir;
use tokio::time::timeout;
use toml::{Table, Value};

use super::Options;
use super::actor::{Actor, PATIENCE};
use super::diagram::Step;
use super::front::Standing;
use super::ledger::Ledger;
use super::recorder::{Lane, Recorder};
use super::sequence::{Cast, steps};
use super::server_process::ServerProcess;
use crate::configuration::Configuration;
use crate::server::Server;

/// How the server is called in diagrams.
pub const SERVER: &str = "Restante";
/// How the core is called in diagrams.
pub const CORE: &str = "SIP core";
const TENANT: &str = "example";
const DOMAIN: &str = "example.org";
/// Global numbers that are the tenant's.
const NUMBERS: &str = "+1555";
/// Wait between a registration and the first push: real networks want a second or more.
const REGISTRATION_DELAY_MILLISECONDS: i64 = 250;
/// How often a port is chosen that somebody else takes before the server does.
const PORT_ATTEMPTS: usize = 10;
/// How often the server is asked whether anything still waits.
const ASK_INTERVAL: Duration = Duration::from_millis(20);
/// How long the server may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(45);

/// What is particular about a story's server.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    policy: Table,
    has_core: bool,
    is_process: bool,
}

/// The server, the core and the clients of one story.
pub struct Stage {
    columns: Vec<String>,
    options: Options,
    directory: TempDir,
    began: (SystemTime, Instant),
    recorder: Arc<Recorder>,
    ledger: Arc<Mutex<Ledger>>,
    notes: Vec<Step>,
    actors: Vec<Actor>,
    core: Option<Proxy>,
    core_address: Option<SocketAddr>,
    front: Option<Standing>,
    host: Option<Host>,
    server: Option<SocketAddr>,
}

enum Host {
    Here(Box<Server>),
    Process(ServerProcess),
}

impl Setting {
    /// As the server comes.
    #[must_use]
    pub fn new() -> Setting {
        Setting::default()
    }

    /// With a setting of the policy.
    #[must_use]
    pub fn policy(mut self, name: &str, value: impl Into<Value>) -> Setting {
        self.policy.insert(name.to_owned(), value.into());
        self
    }

    /// Everything that the server sends goes through a core.
    #[must_use]
    pub fn with_core(self) -> Setting {
        Setting { has_core: true, ..self }
    }

    /// The server is a process of its own.
    #[must_use]
    pub fn as_process(self) -> Setting {
        Setting { is_process: true, ..self }
    }
}

impl Stage {
    /// An empty stage.
    ///
    /// # Errors
    /// No temporary directory can be made.
    pub fn new(columns: &[&str], options: &Options) -> Result<Stage> {
        Ok(Stage {
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            options: options.clone(),
            directory: tempfile::Builder::new().prefix("restante-demo-").tempdir()?,
            began: (SystemTime::now(), Instant::now()),
            recorder: Arc::default(),
            ledger: Arc::default(),
            notes: Vec::new(),
            actors: Vec::new(),
            core: None,
            core_address: None,
            front: None,
            host: None,
            server: None,
        })
    }

    /// Starts the server, and the core if there is one.
    ///
    /// # Errors
    /// They cannot be started.
    pub async fn serve(&mut self, setting: Setting) -> Result<()> {
        let mut attempt = 1;
        loop {
            let server = free_port()?;
            match self.serve_on(server, &setting).await {
                Err(error) if attempt < PORT_ATTEMPTS && is_taken(&error) => attempt += 1,
                result => break result,
            }
        }?;
        // The story begins when everything is there.
        self.began = (SystemTime::now(), Instant::now());
        Ok(())
    }

    async fn serve_on(&mut self, server: SocketAddr, setting: &Setting) -> Result<()> {
        self.server = Some(server);
        if setting.has_core {
            let observer = Lane::new(&self.recorder, self.column(CORE)?);
            let configuration = ProxyConfiguration { observer: Some(observer), ..ProxyConfiguration::new(server) };
            self.core = Some(Proxy::start(configuration).await?);
        }
        self.core_address = self.core.as_ref().map(Proxy::sip_address);
        // One that was started for a port that somebody else took is in nobody's way any more.
        self.front = None;
        if let Some(front) = &self.options.front {
            ensure!(!setting.has_core, "a story with a core of its own has nothing else in front of its server");
            self.front = Some(front.start(server, self.directory.path())?);
        }
        let outbound = self.front.as_ref().map(|front| front.outbound).or(self.core_address);
        let is_registrar = self.options.front.as_ref().is_none_or(|front| !front.is_registrar());
        let text = toml::to_string(&configuration(&self.data(), server, outbound, is_registrar, &setting.policy))?;
        std::fs::write(self.configuration(), text)?;
        self.host = Some(match setting.is_process || self.is_interrupted() {
            true => Host::Process(self.process().await?),
            false => Host::Here(Box::new(Server::start(&Configuration::read(&self.configuration())?).await?)),
        });
        Ok(())
    }

    /// A client for one of the columns.
    ///
    /// # Errors
    /// No socket can be opened.
    pub async fn client(&mut self, name: &str, identity: &str) -> Result<Actor> {
        let configuration = ClientConfiguration::new(identity, self.reached()?);
        self.client_as(name, configuration).await
    }

    /// A client whose large messages go to files.
    ///
    /// # Errors
    /// No socket can be opened, no directory made.
    pub async fn client_with_files(&mut self, name: &str, identity: &str) -> Result<Actor> {
        let directory = self.directory.path().join(format!("files of {name}"));
        std::fs::create_dir(&directory)?;
        let configuration = ClientConfiguration::new(identity, self.reached()?);
        self.client_as(name, ClientConfiguration { storage: Storage::Directory(directory), ..configuration }).await
    }

    async fn client_as(&mut self, name: &str, configuration: ClientConfiguration) -> Result<Actor> {
        let lane = Lane::new(&self.recorder, self.column(name)?);
        let (ledger, progress) = (Arc::clone(&self.ledger), self.options.progress.clone());
        let actor = Actor::start(name, configuration, lane, ledger, progress).await?;
        self.actors.push(actor.clone());
        Ok(actor)
    }

    /// The core.
    ///
    /// # Errors
    /// There is none.
    pub fn core(&self) -> Result<&Proxy> {
        self.core.as_ref().context("this story has no core")
    }

    /// Something happens without a message. Where everything is to be interrupted, it is now.
    ///
    /// # Errors
    /// What was interrupted does not go on.
    pub async fn note(&mut self, text: &str) -> Result<()> {
        self.notes.push(Step::Note { at: self.began.1.elapsed(), text: text.to_owned() });
        match self.is_interrupted() {
            true => self.interrupt().await.context("after both were killed"),
            false => Ok(()),
        }
    }

    fn is_interrupted(&self) -> bool {
        self.options.front.as_ref().is_some_and(|front| front.is_interrupted())
    }

    /// Kills the server and what is in front of it, and starts both again. Clients that were registered are again, as clients
    /// do that lost their proxy: it may have known of them in memory alone.
    async fn interrupt(&mut self) -> Result<()> {
        let served = self.host.is_some();
        if served {
            self.kill_server()?;
        }
        if let Some(front) = &mut self.front {
            front.running.restart()?;
        }
        if served {
            self.restart_server().await?;
            for actor in self.actors.iter().filter(|actor| actor.is_registered()) {
                actor.registers().await?;
            }
        }
        Ok(())
    }

    /// A place for files of the story.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What the demonstration was asked for.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Kills the server's process with SIGKILL.
    ///
    /// # Errors
    /// It is none, or dead.
    pub fn kill_server(&mut self) -> Result<()> {
        match self.host.take() {
            Some(Host::Process(process)) => process.kill(),
            host => {
                self.host = host;
                bail!("the server of this story is no process of its own")
            }
        }
    }

    /// Starts it again on the same directory.
    ///
    /// # Errors
    /// It does not start.
    pub async fn restart_server(&mut self) -> Result<()> {
        self.host = Some(Host::Process(self.process().await?));
        Ok(())
    }

    /// Waits until nothing waits in the server any more: whatever is delivered is settled then, and cannot come again.
    ///
    /// # Errors
    /// Something still waits when the time is up.
    pub async fn nothing_waits(&self) -> Result<()> {
        self.only_waits(0).await
    }

    /// Waits until so many messages wait in the server.
    ///
    /// # Errors
    /// It is another number when the time is up.
    pub async fn only_waits(&self, expected: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let waiting = self.waiting().await?;
            if waiting == expected {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{waiting} messages wait in the server after {} s, expected {expected}", PATIENCE.as_secs());
            }
            // The store tells nobody what it forgot.
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    async fn waiting(&self) -> Result<usize> {
        match &self.host {
            Some(Host::Here(server)) => {
                let totals = server.shared().store.tenant_totals(&TenantName(TENANT.into()));
                Ok(usize::try_from(totals.messages).unwrap_or(usize::MAX))
            }
            Some(Host::Process(process)) => process.waiting().await,
            None => bail!("no server runs"),
        }
    }

    /// What went in and what came out.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What clients objected to, each with its name.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let of = |actor: &Actor| -> Vec<String> {
            actor.client().violations().into_iter().map(|text| format!("{} objects: {text}", actor.name())).collect()
        };
        self.actors.iter().flat_map(of).collect()
    }

    /// The steps so far.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let mut all = steps(&self.cast(), self.began.0, &self.recorder.seen());
        all.extend(self.notes.iter().cloned());
        all.sort_by_key(Step::at);
        all
    }

    /// Stops the server, the core and the clients, in this order: the server has last words for its subscribers.
    ///
    /// # Errors
    /// The server does not stop in time.
    pub async fn close(&mut self) -> Result<()> {
        let mut stopped = Ok(());
        if let Some(Host::Here(server)) = self.host.take() {
            stopped = timeout(STOP_PATIENCE, server.stop()).await;
        }
        if let Some(core) = self.core.take() {
            core.stop().await;
        }
        for actor in &self.actors {
            actor.client().stop().await;
        }
        self.front = None;
        stopped.with_context(|| format!("the server did not stop within {} s", STOP_PATIENCE.as_secs()))
    }

    fn cast(&self) -> Cast {
        let column = |name: &str| self.column(name).ok();
        let mut cast = Cast { server: column(SERVER).unwrap_or(0), ..Cast::default() };
        cast.places.extend(self.server.map(|server| (server, cast.server)));
        for (actor, place) in self.actors.iter().filter_map(|actor| Some((actor, column(actor.name())?))) {
            cast.places.insert(actor.client().sip_address(), place);
            cast.clients.insert(place);
        }
        if let (Some(core), Some(place)) = (self.core_address, column(CORE)) {
            cast.places.insert(core, place);
        }
        cast
    }

    fn column(&self, name: &str) -> Result<usize> {
        let place = self.columns.iter().position(|column| column == name);
        place.with_context(|| format!("{name} has no column in this story"))
    }

    fn server(&self) -> Result<SocketAddr> {
        self.server.context("no server runs yet")
    }

    /// Where clients talk to.
    fn reached(&self) -> Result<SocketAddr> {
        match &self.front {
            Some(front) => Ok(front.clients),
            None => self.server(),
        }
    }

    async fn process(&self) -> Result<ServerProcess> {
        ServerProcess::start(&self.options.executable, &self.configuration(), &self.data()).await
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn configuration(&self) -> PathBuf {
        self.directory.path().join("restante.toml")
    }
}

/// The server's configuration file.
fn configuration(
    data: &Path,
    server: SocketAddr,
    outbound: Option<SocketAddr>,
    is_registrar: bool,
    policy: &Table,
) -> Table {
    let table = |entries: Vec<(&str, Value)>| -> Table {
        entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    let list = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let mut sip = table(vec![("listen", list(vec![format!("udp:{server}"), format!("tcp:{server}")]))]);
    if let Some(outbound) = outbound {
        sip.insert("outbound".to_owned(), Value::String(format!("udp:{outbound}")));
    }
    let tenant = table(vec![
        ("domains", list(vec![DOMAIN.to_owned()])),
        ("numbers", list(vec![NUMBERS.to_owned()])),
        ("trust", list(vec!["127.0.0.0/8".to_owned()])),
        ("registrar", Value::Boolean(is_registrar)),
        ("settings", Value::Table(policy.clone())),
    ]);
    table(vec![
        ("data", Value::String(data.display().to_string())),
        ("sip", Value::Table(sip)),
        ("msrp", Value::Table(table(vec![("listen", list(vec!["tcp:127.0.0.1:0".to_owned()]))]))),
        (
            "limits",
            Value::Table(table(vec![
                ("registration_delay_milliseconds", Value::Integer(REGISTRATION_DELAY_MILLISECONDS)),
                ("max_drain_seconds", Value::Integer(2)),
                // A busy machine is no part of what is shown.
                ("max_decision_milliseconds", Value::Integer(5_000)),
                ("max_commit_wait_milliseconds", Value::Integer(5_000)),
            ])),
        ),
        ("tenants", Value::Table(table(vec![(TENANT, Value::Table(tenant))]))),
    ])
}

/// A port of the system's choice that is free for UDP and TCP.
fn free_port() -> Result<SocketAddr> {
    for _ in 0..PORT_ATTEMPTS {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let local = tcp.local_addr()?;
        if UdpSocket::bind(local).is_ok() {
            return Ok(local);
        }
    }
    bail!("no port is free for UDP and TCP")
}

fn is_taken(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.into_iter().any(|kind| kind == std::io::ErrorKind::AddrInUse)
}
