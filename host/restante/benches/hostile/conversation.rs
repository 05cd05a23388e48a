//! People of one tenant who talk, and messages that come for another one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use restante_client::{Client, ClientConfiguration, ClientEvent, ClientEvents, PageMessage};

/// One phase, alone or beside.
const PHASE: Duration = Duration::from_millis(1_000);
/// What is left out after a change of phase: the other one's last messages are still on their way.
const SETTLING: Duration = Duration::from_millis(200);
/// Pairs that talk at a time.
const PAIRS: u32 = 2;
/// Between two messages for the hostile tenant.
const HOSTILE_EVERY: Duration = Duration::from_millis(10);
/// Recipients of the hostile tenant; half of them are there.
const HOSTILE_RECIPIENTS: u32 = 4;
/// A message that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of one tenant's messages, from sending to arrival.
#[derive(Clone, Copy)]
pub struct Latencies {
    pub p50: Duration,
    pub p99: Duration,
}

/// Both tenants' people.
pub struct Beside {
    sip: SocketAddr,
    pairs: Vec<(Client, Client, ClientEvents)>,
    mallory: Client,
    /// Of those who only send: kept, because a client ends with whoever listens to it.
    unheard: Vec<ClientEvents>,
    number: u64,
}

impl Beside {
    /// The other tenant's people; recipients are registered.
    pub async fn start(sip: SocketAddr) -> Result<Beside> {
        let (mallory, events) = client(sip, "sip:mallory@example.org").await?;
        let mut beside = Beside { sip, pairs: Vec::new(), mallory, unheard: vec![events], number: 0 };
        for pair in 0..PAIRS {
            let (alice, events) = client(sip, &format!("sip:alice{pair}@example.org")).await?;
            let (bob, received) = client(sip, &format!("sip:bob{pair}@example.org")).await?;
            register(&bob).await?;
            beside.unheard.push(events);
            beside.pairs.push((alice, bob, received));
        }
        Ok(beside)
    }

    /// The other tenant's times alone and beside the tenant of this domain, phase by phase.
    pub async fn measure(&mut self, domain: &str, rounds: u32) -> Result<(Latencies, Latencies)> {
        let mut there = Vec::new();
        for recipient in 0..HOSTILE_RECIPIENTS / 2 {
            let (bob, events) = client(self.sip, &format!("sip:{recipient}@{domain}")).await?;
            register(&bob).await?;
            there.push((bob, events));
        }
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.extend(self.phase(None).await?);
            together.extend(self.phase(Some(domain)).await?);
        }
        for (bob, _) in there {
            bob.stop().await;
        }
        Ok((latencies(alone), latencies(together)))
    }

    /// Ends all clients.
    pub async fn stop(self) {
        for (alice, bob, _) in self.pairs {
            alice.stop().await;
            bob.stop().await;
        }
        self.mallory.stop().await;
    }

    async fn phase(&mut self, domain: Option<&str>) -> Result<Vec<Duration>> {
        let began = Instant::now();
        self.number += 1;
        let number = self.number;
        let talk = self.pairs.iter_mut().enumerate();
        let talk: Vec<_> = talk.map(|(pair, it)| converse(it, format!("{number}-{pair}"), began)).collect();
        let disturb = disturb(&self.mallory, domain, began);
        let (talked, disturbed) = tokio::join!(join_all(talk), disturb);
        disturbed?;
        Ok(talked?.concat())
    }
}

/// Sends one message after the other until the phase is over; how long each took.
async fn converse(
    (alice, bob, events): &mut (Client, Client, ClientEvents),
    name: String,
    began: Instant,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    let mut number = 0_u64;
    while began.elapsed() < PHASE {
        number += 1;
        let text = format!("{name}-{number}");
        let sent_at = Instant::now();
        let outcome = alice.send(PageMessage::text(bob.identity(), &text)).await?;
        ensure!(outcome.answer.status == 202, "{text} was answered {}", outcome.answer.status);
        let arrival = async {
            while let Some(event) = events.next().await {
                if let ClientEvent::Received(message) = event {
                    return message.text() == Some(text.as_str());
                }
            }
            false
        };
        ensure!(tokio::time::timeout(PATIENCE, arrival).await?, "{text} is lost");
        if began.elapsed() > SETTLING {
            took.push(sent_at.elapsed());
        }
    }
    Ok(took)
}

/// Messages for the hostile tenant at a steady rate, whatever becomes of those before; all are accepted.
async fn disturb(mallory: &Client, domain: Option<&str>, began: Instant) -> Result<()> {
    let Some(domain) = domain else { return Ok(()) };
    let mut sent = Vec::new();
    let mut recipient = 0;
    while began.elapsed() < PHASE {
        recipient = (recipient + 1) % HOSTILE_RECIPIENTS;
        let message = PageMessage::text(&format!("sip:{recipient}@{domain}"), "for a tenant that means harm");
        let client = mallory.clone();
        sent.push(tokio::task::spawn_local(async move { client.send(message).await }));
        tokio::time::sleep(HOSTILE_EVERY).await;
    }
    for outcome in sent {
        let status = outcome.await??.answer.status;
        if status != 202 {
            bail!("a message for {domain} was answered {status}");
        }
    }
    Ok(())
}

async fn join_all<T: 'static>(futures: Vec<impl Future<Output = Result<Vec<T>>>>) -> Result<Vec<Vec<T>>> {
    let mut pinned: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in &mut pinned {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if pinned.iter().any(|(_, done)| done.is_none()) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(pinned.iter_mut().filter_map(|(_, done)| done.take()).collect())
    })
    .await
}

async fn client(sip: SocketAddr, identity: &str) -> Result<(Client, ClientEvents)> {
    Ok(Client::start(ClientConfiguration::new(identity, sip)).await?)
}

async fn register(client: &Client) -> Result<()> {
    let status = client.register(3_600).await?.status;
    ensure!(status == 200, "{} was answered {status}", client.identity());
    Ok(())
}

fn latencies(mut all: Vec<Duration>) -> Latencies {
    Latencies { p50: percentile(&mut all, 50), p99: percentile(&mut all, 99) }
}

/// So many of a hundred are at most this.
pub fn percentile(all: &mut [Duration], percent: usize) -> Duration {
    all.sort_unstable();
    let index = (all.len() * percent / 100).min(all.len().saturating_sub(1));
    all.get(index).copied().unwrap_or_default()
}
