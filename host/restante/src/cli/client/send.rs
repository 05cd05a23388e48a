//! `restante client send`

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use restante_client::{
    Answer, Behaviour, Client, ClientConfiguration, ClientEvent, ClientEvents, Features, LargeMessage, PageMessage,
    Scripted, Source,
};
use restante_cpim::imdn::{Disposition, DispositionNotification};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::show::{self, Show};
use super::{Connection, check_address, register, start};
use crate::cli::progress::bar;

/// Where every content type ends that is not known by its file's name.
const UNKNOWN_TYPE: &str = "application/octet-stream";
const NOTIFICATIONS: [&str; 4] = ["positive-delivery", "negative-delivery", "display", "processing"];

#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The sender: a SIP or tel URI.
    #[arg(long, value_name = "URI")]
    from: String,
    /// The recipient: a SIP or tel URI.
    #[arg(long, value_name = "URI")]
    to: String,
    /// Send this text: in page mode when it fits, else in large message mode.
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// Send this file in large message mode.
    #[arg(long, value_name = "FILE", conflicts_with = "expires")]
    file: Option<PathBuf>,
    /// Content type of the file; by default guessed from its name.
    #[arg(long, value_name = "TYPE", requires = "file")]
    content_type: Option<String>,
    /// Ask for these notifications: positive-delivery, negative-delivery, display, processing.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(NOTIFICATIONS))]
    imdn: Vec<String>,
    /// Register, and wait this many seconds for the notifications.
    #[arg(long, value_name = "SECONDS", requires = "imdn")]
    wait: Option<u64>,
    /// Seconds for which the server may keep a text.
    #[arg(long, value_name = "SECONDS")]
    expires: Option<u32>,
    /// Subject of the message.
    #[arg(long)]
    subject: Option<String>,
}

/// What was sent.
struct Outcome {
    message_id: String,
    accepted: bool,
}

