//! What this machine can do without a server: the yardsticks.

use std::hint::black_box;
use std::io::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use restante_deferral::decision::{
    Availability, ContactView, Context, HostAbilities, Question, RecipientView, Trigger, WaitingMessage,
};
use restante_deferral::model::{
    Abilities, CanonicalAddress, ContactId, MessageId, MessageKind, QueueTotals, TenantName, Timestamp,
};
use restante_policy::{Generation, Loader, decide};

/// Datagrams received and sent back.
pub struct Echo {
    pub per_second: f64,
    /// CPU of the echoing thread for one.
    pub micros: f64,
}

/// Receives datagrams of a MESSAGE's size and sends them back, one by one.
pub fn udp_echo(time: Duration) -> Result<Echo> {
    let echo = UdpSocket::bind("127.0.0.1:0")?;
    let place = echo.local_addr()?;
    let echoing = std::thread::spawn(move || -> Result<f64> {
        let began = thread_cpu_seconds();
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = echo.recv_from(&mut buffer)?;
            if length == 1 {
                return Ok(thread_cpu_seconds() - began);
            }
            echo.send_to(buffer.get(..length).unwrap_or_default(), from)?;
        }
    });
    let asking = UdpSocket::bind("127.0.0.1:0")?;
    asking.connect(place)?;
    asking.set_read_timeout(Some(Duration::from_secs(1)))?;
    let datagram = [b'x'; 800];
    let (began, mut count) = (Instant::now(), 0u32);
    let mut buffer = [0; 2048];
    for _ in 0..32 {
        asking.send(&datagram)?;
    }
    while began.elapsed() < time {
        asking.recv(&mut buffer)?;
        asking.send(&datagram)?;
        count += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    asking.send(b"x")?;
    let cpu = echoing.join().map_err(|_| anyhow!("the echo thread is gone"))??;
    Ok(Echo { per_second: f64::from(count) / seconds, micros: cpu * 1e6 / f64::from(count) })
}

/// Appends and waits for the disk, per second.
pub fn fdatasync(directory: &Path, time: Duration) -> Result<f64> {
    let path = directory.join("fdatasync");
    let mut file = std::fs::File::create(&path)?;
    let (began, mut count) = (Instant::now(), 0u32);
    while began.elapsed() < time {
        file.write_all(&[b'x'; 1024])?;
        file.sync_data()?;
        count += 1;
    }
    std::fs::remove_file(path)?;
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// The standard policy with its default settings.
pub fn generation(loader: &Loader) -> Result<Arc<Generation>> {
    let host = HostAbilities { max_page_bytes: 1_300, max_message_bytes: 1 << 30, hand_over_targets: Vec::new() };
    Ok(loader.load(restante_policy::standard::COMPONENT, "{}", &host)?.generation)
}

/// Best mean of several rounds of `on-available`.
pub fn decision_micros(generation: &Arc<Generation>, waiting: u64) -> Result<f64> {
    let question = question(waiting);
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let count = 1_000;
        let began = Instant::now();
        for _ in 0..count {
            black_box(decide(generation, black_box(question.clone()))).map_err(|why| anyhow!("{why:?}"))?;
        }
        best = best.min(began.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    }
    Ok(best)
}

fn question(waiting: u64) -> Question {
    let context = Context {
        now: Timestamp(1_700_000_000_000),
        tenant: TenantName("bench".into()),
        recipient: RecipientView {
            address: CanonicalAddress("sip:bob@example.org".into()),
            aliases: Vec::new(),
            subscriber_class: None,
            delivery: None,
            utc_offset_minutes: None,
        },
        queue: QueueTotals::default(),
        fields: Vec::new(),
    };
    let contact = ContactView {
        id: ContactId(1),
        instance: Some("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned()),
        q_permille: 1_000,
        abilities: Abilities { page_mode: true, large_message_mode: true, ..Abilities::default() },
        tags: Vec::new(),
        last_failure: None,
    };
    let messages = (1..=waiting).map(|id| WaitingMessage {
        id: MessageId(id),
        sender: format!("sip:sender{}@example.org", id % 5),
        kind: MessageKind::Message,
        page_bytes: Some(600),
        size_bytes: 120,
        content_type: "message/cpim".to_owned(),
        received_at: Timestamp(1_699_999_000_000),
        expires_at: Timestamp(1_700_100_000_000),
        priority: 100,
        attempts: 0,
        not_before: None,
        last_failure: None,
        page_refused: false,
        large_refused: false,
        notified_at: None,
        fetch_deadline: None,
        devices: Vec::new(),
    });
    let availability = Availability {
        trigger: Trigger::Registered,
        contacts: vec![contact],
        messages: messages.collect(),
        not_shown: 0,
        can_notify: true,
    };
    Question::Available(context, availability)
}

/// CPU seconds of this thread: the first number of its schedstat, in nanoseconds.
fn thread_cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
