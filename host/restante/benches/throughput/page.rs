//! MESSAGEs in and out, over one UDP socket each way.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::server::Server;

/// Requests without an answer at a time.
pub const WINDOW: u32 = 256;
/// Recipients, each with one contact.
pub const RECIPIENTS: u32 = 2_000;
/// Senders.
const SENDERS: u32 = 500;
/// An unanswered request is sent again after this, as a client transaction would.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Everything is given up after this long without any progress.
const STALLED: Duration = Duration::from_secs(30);

/// What storing cost.
pub struct Stored {
    pub per_second: f64,
    pub micros: f64,
    pub p99: Duration,
    pub slowest: Duration,
    pub sent_again: u32,
}

/// What delivering cost.
pub struct Delivered {
    pub per_second: f64,
    pub micros: f64,
    pub lost: u32,
    pub repeated: u32,
}

struct Book {
    /// Microseconds since the start at which each was first sent; 0: not yet.
    sent_at: Vec<AtomicU64>,
    /// Microseconds that the answer took; 0: none yet.
    took: Vec<AtomicU64>,
    answered: AtomicU32,
    refused: AtomicU32,
    done: AtomicBool,
}

/// Sends so many MESSAGEs for people who are away and waits for each one's 202.
pub fn store(server: &Server, messages: u32) -> Result<Stored> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server.sip)?;
    let port = socket.local_addr()?.port();
    let count = messages as usize;
    let zeros = || (0..count).map(|_| AtomicU64::new(0)).collect();
    let book = Book {
        sent_at: zeros(),
        took: zeros(),
        answered: AtomicU32::new(0),
        refused: AtomicU32::new(0),
        done: AtomicBool::new(false),
    };
    let (began, cpu) = (Instant::now(), server.cpu_seconds()?);
    let mut sent_again = 0;
    thread::scope(|scope| -> Result<()> {
        let receiver = socket.try_clone()?;
        let sender = thread::current();
        let (book_of_receiver, of_receiver) = (&book, receiver);
        scope.spawn(move || receive_answers(&of_receiver, book_of_receiver, began, &sender));
        let result = send_all(&socket, port, &book, began, messages, &mut sent_again);
        book.done.store(true, Ordering::Release);
        result
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = server.cpu_seconds()? - cpu;
    ensure!(book.refused.load(Ordering::Relaxed) == 0, "{} refused", book.refused.load(Ordering::Relaxed));
    let mut took: Vec<u64> = book.took.iter().map(|took| took.load(Ordering::Relaxed)).collect();
    took.sort_unstable();
    Ok(Stored {
        per_second: f64::from(messages) / seconds,
        micros: cpu * 1e6 / f64::from(messages),
        p99: Duration::from_micros(took.get(count * 99 / 100).copied().unwrap_or(0)),
        slowest: Duration::from_micros(took.last().copied().unwrap_or(0)),
        sent_again,
    })
}

fn send_all(
    socket: &UdpSocket,
    port: u16,
    book: &Book,
    began: Instant,
    messages: u32,
    sent_again: &mut u32,
) -> Result<()> {
    let (mut next, mut oldest) = (0, 0);
    let mut progress = (0, Instant::now());
    let mut checked = Instant::now();
    while book.answered.load(Ordering::Acquire) < messages {
        let answered = book.answered.load(Ordering::Acquire);
        if next < messages && next - answered < WINDOW {
            let now = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
            if let Some(sent_at) = book.sent_at.get(next as usize) {
                sent_at.store(now, Ordering::Release);
            }
            socket.send(request(next, port).as_bytes())?;
            next += 1;
            continue;
        }
        thread::park_timeout(Duration::from_millis(1));
        if answered > progress.0 {
            progress = (answered, Instant::now());
        }
        if progress.1.elapsed() > STALLED {
            bail!("only {answered} of {messages} were answered");
        }
        if checked.elapsed() > AGAIN_AFTER / 4 {
            checked = Instant::now();
            let unanswered =
                |number: &u32| book.took.get(*number as usize).is_some_and(|it| it.load(Ordering::Acquire) == 0);
            oldest = (oldest..next).find(unanswered).unwrap_or(next);
            for number in (oldest..next).filter(unanswered) {
                let at = |list: &[AtomicU64]| list.get(number as usize).map_or(0, |it| it.load(Ordering::Acquire));
                let age = began.elapsed().saturating_sub(Duration::from_micros(at(&book.sent_at)));
                if age > AGAIN_AFTER {
                    socket.send(request(number, port).as_bytes())?;
                    *sent_again += 1;
                }
            }
        }
    }
    Ok(())
}

fn receive_answers(socket: &UdpSocket, book: &Book, began: Instant, sender: &thread::Thread) {
    let _ = socket.set_read_timeout(Some(Duration::from_millis(50)));
    let mut buffer = [0; 4096];
    while !book.done.load(Ordering::Acquire) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        let number =
            answer.split("Call-ID: store-").nth(1).and_then(|rest| rest.split('@').next()?.parse::<usize>().ok());
        let Some(number) = number else { continue };
        let (Some(sent_at), Some(took)) = (book.sent_at.get(number), book.took.get(number)) else { continue };
        if took.load(Ordering::Acquire) != 0 {
            continue;
        }
        let now = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        took.store(now.saturating_sub(sent_at.load(Ordering::Acquire)).max(1), Ordering::Release);
        if !answer.starts_with("SIP/2.0 202") {
            book.refused.fetch_add(1, Ordering::Relaxed);
        }
        book.answered.fetch_add(1, Ordering::AcqRel);
        sender.unpark();
    }
}

