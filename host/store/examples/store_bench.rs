//! How fast the store is: messages stored and removed per second and the CPU they cost, beside a bare fdatasync loop on
//! the same disk.
//!
//! `cargo run --release -p restante-store --example store_bench -- [--messages N] [--queued N] [--recipients N]
//! [--body BYTES] [--directory DIR]`
//!
//! `--queued` messages are stored first and stay, so that the figures are those of a store that holds so many.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use restante_deferral::commit::{Applied, Change, Transaction};
use restante_deferral::model::*;
use restante_store::sqlite::{OpenOptions, SqliteStore};
use restante_store::{Completion, Outcome, Sink, Store, Ticket};

struct Arguments {
    messages: u64,
    queued: u64,
    recipients: u64,
    body_bytes: usize,
    directory: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = arguments()?;
    let temporary = tempfile::tempdir()?;
    let directory = arguments.directory.clone().unwrap_or_else(|| temporary.path().to_owned());
    let (rate, micros) = fdatasync_loop(&directory, Duration::from_secs(2))?;
    println!("fdatasync loop   {rate:>8.0}/s   {micros:>6.1} CPU µs each");

    let (sender, done) = channel();
    let sink: Sink = Arc::new(move |_, completions| _ = sender.send(completions));
    let fatal = Arc::new(|why: &str| {
        eprintln!("{why}");
        std::process::exit(74);
    });
    let options = OpenOptions::new(&directory.join("store"), Arc::new(|| Timestamp(now())), fatal);
    let store = SqliteStore::open(options, sink)?;
    let mut bench = Bench { store, done, directory, recipients: arguments.recipients, next: 0 };
    if arguments.queued > 0 {
        bench.report("queued", 2_048, arguments.queued, |bench, number| bench.insert(number, arguments.body_bytes));
    }
    for producers in [64, 256] {
        let stored = bench.report("stored", producers, arguments.messages, |bench, number| {
            bench.insert(number, arguments.body_bytes)
        });
        bench.report("removed", producers, stored.len() as u64, |_, number| {
            let (recipient, id) = stored[number as usize].clone();
            Transaction { changes: vec![Change::Remove { recipient, id }], settles: true }
        });
    }
    Ok(())
}

fn arguments() -> Result<Arguments, Box<dyn std::error::Error>> {
    let mut arguments =
        Arguments { messages: 100_000, queued: 0, recipients: 10_000, body_bytes: 200, directory: None };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("{name} wants a value"))?;
        match name.as_str() {
            "--messages" => arguments.messages = value.parse()?,
            "--queued" => arguments.queued = value.parse()?,
            "--recipients" => arguments.recipients = value.parse()?,
            "--body" => arguments.body_bytes = value.parse()?,
            "--directory" => arguments.directory = Some(value.into()),
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    Ok(arguments)
}

struct Bench {
    store: SqliteStore,
    done: Receiver<Vec<Completion>>,
    directory: PathBuf,
    recipients: u64,
    next: u64,
}

