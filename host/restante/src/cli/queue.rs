//! `restante queue`: what waits.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use hyper::Method;

use super::RunningServer;
use super::admin_client::{escaped, request};
use super::output::say;
use super::table::{counted, harmless, table};
use crate::admin::model::{Discarded, QueueEntry, QueuePage, QueueState};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List waiting messages, oldest first.
    List {
        /// Only this tenant's.
        #[arg(long)]
        tenant: Option<String>,
        /// Only this recipient's: a SIP or tel URI.
        #[arg(long)]
        to: Option<String>,
        /// Start after this message.
        #[arg(long, value_name = "ID")]
        after: Option<u64>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show everything about one message but its body.
    Show {
        /// The message's number.
        id: u64,
    },
    /// Discard waiting messages.
    Discard {
        /// The messages' numbers.
        #[arg(required_unless_present = "to")]
        ids: Vec<u64>,
        /// Everything that waits for this recipient.
        #[arg(long, conflicts_with = "ids")]
        to: Option<String>,
        /// The recipient's tenant, where it was removed or the address belongs to another one by now.
        #[arg(long, requires = "to")]
        tenant: Option<String>,
        /// Notify the senders that asked for negative delivery.
        #[arg(long)]
        report: bool,
    },
}

/// # Errors
/// No server answers, or it refuses.
pub fn run(command: Command, server: &RunningServer) -> Result<ExitCode> {
    match command {
        Command::List { tenant, to, after, limit } => list(server, tenant, to, after, limit),
        Command::Show { id } => show(server, id),
        Command::Discard { ids, to, tenant, report } => {
            let request = serde_json::json!({ "ids": ids, "to": to, "tenant": tenant, "report": report });
            discard(server, request)
        }
    }
}

fn list(
    server: &RunningServer,
    tenant: Option<String>,
    to: Option<String>,
    after: Option<u64>,
    limit: u32,
) -> Result<ExitCode> {
    let mut path = format!("/queue?limit={limit}");
    for (name, value) in [("tenant", tenant), ("to", to), ("after", after.map(|after| after.to_string()))] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escaped(&value)));
        }
    }
    let page: QueuePage = request(server, Method::GET, &path, None)?;
    if server.json {
        say!("{}", serde_json::to_string_pretty(&page)?);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = page.messages.iter().map(row).collect();
    super::output::write(format_args!(
        "{}",
        table(&["id", "to", "from", "kind", "size", "received", "expires", "attempts", "state"], &rows)
    ));
    if let Some(after) = page.next_after {
        say!("there are more: add --after {after}");
    }
    Ok(ExitCode::SUCCESS)
}

fn row(entry: &QueueEntry) -> Vec<String> {
    vec![
        entry.id.to_string(),
        entry.to.clone(),
        entry.from.clone(),
        entry.kind.clone(),
        entry.size_bytes.to_string(),
        entry.received_at.clone(),
        entry.expires_at.clone(),
        entry.attempts.to_string(),
        state(entry),
    ]
}

fn show(server: &RunningServer, id: u64) -> Result<ExitCode> {
    let entry: QueueEntry = request(server, Method::GET, &format!("/queue/{id}"), None)?;
    if server.json {
        say!("{}", serde_json::to_string_pretty(&entry)?);
        return Ok(ExitCode::SUCCESS);
    }
    print(&entry);
    Ok(ExitCode::SUCCESS)
}

fn print(entry: &QueueEntry) {
    let line = |label: &str, value: &str| say!("{:<17}{}", format!("{label}:"), harmless(value));
    line("message", &entry.id.to_string());
    line("tenant", &entry.tenant);
    line("to", &entry.to);
    line("from", &entry.from);
    line("kind", &entry.kind);
    line("mode", &entry.mode);
    line("content type", &entry.content_type);
    line("size", &counted(entry.size_bytes, "byte"));
    line("received", &entry.received_at);
    line("expires", &entry.expires_at);
    line("priority", &entry.priority.to_string());
    line("attempts", &entry.attempts.to_string());
    line("state", &state(entry));
    if let Some(failure) = &entry.last_failure {
        line("last failure", failure);
    }
    if let Some(id) = &entry.imdn_message_id {
        line("imdn.Message-ID", id);
    }
}

fn state(entry: &QueueEntry) -> String {
    let at = |at: &Option<String>| at.clone().unwrap_or_default();
    match entry.state {
        QueueState::Waiting => "waiting".to_owned(),
        QueueState::Retry => format!("retry at {}", at(&entry.retry_at)),
        QueueState::Announced => format!("announced until {}", at(&entry.announced_until)),
    }
}

fn discard(server: &RunningServer, body: serde_json::Value) -> Result<ExitCode> {
    let discarded: Discarded = request(server, Method::POST, "/queue/discard", Some(body))?;
    if server.json {
        say!("{}", serde_json::to_string_pretty(&discarded)?);
    } else {
        say!("{} discarded", counted(discarded.messages, "message"));
    }
    Ok(if discarded.messages == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
