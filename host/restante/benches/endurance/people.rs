//! Large messages, pushed and fetched: what SIPp cannot do.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use restante_client::{Client, ClientConfiguration, ClientEvent, ClientEvents, LargeMessage, Selection, Source};

/// From one large message to the next.
const EVERY: Duration = Duration::from_secs(3);
/// A message that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// The smallest and the most more than that.
const BODY_BYTES: (u64, u64) = (20_000, 400_000);

/// How a recipient gets what waits.
#[derive(Clone, Copy)]
pub enum Way {
    /// It registers.
    Push,
    /// It asks.
    Fetch,
}

/// Lets somebody send large messages to somebody who is away and comes for each, until then. How many.
pub async fn exchange(server: SocketAddr, name: &str, way: Way, until: Instant) -> Result<u64> {
    let start =
        async |name: String| Client::start(ClientConfiguration::new(&format!("sip:{name}@example.org"), server)).await;
    let (alice, _alice_events) = start(format!("{name}-sender")).await?;
    let (bob, mut bob_events) = start(format!("{name}-recipient")).await?;
    let mut count = 0_u64;
    while Instant::now() < until {
        let began = Instant::now();
        let size = BODY_BYTES.0 + count.wrapping_mul(7_919_000) % BODY_BYTES.1;
        let body: Vec<u8> = (0..size).map(|number| (number.wrapping_mul(count + 31) >> 3) as u8).collect();
        let source = Source::Bytes(Bytes::from(body));
        let sent = alice.send_large(LargeMessage::new(bob.identity(), "application/octet-stream", source)).await?;
        // On a machine that is busy with something else a decision may come too late: 503, and the sender tries again.
        if sent.answer.status == 503 {
            tokio::time::sleep(EVERY).await;
            continue;
        }
        ensure!(sent.accepted, "{name}: not accepted: {} {}", sent.answer.status, sent.detail);
        match way {
            Way::Push => _ = bob.register(600).await?,
            Way::Fetch => _ = bob.fetch(Selection::All).await?,
        }
        let received = tokio::time::timeout(PATIENCE, received(&mut bob_events)).await;
        let sha256 = received.with_context(|| format!("{name}: a large message is lost"))?;
        ensure!(sha256.as_deref() == Some(&sent.sha256), "{name}: what came is not what was sent");
        if let Way::Push = way {
            bob.unregister().await?;
        }
        count += 1;
        tokio::time::sleep(EVERY.saturating_sub(began.elapsed())).await;
    }
    alice.stop().await;
    bob.stop().await;
    Ok(count)
}

/// The next message's digest.
async fn received(events: &mut ClientEvents) -> Option<String> {
    loop {
        if let ClientEvent::Received(message) = events.next().await? {
            return Some(message.sha256);
        }
    }
}
