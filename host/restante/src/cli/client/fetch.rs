//! `restante client fetch`

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use restante_client::{ClientConfiguration, Selection};
use serde_json::json;

use super::super::table::counted;
use super::show::{self, Show};
use super::{Connection, Saving, start};

#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    saving: Saving,
    /// Whose messages: a SIP or tel URI.
    #[arg(long = "as", value_name = "URI")]
    identity: String,
    /// Only the message with this id, as a summary lists it; may be given several times.
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
}

/// # Errors
/// The server does not answer, or nothing can be shown.
pub async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let configuration = arguments.connection.configuration(&arguments.identity).await?;
    let storage = arguments.saving.storage()?;
    let (client, mut events) = start(ClientConfiguration { storage, ..configuration }).await?;
    let show = Show::new(arguments.connection.json, arguments.saving.directory());
    let selection = if arguments.id.is_empty() { Selection::All } else { Selection::Ids(arguments.id.clone()) };
    let fetched = client.fetch(selection).await;
    client.stop().await;
    // Events tell of everything that came, also when the session broke.
    while let Some(event) = events.next().await {
        show.event(&event)?;
    }
    let outcome = fetched.context("nothing was fetched")?;
    let complete = arguments.id.is_empty() || outcome.messages.len() == arguments.id.len();
    let well = outcome.answer.is_success() && outcome.orderly && complete;
    let words = match (outcome.answer.is_success(), outcome.orderly) {
        (false, _) => format!("refused: {}", show::answer(&outcome.answer)),
        (true, true) => counted(outcome.messages.len(), "message"),
        (true, false) => format!("{}, then the session was lost", counted(outcome.messages.len(), "message")),
    };
    let event = json!({
        "event": "fetched", "status": outcome.answer.status, "reason": outcome.answer.reason,
        "messages": outcome.messages.len(), "orderly": outcome.orderly,
    });
    show.say(&words, &event)?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
