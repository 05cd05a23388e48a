//! Whether a server that works for an hour holds more at its end than after its first minutes.
//!
//! `make endurance`, or `cargo bench --workspace --locked --bench endurance -- [--minutes N] [--samples FILE]`
//!
//! SIPp sends at fixed rates: messages over UDP and over a TCP connection each, for people who come and go, and for people
//! whose devices are silent; calls that are answered and calls that are given up; questions what waits. Beside it our own
//! clients get large messages, pushed and fetched: in the clear, and of another tenant with passwords, over TLS (MSRP, too) and
//! over WebSocket, with new connections for each. Then everything ends, and nothing may be left over.

mod people;
mod samples;
#[path = "../server.rs"]
mod server;
mod sipp;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use restante_transport::Protocol;

use self::people::{Pair, Way};
use self::samples::{Held, Sample, growth, value};
use self::server::{Server, free_port};
use self::sipp::{Calls, Running, Sipp};

/// The most that the heap may grow over the last five sixths, as a part of its mean.
const MOST_GROWTH: f64 = 0.01;
/// The most messages that may be refused because the disk was slow, as a part of those that were stored.
const MOST_REFUSED: f64 = 0.01;
/// People who come and go, and for how long each is there and away together.
const PEOPLE: u32 = 300;
const ROUND: Duration = Duration::from_secs(30);
/// People whose devices never answer.
const SILENT: u32 = 10;
/// How long messages for them are kept.
const SILENT_SECONDS: u32 = 60;
/// How long what is left may take to come to its end: expiries, the last registrations, the timers of transactions.
const ENDING: Duration = Duration::from_secs(300);
/// What waits rises and falls with people's rounds, and what the store holds from minute to minute: samples that are as far
/// apart as these would see a trend where there is none.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Samples from one line that is printed to the next.
const SAMPLES_PER_LINE: usize = 300;
/// Devices without a scenario of their own are registered again this often.
const REGISTER_EVERY: Duration = Duration::from_secs(300);

/// Everything waits in page mode: SIPp knows no MSRP.
const TABLES: &str = r#"
[tenants.endurance]
domains = ["example.org"]
trust = ["127.0.0.0/8"]
[tenants.endurance.settings]
few = 100
recipient_quota = { messages = 10000, bytes = 1000000000 }
sender_quota = { messages = 1000000, bytes = 10000000000 }
[tenants.passwords]
domains = ["example.net"]
authentication = "digest"
"#;
/// Of everybody who has one.
const PASSWORD: &str = "not to be guessed";

/// What each thread keeps of what it freed counts as in use with glibc, some hundred KiB in the course of half an hour. The
/// server is to be measured and not that.
const NOTHING_KEPT_BY_THREADS: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

/// Where the devices are.
struct Devices {
    present: SocketAddr,
    phones: SocketAddr,
    ringing: SocketAddr,
    /// Nobody reads it.
    silent: UdpSocket,
}

fn main() -> Result<()> {
    let minutes = argument("--minutes").unwrap_or(60_u64);
    let length = Duration::from_secs(60 * minutes.max(2));
    let directory = tempfile::Builder::new().prefix("restante-endurance").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let sipp = Sipp::find(directory.path())?;
    let (tls, web_socket, encrypted_media) = (free_port()?, free_port()?, free_port()?);
    let certificate = certificate(directory.path())?;
    let server = Server::start_listening(
        directory.path(),
        [&[format!("tls:{tls}"), format!("ws:{web_socket}")], &[format!("tls:{encrypted_media}")]],
        &format!("{TABLES}[tls]\ncertificate = {certificate:?}\nkey = {:?}\n", directory.path().join("key.pem")),
        "info,restante=warn",
        &[NOTHING_KEPT_BY_THREADS],
    )?;
    let in_the_clear = |name, way| Pair {
        name,
        way,
        domain: "example.org",
        server: server.sip,
        transport: Protocol::Udp,
        password: None,
        authorities: None,
    };
    let with_password = |name, way, server, transport| Pair {
        name,
        way,
        domain: "example.net",
        server,
        transport,
        password: Some(PASSWORD.to_owned()),
        authorities: (transport == Protocol::Tls).then(|| certificate.clone()),
    };
    let pairs = vec![
        in_the_clear("pushed", Way::Push),
        in_the_clear("fetched", Way::Fetch),
        with_password("encrypted", Way::Push, tls, Protocol::Tls),
        with_password("browser", Way::Fetch, web_socket, Protocol::Ws),
    ];
    for pair in pairs.iter().filter(|pair| pair.password.is_some()) {
        for name in pair.names() {
            server.command(&["user", "add", &format!("sip:{name}@{}", pair.domain)], PASSWORD)?;
        }
    }
    let devices = Devices {
        present: free_port()?,
        phones: free_port()?,
        ringing: free_port()?,
        silent: UdpSocket::bind("127.0.0.1:0")?,
    };
    let mut answering = vec![
        sipp.answer("devices", devices.present)?,
        sipp.answer("phones", devices.phones)?,
        sipp.answer("ringing", devices.ringing)?,
    ];
    devices.register(&server)?;
    let idle = Sample::take(&server, Duration::ZERO)?;
    println!("before the load: {}", described(&idle));

    let calling = call(&sipp, &server, &devices, length)?;
    let cpu = server.cpu_seconds()?;
    let (samples, large) = watch(&server, &devices, &mut answering, pairs, length)?;
    if let Some(file) = argument::<PathBuf>("--samples") {
        samples::write(&file, &samples)?;
    }
    let cpu = (server.cpu_seconds()? - cpu) / length.as_secs_f64();
    let failures: Vec<_> = calling.into_iter().filter_map(|running| running.finish(ENDING).err()).collect();
    let end = come_to_rest(&sipp, &server, &devices, &idle)?;
    report(&server, &samples, idle, end, large, cpu)?;
    failures.iter().for_each(|failure| println!("{failure}"));
    ensure!(failures.is_empty(), "not every call went as its scenario says");
    server.stop()
}

