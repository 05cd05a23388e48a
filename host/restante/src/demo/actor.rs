//! Somebody in a story: a client, and what happened to it.
//!
//! Everything that is waited for is waited for a bounded time, and what did not come is said in a sentence.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use restante_client::{
    Client, ClientConfiguration, ClientError, ClientEvent, ClientEvents, FetchOutcome, LargeMessage, Mode, PageMessage,
    ReceivedMessage, Selection, SessionSummary,
};
use restante_cpim::imdn::Disposition;
use restante_cpim::message_summary::MessageSummary;
use restante_sip::identity::canonical;
use restante_sip::uri::Uri;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::ledger::{Ledger, Received, Sent};
use super::recorder::Lane;
use super::{Progress, Transfer};

/// How long anything may take that must happen. A disk that others write to may hold one commit up for half a minute.
pub const PATIENCE: Duration = Duration::from_secs(45);
/// How long the transfer of a large message may take.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(60);
/// Lifetime of registrations and subscriptions.
const LIFETIME_SECONDS: u32 = 600;
/// Characters of a message that name it.
const NAME_CHARACTERS: usize = 40;

/// A client with a name.
#[derive(Clone)]
pub struct Actor {
    name: String,
    address: String,
    client: Client,
    lane: Arc<Lane>,
    inbox: Arc<Inbox>,
    ledger: Arc<Mutex<Ledger>>,
    progress: Option<Progress>,
    is_registered: Arc<AtomicBool>,
}

/// What happened to a client so far.
struct Inbox {
    events: Mutex<Vec<ClientEvent>>,
    changed: watch::Sender<()>,
}

