//! `restante client listen`

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use restante_client::{Client, ClientConfiguration, ClientError, ClientEvent, ClientEvents, FetchOutcome, Selection};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::show::{self, Show};
use super::{Connection, LIFETIME_SECONDS, Saving, register, start};

/// A moment that never comes within the life of a process.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    saving: Saving,
    /// Who registers: a SIP or tel URI.
    #[arg(long = "as", value_name = "URI")]
    identity: String,
    /// Subscribe to the summary of waiting messages, and fetch them when it announces some.
    #[arg(long)]
    pull: bool,
    /// Stop after this many seconds; by default at SIGINT or SIGTERM.
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Stop after this many messages; the exit status tells whether they came.
    #[arg(long, value_name = "N")]
    count: Option<usize>,
}

/// # Errors
/// The client cannot register, or nothing can be shown.
pub async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let configuration = arguments.connection.configuration(&arguments.identity).await?;
    let storage = arguments.saving.storage()?;
    let (client, events) = start(ClientConfiguration { storage, ..configuration }).await?;
    let show = Show::new(arguments.connection.json, arguments.saving.directory());
    let mut listener = Listener {
        client: client.clone(),
        show,
        pull: arguments.pull,
        fetching: None,
        told_again: false,
        received: 0,
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
    };
    register(&client).await?;
    let words = format!("{} is registered at {}", client.identity(), client.sip_address());
    let event = json!({ "event": "registered", "as": client.identity(), "contact": client.sip_address().to_string() });
    listener.show.say(&words, &event)?;
    let listened = listener.listen(arguments, events).await;
    let received = listener.received;
    listened?;
    let missing = arguments.count.is_some_and(|count| received < count);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

type Fetching = Pin<Box<dyn Future<Output = std::result::Result<FetchOutcome, ClientError>>>>;

struct Listener {
    client: Client,
    show: Show,
    pull: bool,
    fetching: Option<Fetching>,
    /// A summary came while messages were being fetched.
    told_again: bool,
    received: usize,
    interrupt: Signal,
    terminate: Signal,
}

impl Listener {
    async fn listen(&mut self, arguments: &Arguments, mut events: ClientEvents) -> Result<()> {
        if self.pull {
            let answer = self.client.subscribe_message_summary(LIFETIME_SECONDS).await.context("cannot subscribe")?;
            if !answer.is_success() {
                bail!("the server refused the subscription: {}", show::answer(&answer));
            }
        }
        let until = Instant::now() + arguments.seconds.map_or(FOREVER, Duration::from_secs);
        let result = self.until(until, arguments.count, &mut events).await;
        self.leave(&mut events).await?;
        result
    }

    async fn until(&mut self, until: Instant, count: Option<usize>, events: &mut ClientEvents) -> Result<()> {
        while count.is_none_or(|count| self.received < count) {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.event(&event)?,
                    None => bail!("the client ended"),
                },
                fetched = fetched(&mut self.fetching) => self.fetched(fetched)?,
                () = tokio::time::sleep_until(until) => break,
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &ClientEvent) -> Result<()> {
        self.show.event(event)?;
        match event {
            ClientEvent::Received(_) => self.received = self.received.saturating_add(1),
            ClientEvent::Summary { summary, .. } if self.pull && summary.messages_waiting => self.fetch(),
            _ => {}
        }
        Ok(())
    }

    fn fetch(&mut self) {
        if self.fetching.is_some() {
            self.told_again = true;
            return;
        }
        let client = self.client.clone();
        self.fetching = Some(Box::pin(async move { client.fetch(Selection::All).await }));
    }

    /// The messages were shown as they came.
    fn fetched(&mut self, fetched: std::result::Result<FetchOutcome, ClientError>) -> Result<()> {
        self.fetching = None;
        match fetched {
            Ok(outcome) if !outcome.answer.is_success() => {
                let words = format!("nothing was fetched: {}", show::answer(&outcome.answer));
                self.show.say(&words, &json!({ "event": "fetch-refused", "status": outcome.answer.status }))?;
            }
            Ok(_) => {}
            Err(error) => {
                self.show.say(&format!("nothing was fetched: {error}"), &json!({ "event": "fetch-failed" }))?;
            }
        }
        if std::mem::take(&mut self.told_again) {
            self.fetch();
        }
        Ok(())
    }

    /// Takes the registration back, and shows what was acknowledged until then.
    async fn leave(&mut self, events: &mut ClientEvents) -> Result<()> {
        if self.pull {
            let _ = self.client.subscribe_message_summary(0).await;
        }
        // The registration ends by itself when this is not heard.
        let _ = self.client.unregister().await;
        self.client.stop().await;
        self.pull = false;
        while let Some(event) = events.next().await {
            // The last words of a subscription that was ended here.
            if !matches!(event, ClientEvent::Summary { .. } | ClientEvent::SubscriptionEnded { .. }) {
                self.event(&event)?;
            }
        }
        Ok(())
    }
}

async fn fetched(fetching: &mut Option<Fetching>) -> std::result::Result<FetchOutcome, ClientError> {
    match fetching {
        Some(fetching) => fetching.await,
        None => std::future::pending().await,
    }
}
