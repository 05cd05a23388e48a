//! `restante user`: preferences and credentials.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use hyper::Method;
use restante_sip::authentication::{Algorithm, HashOfA1};

use super::RunningServer;
use super::admin_client::{escaped, request};
use super::output::say;
use super::password;
use super::table::{counted, harmless};
use crate::admin::model::{CredentialsChange, User, UserAuthentication};

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
        /// Another name of the user; may be given several times, and replaces the previous ones.
        #[arg(long)]
        alias: Vec<String>,
        /// Remove all other names.
        #[arg(long, conflicts_with = "alias")]
        no_alias: bool,
    },

    /// Set a user's password. Only a hash of it is sent to the server and stored.
    Add {
        /// A SIP or tel URI.
        address: String,
        /// File with the password; by default it is taken from RESTANTE_PASSWORD, or read from standard input.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Username to authenticate with; by default the part before the domain.
        #[arg(long, value_name = "NAME")]
        username: Option<String>,
    },
    /// Remove a user's password.
    RemoveCredentials {
        /// A SIP or tel URI.
        address: String,
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
        Command::Add { address, password_file, username } => {
            give_password(server, &address, password_file.as_deref(), username)?
        }
        Command::RemoveCredentials { address } => request(server, Method::DELETE, &credentials_path(&address), None)?,
    };
    if server.json {
        say!("{}", serde_json::to_string_pretty(&user)?);
    } else {
        print(&user);
    }
    Ok(ExitCode::SUCCESS)
}

fn give_password(
    server: &RunningServer,
    address: &str,
    password_file: Option<&Path>,
    username: Option<String>,
) -> Result<User> {
    let user: User = request(server, Method::GET, &path(address), None)?;
    let username = username.or_else(|| password::usual_username(&user.address));
    let username = username.with_context(|| format!("{address} has no username: give one with --username"))?;
    let password = password::read(password_file)?;
    let UserAuthentication { realm, algorithms, .. } = user.authentication;
    let hash = |name: &String| {
        let algorithm = Algorithm::named(Some(name)).with_context(|| format!("{name} is not supported"))?;
        let hash = HashOfA1::new(algorithm, &username, &realm, &password).to_hexadecimal();
        Ok((name.clone(), hash))
    };
    let hashes = algorithms.iter().map(hash).collect::<Result<_>>()?;
    let change = CredentialsChange { username: username.clone(), realm, hashes };
    request(server, Method::PUT, &credentials_path(address), Some(serde_json::to_value(change)?))
}

fn credentials_path(address: &str) -> String {
    format!("{}/credentials", path(address))
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
        Some(1) => say!("utc offset: 1 minute"),
        Some(offset) => say!("utc offset: {offset} minutes"),
        None => say!("utc offset: unknown"),
    }
    let authentication = &user.authentication;
    match &authentication.username {
        Some(username) => say!(
            "password:   yes, for {} in {} ({})",
            harmless(username),
            harmless(&authentication.realm),
            harmless(&authentication.hashed.join(", "))
        ),
        None => say!("password:   none"),
    }
    say!("waiting:    {}, {}", counted(user.waiting_messages, "message"), counted(user.waiting_bytes, "byte"));
    for contact in &user.contacts {
        say!("contact:    {} until {}", harmless(&contact.uri), contact.expires_at);
    }
}