impl Bench {
    /// Keeps `producers` orders under way until `count` are acknowledged; what was inserted comes back.
    fn report(
        &mut self,
        what: &str,
        producers: u64,
        count: u64,
        mut order: impl FnMut(&mut Bench, u64) -> Transaction,
    ) -> Vec<(RecipientKey, MessageId)> {
        let (began, cpu, written) = (Instant::now(), cpu_time(), written_bytes());
        let (mut given, mut acknowledged, mut largest_wal, mut batches) = (0, 0, 0, 0u64);
        let mut stored = vec![None; count as usize];
        let mut slowest = Duration::ZERO;
        while acknowledged < count {
            while given < count && given - acknowledged < producers {
                let transaction = order(self, given);
                if let [Change::Insert(message)] = &transaction.changes[..] {
                    stored[given as usize] = Some((message.recipient.clone(), MessageId(0)));
                }
                self.store.write(Ticket { shard: 0, token: given }, transaction).expect("the store takes so many");
                given += 1;
            }
            let waited = Instant::now();
            let completions = self.done.recv().expect("the store lives");
            slowest = slowest.max(waited.elapsed());
            batches += 1;
            acknowledged += completions.len() as u64;
            for completion in completions {
                let Outcome::Written(Ok(applied)) = completion.outcome else { panic!("{:?}", completion.outcome) };
                if let ([Applied::Inserted(id)], Some((_, slot))) =
                    (&applied[..], &mut stored[completion.token as usize])
                {
                    *slot = *id;
                }
            }
            if batches.is_multiple_of(64) {
                largest_wal = largest_wal.max(size_of(&self.directory.join("store/messages.sqlite-wal")));
            }
        }
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_time() - cpu);
        println!(
            "{what:<8} by {producers:<4} {:>8.0}/s   {:>6.1} CPU µs each   {:>5.1} KiB written each   largest WAL {:>4} MB   batch {:>5.0}   slowest {:>5} ms",
            count as f64 / seconds,
            cpu * 1e6 / count as f64,
            (written_bytes() - written) as f64 / 1024.0 / count as f64,
            largest_wal / 1_000_000,
            count as f64 / batches as f64,
            slowest.as_millis(),
        );
        stored.into_iter().flatten().collect()
    }

    fn insert(&mut self, _: u64, body_bytes: usize) -> Transaction {
        self.next += 1;
        let message = message(self.next, self.recipients, body_bytes);
        Transaction { changes: vec![Change::Insert(Box::new(message))], settles: false }
    }
}

/// Looks random, is the same in every run.
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Milliseconds since 1970.
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(0)
}

fn message(number: u64, recipients: u64, body_bytes: usize) -> NewMessage {
    let name = |number: u64| CanonicalAddress(format!("sip:user{number}@example.org").into());
    let recipient = scatter(number) % recipients;
    let sender = scatter(number.wrapping_mul(31)) % recipients;
    let now = now();
    let mut key = [0; 16];
    key[..8].copy_from_slice(&scatter(number.wrapping_mul(2) + 1).to_be_bytes());
    key[8..].copy_from_slice(&scatter(number.wrapping_mul(3) + 7).to_be_bytes());
    NewMessage {
        recipient: RecipientKey { tenant: TenantName("example".into()), address: name(recipient) },
        deduplication: DeduplicationKey(key),
        deduplication_as_written: None,
        envelope: Envelope {
            kind: MessageKind::Message,
            mode: Mode::Page,
            sender: Sender {
                address: name(sender),
                uri: format!("sip:user{sender}@example.org"),
                verification: Verification::TrustedPeer,
                private: false,
            },
            request_uri: format!("sip:user{recipient}@example.org"),
            headers: vec![("Conversation-ID".into(), format!("{number:032x}"))],
            content_type: "message/cpim".into(),
            wrapped_type: Some("text/plain".into()),
            imdn: Some(ImdnHeaders {
                message_id: format!("{number:024x}"),
                date_time: Some("2026-11-24T12:00:00Z".into()),
                ..ImdnHeaders::default()
            }),
            page_base_bytes: Some(700),
        },
        body: Body::Inline(Bytes::from(vec![b'x'; body_bytes])),
        received_at: Timestamp(now),
        expires_at: Timestamp(now + 7 * 86_400_000),
        expiry_source: ExpirySource::Operator,
        priority: 100,
        hand_over_to: None,
    }
}

fn fdatasync_loop(directory: &Path, time: Duration) -> std::io::Result<(f64, f64)> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join("fdatasync");
    let mut file = std::fs::File::create(&path)?;
    let (began, cpu, mut count) = (Instant::now(), cpu_time(), 0u32);
    while began.elapsed() < time {
        file.write_all(&[b'x'; 1024])?;
        file.sync_data()?;
        count += 1;
    }
    let result = (f64::from(count) / began.elapsed().as_secs_f64(), (cpu_time() - cpu) * 1e6 / f64::from(count));
    std::fs::remove_file(path)?;
    Ok(result)
}

/// Seconds of all threads, user and system.
fn cpu_time() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let field = |index: usize| after_name.split_whitespace().nth(index).and_then(|it| it.parse::<f64>().ok());
    // Fields 14 and 15 of the line, in hundredths of a second.
    (field(11).unwrap_or(0.0) + field(12).unwrap_or(0.0)) / 100.0
}

fn written_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}

fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
