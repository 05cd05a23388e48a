//! Large messages, pushed and fetched: what SIPp cannot do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use restante_client::{
    Client, ClientConfiguration, ClientCredentials, ClientEvent, ClientEvents, LargeMessage, Selection, Source,
};
use restante_transport::Protocol;

/// From one large message to the next.
const EVERY: Duration = Duration::from_secs(3);
/// A recipient that got nothing in this time asks again: on a machine that is busy with something else, what it asked may have
/// met 503, and an attempt may have failed.
const ASK_AGAIN: Duration = Duration::from_secs(20);
/// A message that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(180);
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

/// Somebody who sends large messages to somebody who is away and comes for each.
#[derive(Clone)]
pub struct Pair {
    /// What their names begin with.
    pub name: &'static str,
    pub domain: &'static str,
    pub way: Way,
    pub server: SocketAddr,
    pub transport: Protocol,
    /// Both have it, and are asked for it.
    pub password: Option<String>,
    /// Who signs the server's certificate: then MSRP is encrypted, too.
    pub authorities: Option<PathBuf>,
}

impl Pair {
    /// What they are called.
    pub fn names(&self) -> [String; 2] {
        ["sender", "recipient"].map(|role| format!("{}-{role}", self.name))
    }

    /// Lets them exchange messages until then. How many.
    pub async fn exchange(self, until: Instant) -> Result<u64> {
        let [sender, recipient] = self.names();
        let (alice, _alice_events) = self.start(&sender).await?;
        let mut count = 0_u64;
        while Instant::now() < until {
            let began = Instant::now();
            let size = BODY_BYTES.0 + count.wrapping_mul(7_919_000) % BODY_BYTES.1;
            let body: Vec<u8> = (0..size).map(|number| (number.wrapping_mul(count + 31) >> 3) as u8).collect();
            let source = Source::Bytes(Bytes::from(body));
            let to = format!("sip:{recipient}@{}", self.domain);
            let sent = alice.send_large(LargeMessage::new(&to, "application/octet-stream", source)).await?;
            // On a machine that is busy with something else a decision may come too late: 503, and the sender tries again.
            if sent.answer.status == 503 {
                tokio::time::sleep(EVERY).await;
                continue;
            }
            ensure!(sent.accepted, "{}: not accepted: {} {}", self.name, sent.answer.status, sent.detail);
            let come = tokio::time::timeout(PATIENCE, self.come(&recipient)).await;
            let sha256 = come.with_context(|| format!("{}: a large message is lost", self.name))??;
            ensure!(sha256.as_deref() == Some(&sent.sha256), "{}: what came is not what was sent", self.name);
            count += 1;
            tokio::time::sleep(EVERY.saturating_sub(began.elapsed())).await;
        }
        alice.stop().await;
        Ok(count)
    }

    /// The recipient comes, with sockets of its own each time, gets a message and goes. The message's digest.
    async fn come(&self, name: &str) -> Result<Option<String>> {
        let (bob, mut events) = self.start(name).await?;
        let sha256 = loop {
            match self.way {
                Way::Push => _ = bob.register(600).await?,
                Way::Fetch => _ = bob.fetch(Selection::All).await?,
            }
            if let Ok(sha256) = tokio::time::timeout(ASK_AGAIN, received(&mut events)).await {
                break sha256;
            }
        };
        if let Way::Push = self.way {
            bob.unregister().await?;
        }
        bob.stop().await;
        Ok(sha256)
    }

    async fn start(&self, name: &str) -> Result<(Client, ClientEvents)> {
        let mut configuration = ClientConfiguration::new(&format!("sip:{name}@{}", self.domain), self.server);
        configuration.transport = self.transport;
        configuration.credentials =
            self.password.clone().map(|password| ClientCredentials { username: name.to_owned(), password });
        configuration.tls.files.authorities = self.authorities.clone();
        configuration.tls.media = self.authorities.is_some();
        Ok(Client::start(configuration).await?)
    }
}

/// The next message's digest.
async fn received(events: &mut ClientEvents) -> Option<String> {
    loop {
        if let ClientEvent::Received(message) = events.next().await? {
            return Some(message.sha256);
        }
    }
}
