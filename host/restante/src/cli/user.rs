//! `restante user`: preferences.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use hyper::Method;

use super::RunningServer;
use super::admin_client::request;
use super::output::say;
use super::queue::escaped;
use super::table::harmless;
use crate::admin::model::User;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a user's preferences, registrations and queue.
    Show {
        /// A SIP or tel URI.
        address: String,
    },
    /// Change a user's preferences; what is not named stays.
    Set {
        /// A SIP or tel URI.
        address: String,
        /// How the user wants deferred messages.
        #[arg(long)]
        delivery: Option<DeliveryChoice>,
        /// Subscriber class; empty removes it.
        #[arg(long)]
        class: Option<String>,
        /// Offset from UTC in minutes.
        #[arg(long, allow_hyphen_values = true, value_parser = clap::value_parser!(i16).range(-1440..=1440))]
        utc_offset: Option<i16>,
        /// A further name of the user; may be given several times and replaces the earlier ones.
        #[arg(long)]
        alias: Vec<String>,
        /// Take all further names away.
        #[arg(long, conflicts_with = "alias")]
        no_alias: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DeliveryChoice {
    /// Send when available.
    Push,
    /// Announce; the client fetches.
    Pull,
    /// Keep until the client asks.
    Hold,
    /// As the operator says.
    Default,
}

/// # Errors
/// No server answers, or it refuses.
pub fn run(command: Command, server: &RunningServer) -> Result<ExitCode> {
    let user: User = match command {
        Command::Show { address } => request(server, Method::GET, &path(&address), None)?,
        Command::Set { address, delivery, class, utc_offset, alias, no_alias } => {
            let mut change = serde_json::Map::new();
            if let Some(delivery) = delivery {
                let delivery = delivery.to_possible_value().map(|value| value.get_name().to_owned());
                change.insert("delivery".to_owned(), serde_json::json!(delivery));
            }
            if let Some(class) = class {
                change.insert("class".to_owned(), serde_json::json!(class));
            }
            if let Some(offset) = utc_offset {
                change.insert("utc_offset_minutes".to_owned(), serde_json::json!(offset));
            }
            if no_alias || !alias.is_empty() {
                change.insert("aliases".to_owned(), serde_json::json!(alias));
            }
            request(server, Method::PATCH, &path(&address), Some(change.into()))?
        }
    };
    if server.json {
        say!("{}", serde_json::to_string_pretty(&user)?);
    } else {
        print(&user);
    }
    Ok(ExitCode::SUCCESS)
}

fn path(address: &str) -> String {
    format!("/users/{}", escaped(address))
}

fn print(user: &User) {
    let or = |value: &Option<String>, none: &str| harmless(value.as_deref().unwrap_or(none)).into_owned();
    say!("address:    {}", harmless(&user.address));
    say!("tenant:     {}", harmless(&user.tenant));
    say!("aliases:    {}", harmless(&user.aliases.join(", ")));
    say!("delivery:   {}", or(&user.delivery, "as the operator says"));
    say!("class:      {}", or(&user.class, "none"));
    match user.utc_offset_minutes {
        Some(offset) => say!("utc offset: {offset} minutes"),
        None => say!("utc offset: unknown"),
    }
    say!("waiting:    {} messages, {} bytes", user.waiting_messages, user.waiting_bytes);
    for contact in &user.contacts {
        say!("contact:    {} until {}", harmless(&contact.uri), contact.expires_at);
    }
}
