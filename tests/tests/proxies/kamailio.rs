//! Kamailio with a configuration of `docs/integration`, as it stands there: only its defines say where everything is.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use restante::demo::front::{Front, Running, Standing};

/// How long it may take to start on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Ports are free when they are looked for and may be taken when they are used.
const START_ATTEMPTS: usize = 10;
/// What Kamailio says then.
const IN_USE: &str = "Address already in use";

/// That of Kamailio as edge and registrar.
pub const REGISTRAR: &str = "kamailio-registrar";
/// That of Kamailio in front of a server that is the registrar.
pub const IN_FRONT: &str = "kamailio-in-front";

/// A configuration: which, and what is different from it.
#[derive(Clone)]
pub struct Configuration {
    name: &'static str,
    defines: Vec<String>,
    root: PathBuf,
    has_inside: bool,
    is_interrupted: bool,
}

/// Kamailio while it runs. It is killed when this is dropped, and by the kernel when the thread that started it ends.
pub struct Kamailio {
    configuration: Configuration,
    directory: PathBuf,
    restante: SocketAddr,
    clients: SocketAddr,
    inside: SocketAddr,
    child: Option<Child>,
}

impl Configuration {
    /// That of a folder of `docs/integration`; none, loudly, where Kamailio was not fetched.
    pub fn of(name: &'static str) -> Option<Configuration> {
        let root = root_with("usr/sbin/kamailio");
        let (defines, has_inside) = (vec!["WITHOUT_AUTHENTICATION".to_owned()], true);
        Some(Configuration { name, defines, root: root?, has_inside, is_interrupted: false })
    }

    /// It is killed and started again in the middle of stories of the demonstration, and the server with it.
    #[must_use]
    pub fn interrupted(mut self) -> Configuration {
        self.is_interrupted = true;
        self
    }

    /// Its folder.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether Kamailio is the registrar, and tells the server who is there.
    pub fn is_registrar(&self) -> bool {
        self.name == REGISTRAR
    }

    /// One that listens for clients alone.
    #[must_use]
    pub fn without_inside(mut self) -> Configuration {
        self.has_inside = false;
        self
    }

    /// With this define, `NAME=VALUE`.
    #[must_use]
    pub fn define(mut self, define: &str) -> Configuration {
        self.defines.push(define.to_owned());
        self
    }

    /// Without one that it has.
    #[must_use]
    pub fn undefine(mut self, name: &str) -> Configuration {
        self.defines.retain(|define| define != name);
        self
    }
}

impl Front for Configuration {
    fn start(&self, server: SocketAddr, directory: &Path) -> Result<Standing> {
        let kamailio = Kamailio::start(self.clone(), server, directory)?;
        let (clients, outbound) = (kamailio.clients, kamailio.inside);
        Ok(Standing { clients, outbound, running: Box::new(kamailio) })
    }

    fn is_registrar(&self) -> bool {
        Configuration::is_registrar(self)
    }

    fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }
}

impl Running for Kamailio {
    fn restart(&mut self) -> Result<()> {
        self.kill();
        self.run()
    }
}

impl Kamailio {
    /// Starts it in front of a server.
    ///
    /// # Errors
    /// It does not start: with its last words.
    pub fn start(configuration: Configuration, restante: SocketAddr, directory: &Path) -> Result<Kamailio> {
        let mut last = None;
        for _ in 0..START_ATTEMPTS {
            let (clients, inside) = free_ports()?;
            let (configuration, directory) = (configuration.clone(), directory.to_owned());
            let mut kamailio = Kamailio { configuration, directory, restante, clients, inside, child: None };
            match kamailio.begin() {
                Ok(()) => return Ok(kamailio),
                Err(error) if error.to_string().contains(IN_USE) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.context("Kamailio was not started")?)
    }

    /// Where clients talk to it.
    pub fn clients(&self) -> SocketAddr {
        self.clients
    }

    /// Where the server talks to it.
    pub fn inside(&self) -> SocketAddr {
        self.inside
    }

    /// Kills all of its processes, without a word.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // They are a group of their own, named by the first of them.
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = child.wait();
    }

