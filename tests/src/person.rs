//! A client and what happened to it.

use std::collections::VecDeque;
use std::sync::Arc;

use restante_client::{Client, ClientEvent, ClientEvents, PageMessage, PageOutcome, ReceivedMessage, SessionSummary};
use restante_cpim::imdn::Disposition;
use restante_cpim::message_summary::MessageSummary;
use tokio::time::timeout;

use crate::patience::{PATIENCE, in_time};
use crate::recorder::Recorder;

/// A client. What it is asked for is taken out of what happened to it, in order; the rest stays to be asked for.
pub struct Person {
    /// The client itself.
    pub client: Client,
    /// What it sees on the wire.
    pub wire: Arc<Recorder>,
    events: ClientEvents,
    unread: VecDeque<ClientEvent>,
}

impl Person {
    /// From a client that runs.
    #[must_use]
    pub fn new(client: Client, events: ClientEvents, wire: Arc<Recorder>) -> Person {
        Person { client, wire, events, unread: VecDeque::new() }
    }

    /// The address-of-record.
    #[must_use]
    pub fn address(&self) -> &str {
        self.client.identity()
    }

    /// Registers for an hour.
    ///
    /// # Panics
    /// It is not taken.
    pub async fn register(&self) {
        let answer =
            in_time("an answer to REGISTER", self.client.register(3_600)).await.expect("an answer to REGISTER");
        assert_eq!(answer.status, 200, "REGISTER of {}: {answer:?}", self.address());
    }

    /// Takes the registration back.
    ///
    /// # Panics
    /// It is not taken.
    pub async fn unregister(&self) {
        let answer = in_time("an answer to REGISTER", self.client.unregister()).await.expect("an answer to REGISTER");
        assert_eq!(answer.status, 200, "REGISTER of {}: {answer:?}", self.address());
    }

    /// Sends text that is taken for later.
    ///
    /// # Panics
    /// It is not taken.
    pub async fn send(&self, to: &str, text: &str) -> PageOutcome {
        self.send_message(PageMessage::text(to, text)).await
    }

    /// Sends a message that is taken for later.
    ///
    /// # Panics
    /// It is not taken.
    pub async fn send_message(&self, message: PageMessage) -> PageOutcome {
        let outcome = self.try_send(message).await;
        assert_eq!(outcome.answer.status, 202, "{outcome:?}");
        outcome
    }

    /// Sends a message, whatever comes of it.
    ///
    /// # Panics
    /// No answer comes.
    pub async fn try_send(&self, message: PageMessage) -> PageOutcome {
        in_time("an answer to MESSAGE", self.client.send(message)).await.expect("an answer to MESSAGE")
    }

    /// The next message.
    ///
    /// # Panics
    /// None comes.
    pub async fn received(&mut self) -> ReceivedMessage {
        self.expect("a message", |event| match event {
            ClientEvent::Received(message) => Some((**message).clone()),
            _ => None,
        })
        .await
    }

    /// The texts of the next messages.
    ///
    /// # Panics
    /// So many do not come.
    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::with_capacity(count);
        for _ in 0..count {
            texts.push(self.received().await.text().unwrap_or("(no text)").to_owned());
        }
        texts
    }

    /// The next summary of waiting messages.
    ///
    /// # Panics
    /// None comes.
    pub async fn summary(&mut self) -> MessageSummary {
        self.expect("a summary", |event| match event {
            ClientEvent::Summary { summary, .. } => Some(summary.clone()),
            _ => None,
        })
        .await
    }

    /// The next disposition notification: which message, and what became of it.
    ///
    /// # Panics
    /// None comes.
    pub async fn disposition(&mut self) -> (String, Disposition) {
        self.expect("a disposition notification", |event| match event {
            ClientEvent::Disposition { message_id, disposition, .. } => Some((message_id.clone(), *disposition)),
            _ => None,
        })
        .await
    }

    /// The next session that is over.
    ///
    /// # Panics
    /// None is.
    pub async fn session_ended(&mut self) -> SessionSummary {
        self.expect("the end of a session", |event| match event {
            ClientEvent::SessionEnded { summary, .. } => Some(summary.clone()),
            _ => None,
        })
        .await
    }

    /// The next answer that a script gave: the method and the status.
    ///
    /// # Panics
    /// None is given.
    pub async fn scripted(&mut self) -> (String, Option<u16>) {
        self.expect("an answer by the script", |event| match event {
            ClientEvent::Scripted { method, status, .. } => Some((method.clone(), *status)),
            _ => None,
        })
        .await
    }

    /// Waits for something.
    ///
    /// # Panics
    /// It does not happen; tells what did.
    pub async fn expect<T>(&mut self, what: &str, pick: impl Fn(&ClientEvent) -> Option<T>) -> T {
        if let Some((at, found)) = self.unread.iter().enumerate().find_map(|(at, event)| Some((at, pick(event)?))) {
            self.unread.remove(at);
            return found;
        }
        loop {
            let Ok(next) = timeout(PATIENCE, self.events.next()).await else {
                panic!("{} waited {PATIENCE:?} for {what}; what happened instead: {:#?}", self.address(), self.unread);
            };
            let Some(event) = next else { panic!("{} was stopped while it waited for {what}", self.address()) };
            match pick(&event) {
                Some(found) => return found,
                None => self.unread.push_back(event),
            }
        }
    }

    /// Everything that happened and was not asked for.
    pub fn unread(&mut self) -> Vec<ClientEvent> {
        while let Some(event) = self.events.try_next() {
            self.unread.push_back(event);
        }
        self.unread.drain(..).collect()
    }

    /// Texts of the messages that came and were not asked for.
    pub fn unread_texts(&mut self) -> Vec<String> {
        let texts = |event: ClientEvent| match event {
            ClientEvent::Received(message) => Some(message.text().unwrap_or("(no text)").to_owned()),
            _ => None,
        };
        self.unread().into_iter().filter_map(texts).collect()
    }
}