impl Actor {
    /// Starts the client.
    ///
    /// # Errors
    /// No socket can be opened.
    pub async fn start(
        name: &str,
        configuration: ClientConfiguration,
        lane: Arc<Lane>,
        ledger: Arc<Mutex<Ledger>>,
        progress: Option<Progress>,
    ) -> Result<Actor> {
        let address = canonical_text(&configuration.identity)?;
        let observed = ClientConfiguration { observer: Some(lane.clone()), ..configuration };
        let (client, events) = Client::start(observed).await.with_context(|| format!("{name}'s client"))?;
        let inbox = Arc::new(Inbox { events: Mutex::default(), changed: watch::Sender::new(()) });
        tokio::spawn(listen(events, address.clone(), Arc::clone(&inbox), Arc::clone(&ledger)));
        let is_registered = Arc::default();
        Ok(Actor { name: name.to_owned(), address, client, lane, inbox, ledger, progress, is_registered })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Registers.
    ///
    /// # Errors
    /// It was refused, or not answered.
    pub async fn registers(&self) -> Result<()> {
        let answer = self.answered("REGISTER", PATIENCE, self.client.register(LIFETIME_SECONDS)).await?;
        ensure!(answer.is_success(), "{}'s REGISTER was answered {} {}", self.name, answer.status, answer.reason);
        self.is_registered.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it ever did.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.is_registered.load(Ordering::Relaxed)
    }

    /// Subscribes to the summary of its waiting messages.
    ///
    /// # Errors
    /// It was refused, or not answered.
    pub async fn subscribes(&self) -> Result<()> {
        let subscribed = self.client.subscribe_message_summary(LIFETIME_SECONDS);
        let answer = self.answered("SUBSCRIBE", PATIENCE, subscribed).await?;
        ensure!(answer.is_success(), "{}'s SUBSCRIBE was answered {} {}", self.name, answer.status, answer.reason);
        Ok(())
    }

    /// Sends a message in page mode, which must be accepted for later. Gives its Message-ID.
    ///
    /// # Errors
    /// It was refused, or not answered.
    pub async fn sends(&self, message: PageMessage) -> Result<String> {
        self.sends_page(message, false).await
    }

    /// Sends a message in page mode that nobody is to get before its time is up. Gives its Message-ID.
    ///
    /// # Errors
    /// It was refused, or not answered.
    pub async fn sends_in_vain(&self, message: PageMessage) -> Result<String> {
        self.sends_page(message, true).await
    }

    async fn sends_page(&self, message: PageMessage, expires: bool) -> Result<String> {
        let what = String::from_utf8_lossy(&message.content).chars().take(NAME_CHARACTERS).collect();
        let (to, size) = (canonical_text(&message.to)?, message.content.len() as u64);
        let outcome = self.answered("MESSAGE", PATIENCE, self.client.send(message)).await?;
        let answer = outcome.answer;
        ensure!(
            answer.status == 202,
            "{}'s MESSAGE was answered {} {}, expected 202 Accepted",
            self.name,
            answer.status,
            answer.reason
        );
        let (message_id, sha256) = (outcome.message_id, outcome.sha256);
        self.ledger().sent(Sent { to, message_id: message_id.clone(), sha256, size, what, expires });
        Ok(message_id)
    }

    /// Sends a message in large message mode, which must be accepted. Gives its Message-ID.
    ///
    /// # Errors
    /// It was refused, or broke off.
    pub async fn sends_large(&self, message: LargeMessage, what: &str) -> Result<String> {
        let to = canonical_text(&message.to)?;
        let progress = self.progress.clone().map(|progress| -> restante_client::Progress {
            let label = format!("{} sends", self.name);
            Arc::new(move |done_bytes, total_bytes| {
                progress(&Transfer { label: label.clone(), done_bytes, total_bytes });
            })
        });
        let message = LargeMessage { progress, ..message };
        let sent = self.client.send_large(message);
        let outcome = self.answered("INVITE and the transfer after it", TRANSFER_PATIENCE, sent).await?;
        let status = outcome.answer.status;
        ensure!(outcome.accepted, "{}'s large message was not accepted: {status}, {}", self.name, outcome.detail);
        let (message_id, sha256, size) = (outcome.message_id, outcome.sha256, outcome.size);
        let what = what.to_owned();
        self.ledger().sent(Sent { to, message_id: message_id.clone(), sha256, size, what, expires: false });
        Ok(message_id)
    }

    /// Fetches deferred messages; the session must be ended by the server's BYE.
    ///
    /// # Errors
    /// It was refused, broke off, or brought another number of messages.
    pub async fn fetches(&self, selection: Selection, expected: usize) -> Result<FetchOutcome> {
        let fetched = self.answered("INVITE that fetches", TRANSFER_PATIENCE, self.client.fetch(selection)).await?;
        let answer = &fetched.answer;
        ensure!(answer.is_success(), "{}'s fetch was answered {} {}", self.name, answer.status, answer.reason);
        ensure!(fetched.orderly, "the session that {} fetched in was not ended by BYE", self.name);
        let came = fetched.messages.len();
        ensure!(came == expected, "{}'s fetch brought {came} messages, expected {expected}", self.name);
        Ok(fetched)
    }

    /// Shows MSRP content as it comes in.
    pub fn watches_incoming(&self, total_bytes: u64) {
        if let Some(progress) = &self.progress {
            let transfer = Transfer { label: format!("{} receives", self.name), done_bytes: 0, total_bytes };
            self.lane.watch_incoming(transfer, progress.clone());
        }
    }

    /// Waits until so many messages came in all.
    ///
    /// # Errors
    /// They did not come in time.
    pub async fn receives(&self, count: usize) -> Result<Vec<ReceivedMessage>> {
        let missing = |events: &[ClientEvent]| {
            let missing = self.ledger().missing(&self.address);
            let came = received(events).len();
            format!("{} received {came} of {count} messages; missing: {}", self.name, missing.join(", "))
        };
        let found = |events: &[ClientEvent]| Some(received(events)).filter(|received| received.len() >= count);
        let patience = if count > 0 { TRANSFER_PATIENCE } else { PATIENCE };
        self.waits(patience, missing, found).await
    }

    /// Waits for a summary that lists so many messages.
    ///
    /// # Errors
    /// It did not come in time.
    pub async fn is_told_of(&self, count: usize) -> Result<MessageSummary> {
        let missing = |_: &[ClientEvent]| format!("{} was not told of {count} waiting messages", self.name);
        let found = |events: &[ClientEvent]| {
            events.iter().rev().find_map(|event| match event {
                ClientEvent::Summary { summary, .. } if summary.messages.len() >= count => Some(summary.clone()),
                _ => None,
            })
        };
        self.waits(PATIENCE, missing, found).await
    }

    /// Waits for the end of the nth session in which messages came, the first being 1.
    ///
    /// # Errors
    /// It did not come in time.
    pub async fn sees_session_end(&self, nth: usize) -> Result<SessionSummary> {
        let missing = |_: &[ClientEvent]| format!("{}'s session number {nth} did not end", self.name);
        let found = |events: &[ClientEvent]| {
            let mut ended = events.iter().filter_map(|event| match event {
                ClientEvent::SessionEnded { summary, .. } => Some(summary.clone()),
                _ => None,
            });
            ended.nth(nth.saturating_sub(1))
        };
        self.waits(PATIENCE, missing, found).await
    }

    /// Waits for this disposition of a message that it sent.
    ///
    /// # Errors
    /// It did not come in time.
    pub async fn is_notified(&self, message_id: &str, expected: Disposition) -> Result<()> {
        let (_, status) = expected.elements();
        let missing = |_: &[ClientEvent]| format!("{} got no notification that says {status:?}", self.name);
        let found = |events: &[ClientEvent]| {
            events.iter().find_map(|event| match event {
                ClientEvent::Disposition { message_id: of, disposition, .. } if of == message_id => {
                    (*disposition == expected).then_some(())
                }
                _ => None,
            })
        };
        self.waits(PATIENCE, missing, found).await
    }

    /// Whether every message came in this mode.
    ///
    /// # Errors
    /// One came otherwise.
    pub fn got_everything_by(&self, mode: Mode) -> Result<()> {
        match received(&self.inbox.events()).iter().find(|message| message.mode != mode) {
            Some(message) => bail!("{} got a message by {:?}, expected {mode:?}", self.name, message.mode),
            None => Ok(()),
        }
    }

    /// Whether its messages came in the order in which they were accepted.
    ///
    /// # Errors
    /// They did not.
    pub fn got_everything_in_order(&self) -> Result<()> {
        ensure!(self.ledger().is_in_order(&self.address), "{}'s messages came in another order", self.name);
        Ok(())
    }

    /// How many summaries came.
    #[must_use]
    pub fn summaries(&self) -> usize {
        self.inbox.events().iter().filter(|event| matches!(event, ClientEvent::Summary { .. })).count()
    }

    async fn answered<T>(
        &self,
        what: &str,
        patience: Duration,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T> {
        match timeout(patience, answer).await {
            Ok(answer) => answer.with_context(|| format!("{}'s {what}", self.name)),
            Err(_) => bail!("{}'s {what}: no answer within {} s", self.name, patience.as_secs()),
        }
    }

    async fn waits<T>(
        &self,
        patience: Duration,
        missing: impl Fn(&[ClientEvent]) -> String,
        found: impl Fn(&[ClientEvent]) -> Option<T>,
    ) -> Result<T> {
        let mut changed = self.inbox.changed.subscribe();
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = found(&self.inbox.events()) {
                return Ok(found);
            }
            match timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => bail!("{}: the client is gone", missing(&self.inbox.events())),
                Err(_) => bail!("{}, waited {} s", missing(&self.inbox.events()), patience.as_secs()),
            }
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    fn events(&self) -> MutexGuard<'_, Vec<ClientEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what happens to a client until it is gone.
async fn listen(mut events: ClientEvents, address: String, inbox: Arc<Inbox>, ledger: Arc<Mutex<Ledger>>) {
    while let Some(event) = events.next().await {
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            ClientEvent::Received(message) => ledger.received(Received {
                by: address.clone(),
                message_id: message.message_id.clone(),
                sha256: message.sha256.clone(),
                size: message.size,
            }),
            ClientEvent::Disposition { message_id, disposition: Disposition::DeliveryFailed, .. } => {
                ledger.failure_told(message_id);
            }
            _ => {}
        }
        drop(ledger);
        inbox.events().push(event);
        inbox.changed.send_replace(());
    }
}

fn received(events: &[ClientEvent]) -> Vec<ReceivedMessage> {
    events
        .iter()
        .filter_map(|event| match event {
            ClientEvent::Received(message) => Some(ReceivedMessage::clone(message)),
            _ => None,
        })
        .collect()
}

fn canonical_text(uri: &str) -> Result<String> {
    let parsed = Uri::parse(uri).ok().and_then(|uri| canonical(&uri));
    parsed.with_context(|| format!("{uri:?} is not the address of a user"))
}