/// A certificate for the server, which signs itself, and beside it its key.
fn certificate(directory: &Path) -> Result<PathBuf> {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let file = directory.join("certificate.pem");
    std::fs::write(&file, signed.cert.pem())?;
    std::fs::write(directory.join("key.pem"), signed.signing_key.serialize_pem())?;
    Ok(file)
}

/// The load of SIPp.
fn call(sipp: &Sipp, server: &Server, devices: &Devices, length: Duration) -> Result<Vec<Running>> {
    let seconds = length.as_secs_f64();
    let begin = |name: &str, scenario: &str, transport: &str, per_second: f64, fields: Vec<String>| {
        let count = (per_second * seconds) as u64;
        sipp.call(server.sip, devices.present, Calls { scenario, name, fields, transport, per_second, count })
    };
    let numbered = |name: &str, count: u32, rest: &str| (0..count).map(|it| format!("{name}{it};{rest}")).collect();
    let rounds = f64::from(PEOPLE) / ROUND.as_secs_f64();
    Ok(vec![
        begin("registrations", "registrations", "u1", rounds, numbered("person", PEOPLE, ""))?,
        begin("messages", "messages", "u1", 20.0, numbered("person", PEOPLE, "604800"))?,
        begin("messages-over-tcp", "messages", "tn", 2.0, numbered("person", PEOPLE, "604800"))?,
        begin(
            "messages-to-the-silent",
            "messages",
            "u1",
            0.5,
            numbered("silent", SILENT, &SILENT_SECONDS.to_string()),
        )?,
        begin("calls", "calls", "u1", 3.0, numbered("phone", 1, ""))?,
        begin("cancelled", "cancelled", "u1", 1.0, numbered("ringing", 1, ""))?,
        begin("subscriptions", "subscriptions", "u1", 2.0, numbered("person", PEOPLE, ""))?,
    ])
}

/// Samples while the load lasts, and how many large messages were exchanged.
fn watch(
    server: &Server,
    devices: &Devices,
    answering: &mut [Running],
    pairs: Vec<Pair>,
    length: Duration,
) -> Result<(Vec<Sample>, u64)> {
    let began = Instant::now();
    let until = began + length;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let large = std::thread::spawn(move || {
        runtime.block_on(async {
            let mut exchanges = tokio::task::JoinSet::new();
            for pair in pairs {
                exchanges.spawn(pair.exchange(until));
            }
            let mut count = 0;
            while let Some(exchanged) = exchanges.join_next().await {
                count += exchanged??;
            }
            anyhow::Ok(count)
        })
    });
    let (mut samples, mut registered_at) = (Vec::new(), began);
    while Instant::now() < until {
        std::thread::sleep(SAMPLE_EVERY.min(until.saturating_duration_since(Instant::now())));
        answering.iter_mut().try_for_each(Running::still_runs)?;
        let sample = Sample::take(server, began.elapsed())?;
        if samples.len() % SAMPLES_PER_LINE == 0 {
            println!("{:>5} s: {}", sample.at.as_secs(), described(&sample));
        }
        samples.push(sample);
        if registered_at.elapsed() > REGISTER_EVERY {
            registered_at = Instant::now();
            devices.register(server)?;
        }
    }
    let large = large.join().ok().context("the clients of large messages panicked")??;
    Ok((samples, large))
}