/// # Errors
/// The message could not be sent.
pub async fn run(arguments: &Arguments) -> Result<ExitCode> {
    check_address(&arguments.to)?;
    let configuration = arguments.connection.configuration(&arguments.from).await?;
    // Nobody stays to take what needs a session.
    let features = Features { page: true, large: false, cpm_deferred: false, accepts_summary: false };
    let (client, mut events) = start(ClientConfiguration { features, ..configuration }).await?;
    let show = Show::new(arguments.connection.json, None);
    if arguments.wait.is_some() {
        let refusing = Behaviour { every_invite: Some(Scripted::Status(480)), ..Behaviour::default() };
        client.set_behaviour(refusing).await?;
        register(&client).await?;
    }
    let result = send_and_wait(arguments, &client, &mut events, &show).await;
    if arguments.wait.is_some() {
        // The registration ends by itself when this is not heard.
        let _ = client.unregister().await;
    }
    client.stop().await;
    while let Some(event) = events.next().await {
        show.event(&event)?;
    }
    Ok(if result? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn send_and_wait(arguments: &Arguments, client: &Client, events: &mut ClientEvents, show: &Show) -> Result<bool> {
    let outcome = match &arguments.file {
        Some(file) => send_file(arguments, client, file, show).await?,
        None => send_text(arguments, client, arguments.text.as_deref().unwrap_or(""), show).await?,
    };
    match arguments.wait {
        Some(seconds) if outcome.accepted => {
            let deadline = Instant::now() + Duration::from_secs(seconds);
            await_notifications(arguments.notifications(), &outcome.message_id, deadline, events, show).await
        }
        _ => Ok(outcome.accepted),
    }
}

async fn send_text(arguments: &Arguments, client: &Client, text: &str, show: &Show) -> Result<Outcome> {
    let message = PageMessage {
        notifications: arguments.notifications(),
        expires_seconds: arguments.expires,
        subject: arguments.subject.clone(),
        ..PageMessage::text(&arguments.to, text)
    };
    if client.fits_page_mode(&message).await? {
        let sent = client.send(message).await.context("the message was not sent")?;
        let accepted = sent.answer.is_success();
        return told(show, &sent.answer, accepted, "page mode", &sent.message_id, &sent.sha256, "");
    }
    if arguments.expires.is_some() {
        bail!(
            "this text needs large message mode, in which the sender cannot say how long it is kept: leave --expires out"
        );
    }
    let content = Source::Bytes(text.as_bytes().to_vec().into());
    send_large(arguments, client, LargeMessage::new(&arguments.to, "text/plain;charset=UTF-8", content), show).await
}

async fn send_file(arguments: &Arguments, client: &Client, file: &Path, show: &Show) -> Result<Outcome> {
    let content_type = arguments.content_type.as_deref().unwrap_or_else(|| type_of(file));
    let message = LargeMessage::new(&arguments.to, content_type, Source::File(file.to_owned()));
    send_large(arguments, client, message, show).await.with_context(|| file.display().to_string())
}

async fn send_large(arguments: &Arguments, client: &Client, message: LargeMessage, show: &Show) -> Result<Outcome> {
    let bar = if arguments.connection.json || !io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        bar("sending", 0)
    };
    let shown = bar.clone();
    let message = LargeMessage {
        notifications: arguments.notifications(),
        subject: arguments.subject.clone(),
        progress: Some(Arc::new(move |done_bytes, total_bytes| {
            shown.set_length(total_bytes);
            shown.set_position(done_bytes);
        })),
        ..message
    };
    let sent = client.send_large(message).await;
    bar.finish_and_clear();
    let sent = sent.context("the message was not sent")?;
    let detail = if sent.answer.is_success() && !sent.accepted { sent.detail.as_str() } else { "" };
    told(show, &sent.answer, sent.accepted, "large message mode", &sent.message_id, &sent.sha256, detail)
}

fn told(
    show: &Show,
    answer: &Answer,
    accepted: bool,
    mode: &str,
    message_id: &str,
    sha256: &str,
    detail: &str,
) -> Result<Outcome> {
    let verdict = if accepted { "accepted" } else { "refused" };
    let mut words = format!("{verdict}: {} ({mode})", show::answer(answer));
    if !detail.is_empty() {
        words.push_str(&format!(", {}", super::super::table::harmless(detail)));
    }
    words.push_str(&format!("\n  message {message_id}, SHA-256 {}", show::shortened(sha256)));
    let event = json!({
        "event": "sent", "accepted": accepted, "status": answer.status, "reason": answer.reason, "mode": mode,
        "message_id": message_id, "sha256": sha256, "detail": detail,
    });
    show.say(&words, &event)?;
    Ok(Outcome { message_id: message_id.to_owned(), accepted })
}

/// Shows what comes until everything asked for has come. False: the message failed, or nobody said that it was delivered.
async fn await_notifications(
    asked: DispositionNotification,
    message_id: &str,
    deadline: Instant,
    events: &mut ClientEvents,
    show: &Show,
) -> Result<bool> {
    let mut open = Open::new(asked);
    while !open.is_settled() {
        let Ok(Some(event)) = timeout_at(deadline, events.next()).await else { break };
        show.event(&event)?;
        if let ClientEvent::Disposition { message_id: of, disposition, .. } = &event
            && of == message_id
        {
            open.note(*disposition);
        }
    }
    Ok(open.is_well())
}

/// Notifications that were asked for and have not come.
#[derive(Clone, Copy, Debug)]
struct Open {
    asked: DispositionNotification,
    delivery: bool,
    display: bool,
    processing: bool,
    failed: bool,
}

impl Open {
    fn new(asked: DispositionNotification) -> Open {
        Open {
            asked,
            delivery: asked.positive_delivery,
            display: asked.display,
            processing: asked.processing,
            failed: false,
        }
    }

    fn note(&mut self, disposition: Disposition) {
        match disposition.elements() {
            (_, "delivered") => self.delivery = false,
            ("delivery-notification", _) => self.failed = true,
            ("display-notification", _) => (self.delivery, self.display) = (false, false),
            _ => self.processing = false,
        }
    }

    /// Nothing that was asked for can come any more. Where failures alone were asked for, one may come until the end.
    fn is_settled(&self) -> bool {
        let only_failures = !(self.asked.positive_delivery || self.asked.display || self.asked.processing);
        self.failed || !(only_failures || self.delivery || self.display || self.processing)
    }

    fn is_well(&self) -> bool {
        !self.failed && !self.delivery && !self.display && !self.processing
    }
}

impl Arguments {
    fn notifications(&self) -> DispositionNotification {
        DispositionNotification::parse(&self.imdn.join(","))
    }
}

fn type_of(file: &Path) -> &'static str {
    let extension = file.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref().unwrap_or("") {
        "txt" => "text/plain;charset=UTF-8",
        "html" => "text/html",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "mp4" => "video/mp4",
        "mp3" => "audio/mpeg",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        _ => UNKNOWN_TYPE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_nothing_more_can_come() {
        let asked = |text: &str| Open::new(DispositionNotification::parse(text));
        let after = |mut open: Open, dispositions: &[Disposition]| {
            dispositions.iter().for_each(|disposition| open.note(*disposition));
            (open.is_settled(), open.is_well())
        };
        for (names, came, expected) in [
            ("positive-delivery", vec![], (false, false)),
            ("positive-delivery", vec![Disposition::Delivered], (true, true)),
            ("positive-delivery", vec![Disposition::DeliveryFailed], (true, false)),
            ("positive-delivery,processing", vec![Disposition::Stored], (false, false)),
            ("positive-delivery,processing", vec![Disposition::Stored, Disposition::Delivered], (true, true)),
            ("positive-delivery,display", vec![Disposition::Displayed], (true, true)),
            ("negative-delivery", vec![], (false, true)),
            ("negative-delivery", vec![Disposition::DeliveryFailed], (true, false)),
        ] {
            assert_eq!(after(asked(names), &came), expected, "{names} {came:?}");
        }
    }

    #[test]
    fn a_file_is_what_its_name_says() {
        for (name, expected) in [("a.JPG", "image/jpeg"), ("b", UNKNOWN_TYPE), ("c.tar.zip", "application/zip")] {
            assert_eq!(type_of(Path::new(name)), expected);
        }
    }
}