    /// Starts it again where it was.
    ///
    /// # Errors
    /// It does not start.
    pub fn run(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match self.begin() {
                // Some of its processes that were killed may take longer to go, and have its sockets until then.
                Err(error) if error.to_string().contains(IN_USE) && Instant::now() < deadline => {
                    std::thread::sleep(LOOK_EVERY);
                }
                begun => return begun,
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        let root = &self.configuration.root;
        let libraries = libraries(root)?;
        let file = repository().join("docs/integration").join(self.configuration.name).join("kamailio.cfg");
        let log = self.directory.join("kamailio.log");
        let output = File::options().create(true).append(true).open(&log)?;
        // Kamailio's own processes end with its first one; that one ends with the thread that started it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(root.join("usr/sbin/kamailio"));
        command.args(["-DD", "-E", "-m", "64", "-M", "8", "-f"]).arg(file);
        command.arg("-L").arg(libraries.join("kamailio/modules")).arg("-Y").arg(&self.directory);
        for define in self.places().iter().chain(&self.configuration.defines) {
            command.args(["-A", define]);
        }
        let child = command
            .env("LD_LIBRARY_PATH", format!("{0}:{0}/kamailio", libraries.display()))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .context("setpriv does not run")?;
        self.child = Some(child);
        self.until_it_listens(&log)
    }

    /// What the configuration leaves to be said.
    fn places(&self) -> Vec<String> {
        let (clients, inside, restante) = (self.clients, self.inside, self.restante);
        vec![
            format!("CLIENTS_UDP=udp:{clients}"),
            format!("CLIENTS_TCP=tcp:{clients}"),
            format!("CLIENTS_URI=\"sip:{clients}\""),
            format!("INSIDE_UDP=udp:{inside}"),
            format!("INSIDE_TCP=tcp:{inside}"),
            format!("INSIDE_URI=\"sip:{inside}\""),
            format!("RESTANTE_URI=\"sip:{restante}\""),
        ]
    }

    /// It listens on TCP last, when its other processes are there.
    fn until_it_listens(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().transpose()).transpose()? {
                bail!("Kamailio ended at once ({status}): {}", last_lines(log));
            }
            let is_there = |place| std::net::TcpStream::connect(place).is_ok();
            let is_there_inside = !self.configuration.has_inside || is_there(self.inside);
            if is_there(self.clients) && is_there_inside && answers(self.clients) {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.kill();
                bail!("Kamailio does not answer after {START_PATIENCE:?}: {}", last_lines(log));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes a database with these users and their passwords, of the schemas that come with Kamailio: a define that names it.
pub fn database(directory: &Path, users: &[(&str, &str)]) -> String {
    let file = directory.join("kamailio.sqlite");
    let mut script = String::new();
    for (user, password) in users {
        script.push_str(&format!(
            "INSERT INTO subscriber (username, domain, password) VALUES ('{user}', 'example.org', '{password}');"
        ));
    }
    make_database(&file, &["standard", "auth_db", "msilo"], &script);
    format!("DATABASE=\"sqlite:///{}\"", file.display())
}

/// Makes a database for presence: a define that names it.
pub fn events_database(directory: &Path) -> String {
    let file = directory.join("presence.sqlite");
    make_database(&file, &["standard", "presence"], "");
    format!("EVENTS_DATABASE=\"sqlite:///{}\"", file.display())
}

fn make_database(file: &Path, schemas: &[&str], further: &str) {
    let folder = root().expect("Kamailio").join("usr/share/kamailio/db_sqlite");
    let read = |name: &&str| std::fs::read_to_string(folder.join(format!("{name}-create.sql"))).expect("a schema");
    let script = schemas.iter().map(read).collect::<String>() + further;
    let program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
    let status = Command::new("python3").args(["-c", program]).arg(file).arg(script).status().expect("python3 runs");
    assert!(status.success(), "a database of Kamailio");
}

/// Whether an OPTIONS over UDP gets an answer.
fn answers(place: SocketAddr) -> bool {
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) else { return false };
    let Ok(local) = socket.local_addr() else { return false };
    let request = format!(
        "OPTIONS sip:{place} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKthere;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:tests@example.org>;tag=there\r\nTo: <sip:{place}>\r\nCall-ID: there@{local}\r\n\
         CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    let _ = socket.set_read_timeout(Some(Duration::from_millis(200)));
    socket.send_to(request.as_bytes(), place).is_ok() && socket.recv(&mut [0; 2048]).is_ok()
}

/// Says that what needs Kamailio or SIPp is not run: once a test, which has a thread of its own.
fn skipped() {
    thread_local!(static WAS_SAID: Cell<bool> = const { Cell::new(false) });
    if WAS_SAID.replace(true) {
        return;
    }
    // Past the test harness, which would keep it back.
    let _ = writeln!(std::io::stderr(), "SKIPPED proxies: see tests/proxies/install.sh");
}

/// Where Debian's packages were unpacked, with this program among them; none, loudly, where they were not.
pub fn root_with(program: &str) -> Option<PathBuf> {
    let root = root().filter(|root| root.join(program).is_file());
    if root.is_none() {
        skipped();
    }
    root
}

/// Where Debian's packages were unpacked.
pub fn root() -> Option<PathBuf> {
    let root = repository().join("target/proxies/root");
    root.is_dir().then_some(root)
}

/// The folder of the unpacked libraries, `usr/lib/x86_64-linux-gnu`.
pub fn libraries(root: &Path) -> Result<PathBuf> {
    let folders = std::fs::read_dir(root.join("usr/lib"))?;
    let mut with_kamailio = folders.flatten().map(|folder| folder.path()).filter(|path| path.join("kamailio").is_dir());
    with_kamailio.next().context("no libraries of Kamailio")
}

/// The folder that everything is in.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Two places on loopback that are free for UDP and TCP.
fn free_ports() -> Result<(SocketAddr, SocketAddr)> {
    let mut held = Vec::new();
    for _ in 0..START_ATTEMPTS {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let local = tcp.local_addr()?;
        if let Ok(udp) = UdpSocket::bind(local) {
            held.push((local, tcp, udp));
        }
        if let [(one, ..), (other, ..)] = held.as_slice() {
            return Ok((*one, *other));
        }
    }
    bail!("no two ports are free for UDP and TCP")
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join(" / ")
}