/// Everybody comes once more and gets what waits; then it is waited until nothing is held, and no more files are open
/// than before the load.
fn come_to_rest(sipp: &Sipp, server: &Server, devices: &Devices, idle: &Sample) -> Result<Sample> {
    let fields = (0..PEOPLE).map(|it| format!("person{it};")).collect();
    let name = "last-registrations";
    let count = u64::from(PEOPLE);
    let calls = Calls { scenario: "registrations", name, fields, transport: "u1", per_second: 50.0, count };
    sipp.call(server.sip, devices.present, calls)?.finish(ENDING)?;
    let until = Instant::now() + ENDING;
    loop {
        let sample = Sample::take(server, Duration::ZERO)?;
        let is_at_rest = sample.held == Held::default() && sample.open_files <= idle.open_files;
        if is_at_rest || Instant::now() > until {
            return Ok(sample);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Something of a sample.
type Measure = fn(&Sample) -> u64;

/// Says what was seen, and fails when it is not what is promised.
fn report(server: &Server, samples: &[Sample], idle: Sample, end: Sample, large: u64, cpu: f64) -> Result<()> {
    let metrics = server.metrics()?;
    let total = |name: &str| value(&metrics, &format!("restante_messages_{name}_total")).unwrap_or(0);
    let [stored, repeated, delivered, expired] = ["stored", "repeated", "delivered", "expired"].map(total);
    let settled = samples.get(samples.len() / 6..).unwrap_or_default();
    let heap_growth = growth(settled, |it| it.heap_bytes);
    let lost = i128::from(stored) - i128::from(delivered) - i128::from(expired);
    println!("stored {stored}, repeated {repeated}, delivered {delivered}, expired {expired}, lost {lost}");
    let refused = ["MESSAGE", "INVITE"].map(|method| {
        let row = format!("restante_requests_refused_total{{method=\"{method}\",status=\"503\"}}");
        value(&metrics, &row).unwrap_or(0)
    });
    let refused: u64 = refused.iter().sum();
    println!("messages and calls refused for a moment in which the disk was slow: {refused}");
    println!("large messages {large}, {:.1} % of one core", cpu * 100.0);
    println!("over the last five sixths:");
    let measures: [(&str, Measure); 2] = [("heap", |it| it.heap_bytes), ("anonymous memory", |it| it.anonymous_bytes)];
    for (name, bytes) in measures {
        let lowest = settled.iter().map(bytes).min().unwrap_or(0);
        let highest = settled.iter().map(bytes).max().unwrap_or(0);
        println!(
            "  {name} {:.2} to {:.2} MB, {:+.2} %; at rest {:.2} MB",
            megabytes(lowest),
            megabytes(highest),
            growth(settled, bytes) * 100.0,
            megabytes(bytes(&end))
        );
    }
    println!("left over: {:?}; open files {} (before the load {})", end.held, end.open_files, idle.open_files);
    let served = refused as f64 <= MOST_REFUSED * stored as f64;
    let nothing_is_left = end.held == Held::default() && end.open_files <= idle.open_files;
    let good = heap_growth <= MOST_GROWTH && nothing_is_left && lost == 0 && served;
    println!(
        "{}: the heap grows by {:.0} % at most, nothing is left over or lost, at most {:.0} % are refused",
        if good { "reached" } else { "MISSED" },
        MOST_GROWTH * 100.0,
        MOST_REFUSED * 100.0
    );
    ensure!(good, "the figures are not those that were promised");
    Ok(())
}

impl Devices {
    /// Those that do not come and go.
    fn register(&self, server: &Server) -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let silent = self.silent.local_addr()?;
        let silent = (0..SILENT).map(|it| (format!("silent{it}"), silent, "MESSAGE"));
        let phones = [("phone0".to_owned(), self.phones), ("ringing0".to_owned(), self.ringing)];
        let phones = phones.map(|(name, place)| (name, place, "INVITE, ACK, BYE, CANCEL"));
        for (name, place, methods) in silent.chain(phones) {
            register(&socket, server.sip, &name, place, methods)?;
        }
        Ok(())
    }
}

fn register(socket: &UdpSocket, server: SocketAddr, name: &str, place: SocketAddr, methods: &str) -> Result<()> {
    let own = socket.local_addr()?;
    let unique = format!("{name}-{}", own.port());
    let text = format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{unique};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:{name}@example.org>;tag=f\r\nTo: <sip:{name}@example.org>\r\nCall-ID: {unique}\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:{name}@{place}>;methods=\"{methods}\";expires=3600\r\nContent-Length: 0\r\n\r\n"
    );
    let mut buffer = [0; 4096];
    for _ in 0..3 {
        socket.send_to(text.as_bytes(), server)?;
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            if answer.starts_with("SIP/2.0 200") && answer.contains(&unique) {
                return Ok(());
            }
        }
    }
    anyhow::bail!("{name} could not register")
}

fn described(sample: &Sample) -> String {
    let [heap, anonymous] = [sample.heap_bytes, sample.anonymous_bytes].map(megabytes);
    let Sample { open_files, held, .. } = sample;
    format!("heap {heap:.2} MB, anonymous memory {anonymous:.2} MB, {open_files} open files, {held:?}")
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn argument<T: FromStr>(name: &str) -> Option<T> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1)?.parse().ok()
}
