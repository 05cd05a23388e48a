//! `restante tenant`: tenants of a running server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use hyper::Method;
use serde::Deserialize;

use super::RunningServer;
use super::admin_client::{escaped, request};
use super::output::say;
use super::table::{counted, harmless, table};
use crate::admin::model::{ChangedPolicy, ReloadReport, RemovedTenant, TenantDetails, TenantList};
use crate::configuration::Tenant;
use crate::policies::GenerationStatus;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show all tenants and what they use.
    List,
    /// Show one tenant in full.
    Show {
        /// Its name.
        name: String,
    },
    /// Add tenants, or change those that were added.
    Add {
        /// A file with `[tenants.NAME]`, as in a configuration; `policy` can only be "standard".
        file: PathBuf,
    },
    /// Remove a tenant that was added. Its users' messages and the state of its policy stay, in case it is added again.
    Remove {
        /// Its name.
        name: String,
        /// Also remove the state of its policy: generations, cases, records. Works for a tenant already removed, too.
        #[arg(long)]
        purge: bool,
    },
    /// Make the server reload its configuration file: tenants in it are added, changed and removed.
    Reload,
}

/// A file with tenants and nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tenants: BTreeMap<String, Tenant>,
}

/// # Errors
/// No server answers, or it refuses.
pub fn run(command: Command, server: &RunningServer) -> Result<ExitCode> {
    match command {
        Command::List => {
            let list: TenantList = request(server, Method::GET, "/tenants", None)?;
            if server.json {
                say!("{}", serde_json::to_string_pretty(&list)?);
            } else {
                print_list(&list);
            }
        }
        Command::Show { name } => {
            let details: TenantDetails = request(server, Method::GET, &path(&name), None)?;
            if server.json {
                say!("{}", serde_json::to_string_pretty(&details)?);
            } else {
                print_details(&details)?;
            }
        }
        Command::Add { file } => add(&file, server)?,
        Command::Remove { name, purge } => {
            let path = if purge { format!("{}?purge=true", path(&name)) } else { path(&name) };
            let removed: RemovedTenant = request(server, Method::DELETE, &path, None)?;
            if server.json {
                say!("{}", serde_json::to_string_pretty(&removed)?);
            } else {
                let RemovedTenant { stored_messages, stored_bytes } = removed;
                let (messages, bytes) = (counted(stored_messages, "message"), counted(stored_bytes, "byte"));
                say!("removed {}; {messages} ({bytes}) kept", harmless(&name));
            }
        }
        Command::Reload => {
            let report: ReloadReport = request(server, Method::POST, "/reload", None)?;
            if server.json {
                say!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print_report(&report);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with the file is said with its place before the server is asked.
fn add(file: &Path, server: &RunningServer) -> Result<()> {
    let place = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {place}"))?;
    let File { tenants } = toml::from_str(&text).with_context(|| place.to_string())?;
    let raw: toml::Table = toml::from_str(&text).with_context(|| place.to_string())?;
    if tenants.is_empty() {
        bail!("{place}: expected at least one [tenants.NAME]");
    }
    let known: TenantList = request(server, Method::GET, "/tenants", None)?;
    let mut done = Vec::new();
    for name in tenants.keys() {
        let table = raw.get("tenants").and_then(|tenants| tenants.get(name));
        let body = serde_json::to_value(table).with_context(|| place.to_string())?;
        let details: TenantDetails =
            request(server, Method::PUT, &path(name), Some(body)).with_context(|| place.to_string())?;
        if !server.json {
            let is_known = known.tenants.iter().any(|tenant| tenant.name == *name);
            say!("{} {}", if is_known { "changed" } else { "added" }, harmless(name));
            let by_command = details.summary.active.as_ref().filter(|active| !is_known && active.origin == "upload");
            if let Some(active) = by_command {
                say!(
                    "{}: generation {} is active again, {}, which was activated by command for an earlier tenant of \
                     this name",
                    harmless(name),
                    active.number,
                    harmless(&active.name)
                );
            }
        }
        done.push(details);
    }
    if server.json {
        say!("{}", serde_json::to_string_pretty(&done)?);
    }
    Ok(())
}

fn path(name: &str) -> String {
    format!("/tenants/{}", escaped(name))
}

fn print_list(list: &TenantList) {
    let head = ["tenant", "from", "domains", "policy", "decides", "messages", "bytes", "sessions", "in flight"];
    let rows: Vec<Vec<String>> = list
        .tenants
        .iter()
        .map(|it| {
            vec![
                it.name.clone(),
                it.source.clone(),
                it.domains.iter().chain(&it.numbers).cloned().collect::<Vec<_>>().join(", "),
                it.policy.clone(),
                it.active.as_ref().map_or_else(String::new, decides),
                it.stored_messages.to_string(),
                it.stored_bytes.to_string(),
                it.sessions.to_string(),
                it.deliveries_in_flight.to_string(),
            ]
        })
        .collect();
    say!("{}", table(&head, &rows).trim_end());
}

/// A generation in short.
fn decides(active: &GenerationStatus) -> String {
    let by = if active.origin == "upload" { ", by command" } else { "" };
    format!("{} {}{by}", active.name, active.number)
}

fn print_details(details: &TenantDetails) -> Result<()> {
    let TenantDetails { summary, configuration } = details;
    say!("tenant:    {} ({})", harmless(&summary.name), harmless(&summary.source));
    if let Some(active) = &summary.active {
        say!("decides:   {}", harmless(&decides(active)));
    }
    let stored = [
        ("stored:   ", summary.stored_messages, "message", summary.stored_bytes),
        ("          ", summary.stored_dispositions, "disposition", summary.stored_disposition_bytes),
    ];
    for (label, count, noun, bytes) in stored {
        say!("{label} {}, {}", counted(count, noun), counted(bytes, "byte"));
    }
    say!("sessions:  {}", summary.sessions);
    say!("in flight: {}", summary.deliveries_in_flight);
    let tenant: Tenant = serde_json::from_value(configuration.clone()).context("the server's answer")?;
    say!("");
    for line in toml::to_string(&tenant)?.lines() {
        say!("{}", harmless(line));
    }
    Ok(())
}

fn print_report(report: &ReloadReport) {
    for (what, names) in [("added", &report.added), ("changed", &report.changed), ("removed", &report.removed)] {
        for name in names {
            say!("{what} {}", harmless(name));
        }
    }
    for ChangedPolicy { tenant, generation } in &report.policies {
        say!("{}: policy generation {generation} is active", harmless(tenant));
    }
    if [&report.added, &report.changed, &report.removed].into_iter().all(Vec::is_empty) && report.policies.is_empty() {
        say!("no tenant changed");
    }
    for warning in &report.warnings {
        say!("warning: {}", harmless(warning));
    }
}