/// A MESSAGE as a client sends it: CPIM with a Message-ID, asking for delivery to be reported.
fn request(number: u32, port: u16) -> String {
    let (recipient, sender) = (number % RECIPIENTS, number.wrapping_mul(7919) % SENDERS);
    let text = format!("This is message {number:08}, and it says that I am late and that you should begin without me.");
    let body = format!(
        "From: <sip:sender{sender}@example.org>\r\nTo: <sip:recipient{recipient}@example.org>\r\n\
         DateTime: 2026-11-24T12:00:00.000Z\r\nNS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: id{number:08}\r\n\
         imdn.Disposition-Notification: positive-delivery, negative-delivery\r\n\r\n\
         Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    format!(
        "MESSAGE sip:recipient{recipient}@example.org SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKstore{number};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:sender{sender}@example.org>;tag=f{number}\r\nTo: <sip:recipient{recipient}@example.org>\r\n\
         Call-ID: store-{number}@bench\r\nCSeq: 1 MESSAGE\r\n\
         Conversation-ID: f81d4fae-7dec-11d0-a765-00a0c91e6bf6\r\nContribution-ID: abcdef01-7dec-11d0-a765-00a0c9{number:08}\r\n\
         Accept-Contact: *;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"\r\n\
         Content-Type: message/cpim\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Registers every recipient and takes what comes.
pub fn deliver(server: &Server, messages: u32) -> Result<Delivered> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut device = Device { socket, seen: vec![0; messages as usize], received: 0, registered: 0 };
    let mut next = 0;
    let cpu = server.cpu_seconds()?;
    let mut progress = (0, Instant::now());
    let mut first = None;
    while device.received < messages {
        // A few at a time: a storm of registrations is another measurement.
        while next < RECIPIENTS && next < device.registered + 64 {
            device.socket.send_to(register(next, port).as_bytes(), server.sip)?;
            next += 1;
        }
        device.take()?;
        if device.received > 0 && first.is_none() {
            first = Some(Instant::now());
        }
        if device.received + device.registered > progress.0 {
            progress = (device.received + device.registered, Instant::now());
        }
        if progress.1.elapsed() > STALLED {
            break;
        }
    }
    let seconds = first.map_or(f64::INFINITY, |first| first.elapsed().as_secs_f64());
    let cpu = server.cpu_seconds()? - cpu;
    Ok(Delivered {
        per_second: f64::from(device.received) / seconds,
        micros: cpu * 1e6 / f64::from(device.received.max(1)),
        lost: messages - device.received,
        repeated: device.seen.iter().map(|times| times.saturating_sub(1)).sum(),
    })
}

struct Device {
    socket: UdpSocket,
    /// How often each message came.
    seen: Vec<u32>,
    received: u32,
    registered: u32,
}

impl Device {
    fn take(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { return Ok(()) };
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        if text.starts_with("SIP/2.0 ") {
            ensure!(text.starts_with("SIP/2.0 200"), "REGISTER was answered {:?}", text.lines().next());
            self.registered += 1;
            return Ok(());
        }
        let number = text.split("This is message ").nth(1).and_then(|rest| rest.get(..8)?.parse::<usize>().ok());
        if let Some(seen) = number.and_then(|number| self.seen.get_mut(number)) {
            *seen += 1;
            self.received += u32::from(*seen == 1);
        }
        let mut answer = String::from("SIP/2.0 200 OK\r\n");
        for line in text.split("\r\n").take_while(|line| !line.is_empty()) {
            if ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name)) {
                answer.push_str(line);
                answer.push_str(if line.starts_with("To:") && !line.contains(";tag=") {
                    ";tag=device\r\n"
                } else {
                    "\r\n"
                });
            }
        }
        answer.push_str("Content-Length: 0\r\n\r\n");
        self.socket.send_to(answer.as_bytes(), from)?;
        Ok(())
    }
}

fn register(recipient: u32, port: u16) -> String {
    format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKreg{recipient};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:recipient{recipient}@example.org>;tag=r{recipient}\r\n\
         To: <sip:recipient{recipient}@example.org>\r\nCall-ID: register-{recipient}@bench\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:recipient{recipient}@127.0.0.1:{port}>;expires=3600\r\nContent-Length: 0\r\n\r\n"
    )
}
