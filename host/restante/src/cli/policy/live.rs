//! `restante policy` of a running server: activate, try, roll back, and see how it does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use hyper::Method;
use serde_json::Value;

use super::comparison;
use super::subject::Subject;
use crate::admin::policies::{ActivatedReply, LogReply, ProposalRequest, RollbackRequest, Uploaded};
use crate::cli::RunningServer;
use crate::cli::admin_client::{download, escaped, request, send, upload};
use crate::cli::output::{say, write_bytes};
use crate::cli::table::{harmless, table};
use crate::policies::{GenerationStatus, RecordingSettings, RecordingStatus, TenantPolicyStatus};
use crate::signatures::signature_from_file;

/// How often a log is asked for that is followed.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Activate a policy for a tenant; without a file, its candidate.
    Activate {
        /// The tenant.
        tenant: String,
        #[command(flatten)]
        proposal: OptionalProposal,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Run a policy as the candidate: it is asked what the active one is asked, and its answers are only compared.
    Try {
        /// The tenant.
        tenant: String,
        /// The component.
        file: PathBuf,
        /// Its settings, a JSON file; otherwise those of the configuration.
        #[arg(long, value_name = "FILE")]
        settings: Option<PathBuf>,
        /// Its detached ed25519 signature; otherwise FILE.sig, if there is one.
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
        /// Share of the decisions that it is asked for, 0 to 1.
        #[arg(long, default_value_t = 1.0, value_parser = share)]
        sample: f64,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Drop the candidate.
    Drop {
        /// The tenant.
        tenant: String,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Go back to the previous generation, or to the one with this number.
    Rollback {
        /// The tenant.
        tenant: String,
        /// The generation's number, as `status` shows it.
        number: Option<u64>,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Show a tenant's active policy, the previous ones, and statistics.
    Status {
        /// The tenant.
        tenant: String,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Show how the candidate compares with the active policy, with examples of differences.
    Shadow {
        /// The tenant.
        tenant: String,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Record decisions, or get what was recorded.
    Record {
        #[command(subcommand)]
        command: RecordCommand,
    },
    /// Show the log of a tenant's policy.
    Log {
        /// The tenant.
        tenant: String,
        /// Keep printing new lines.
        #[arg(long)]
        follow: bool,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Set the cases that a policy must pass before it is activated for a tenant: a file of cases or records, one per
    /// line.
    Cases {
        /// The tenant.
        tenant: String,
        /// The file.
        #[arg(required_unless_present = "remove")]
        file: Option<PathBuf>,
        /// Remove them.
        #[arg(long, conflicts_with = "file")]
        remove: bool,
        #[command(flatten)]
        server: RunningServer,
    },
}

#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// Record a tenant's decisions from now on.
    On {
        /// The tenant.
        tenant: String,
        /// Share of the decisions to record, 0 to 1.
        #[arg(long, default_value_t = 1.0, value_parser = share)]
        sample: f64,
        /// Disk space for the records; the oldest are removed.
        #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(65_536..))]
        max_bytes: u64,
        /// Record real addresses instead of pseudonyms.
        #[arg(long)]
        plain_addresses: bool,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Stop recording; what was recorded stays.
    Off {
        /// The tenant.
        tenant: String,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Remove what was recorded. Recording goes on, if it is on.
    Delete {
        /// The tenant.
        tenant: String,
        #[command(flatten)]
        server: RunningServer,
    },
    /// Write what was recorded to standard output: for `replay`, and as cases.
    Get {
        /// The tenant.
        tenant: String,
        #[command(flatten)]
        server: RunningServer,
    },
}

/// A policy, or the candidate.
#[derive(clap::Args, Debug)]
pub struct OptionalProposal {
    /// The component.
    file: Option<PathBuf>,
    /// Its settings, a JSON file; otherwise those of the configuration.
    #[arg(long, value_name = "FILE", requires = "file")]
    settings: Option<PathBuf>,
    /// Its detached ed25519 signature; otherwise FILE.sig, if there is one.
    #[arg(long, value_name = "FILE", requires = "file")]
    signature: Option<PathBuf>,
}

/// # Errors
/// No server answers, or it refuses.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Activate { tenant, proposal, server } => {
            let OptionalProposal { file, settings, signature } = proposal;
            let (path, body) = match file {
                Some(file) => {
                    let proposal = propose(&server, &file, settings.as_deref(), signature.as_deref(), None)?;
                    (of(&tenant, "/activate"), Some(proposal))
                }
                None => (of(&tenant, "/candidate/activate"), None),
            };
            let reply: ActivatedReply = request(&server, Method::POST, &path, body)?;
            tell(&server, &reply, "is active")
        }
        Command::Try { tenant, file, settings, signature, sample, server } => {
            let sample = Some(permille(sample));
            let proposal = propose(&server, &file, settings.as_deref(), signature.as_deref(), sample)?;
            let reply: ActivatedReply = request(&server, Method::PUT, &of(&tenant, "/candidate"), Some(proposal))?;
            tell(&server, &reply, "is the candidate")
        }
        Command::Drop { tenant, server } => {
            send(&server, Method::DELETE, &of(&tenant, "/candidate"), None)?;
            done(&server, &tenant, ("candidate", "dropped"), "the candidate is dropped")
        }
        Command::Rollback { tenant, number, server } => {
            let body = serde_json::to_value(RollbackRequest { number })?;
            let reply: ActivatedReply = request(&server, Method::POST, &of(&tenant, "/rollback"), Some(body))?;
            tell(&server, &reply, "is active again")
        }
        Command::Status { tenant, server } => {
            let status: TenantPolicyStatus = request(&server, Method::GET, &of(&tenant, ""), None)?;
            if server.json {
                say!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                show(&status);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Shadow { tenant, server } => {
            let report: Value = request(&server, Method::GET, &of(&tenant, "/shadow"), None)?;
            if server.json {
                say!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                comparison::show(&report);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Record { command } => record(command),
        Command::Log { tenant, follow, server } => log(&server, &tenant, follow),
        Command::Cases { tenant, file: Some(file), server, .. } => {
            let cases = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            upload(&server, Method::PUT, &of(&tenant, "/cases"), "application/jsonl", cases)?;
            done(&server, &tenant, ("cases", "set"), "a policy has to pass these cases from now on")
        }
        Command::Cases { tenant, file: None, server, .. } => {
            send(&server, Method::DELETE, &of(&tenant, "/cases"), None)?;
            done(&server, &tenant, ("cases", "removed"), "the cases are removed")
        }
    }
}

fn record(command: RecordCommand) -> Result<ExitCode> {
    match command {
        RecordCommand::On { tenant, sample, max_bytes, plain_addresses, server } => {
            let settings = RecordingSettings { sample_permille: permille(sample), max_bytes, plain_addresses };
            send(&server, Method::PUT, &of(&tenant, "/recording"), Some(serde_json::to_value(settings)?))?;
            done(&server, &tenant, ("recording", "on"), "decisions are recorded from now on")
        }
        RecordCommand::Off { tenant, server } => {
            send(&server, Method::DELETE, &of(&tenant, "/recording"), None)?;
            done(&server, &tenant, ("recording", "off"), "decisions are no longer recorded")
        }
        RecordCommand::Delete { tenant, server } => {
            send(&server, Method::DELETE, &of(&tenant, "/records"), None)?;
            done(&server, &tenant, ("records", "deleted"), "what was recorded is deleted")
        }
        RecordCommand::Get { tenant, server } => {
            let take = |bytes: &[u8]| {
                write_bytes(bytes);
                Ok(())
            };
            download(&server, &of(&tenant, "/records"), take)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Says what became of something of a tenant's.
fn done(server: &RunningServer, tenant: &str, (what, state): (&str, &str), sentence: &str) -> Result<ExitCode> {
    if server.json {
        say!("{}", serde_json::to_string_pretty(&serde_json::json!({ "tenant": tenant, what: state }))?);
    } else {
        say!("{}: {sentence}", harmless(tenant));
    }
    Ok(ExitCode::SUCCESS)
}

/// The path of something of a tenant's policy.
pub(super) fn of(tenant: &str, rest: &str) -> String {
    format!("/tenants/{}/policy{rest}", escaped(tenant))
}

/// Uploads a component; what is said of it.
fn propose(
    server: &RunningServer,
    file: &Path,
    settings: Option<&Path>,
    signature: Option<&Path>,
    sample_permille: Option<u32>,
) -> Result<Value> {
    let component = Subject::read(file)?.component;
    let settings = settings.map(read_json).transpose()?;
    let signature = read_signature(file, signature)?;
    let uploaded = upload(server, Method::POST, "/components", "application/wasm", component)?;
    let Uploaded { digest } = serde_json::from_slice(&uploaded)?;
    Ok(serde_json::to_value(ProposalRequest { digest, settings, signature, sample_permille })?)
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// The signature that was named, or that lies beside the component.
fn read_signature(component: &Path, named: Option<&Path>) -> Result<Option<String>> {
    let mut beside = component.as_os_str().to_owned();
    beside.push(".sig");
    let path = named.unwrap_or(Path::new(&beside));
    match std::fs::read(path) {
        Ok(bytes) => {
            let signature = signature_from_file(&bytes);
            Ok(Some(signature.map_err(|text| anyhow::anyhow!("{}: {text}", path.display()))?))
        }
        Err(_) if named.is_none() => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn tell(server: &RunningServer, reply: &ActivatedReply, what: &str) -> Result<ExitCode> {
    if server.json {
        say!("{}", serde_json::to_string_pretty(reply)?);
        return Ok(ExitCode::SUCCESS);
    }
    for problem in &reply.warnings {
        let place = if problem.pointer.is_empty() { "settings" } else { problem.pointer.as_str() };
        eprintln!("warning: {}: {}", harmless(place), harmless(&problem.text));
    }
    let generation = &reply.generation;
    say!("{} {what}: generation {}, {}", titled(generation), generation.number, short(&generation.digest));
    Ok(ExitCode::SUCCESS)
}

fn show(status: &TenantPolicyStatus) {
    let row = |what: &str, generation: &GenerationStatus| {
        vec![
            what.to_owned(),
            generation.number.to_string(),
            titled(generation),
            short(&generation.digest).to_owned(),
            generation.contract.clone(),
            generation.origin.clone(),
            if generation.signed { "yes" } else { "no" }.to_owned(),
            generation.since.clone(),
        ]
    };
    let mut rows = vec![row("active", &status.active)];
    if let Some(candidate) = &status.candidate {
        rows.push(row("candidate", &candidate.generation));
    }
    rows.extend(status.previous.iter().map(|generation| row("before", generation)));
    say!("{}", table(&["", "generation", "policy", "digest", "contract", "from", "signed", "since"], &rows));
    if let Some(candidate) = &status.candidate {
        say!(
            "The candidate sees {} of 1000 decisions and agreed in {} of {}.\n",
            candidate.sample_permille,
            candidate.agreed,
            candidate.compared
        );
    }
    if let Some(recording) = &status.recording {
        say!("{}\n", recorded(recording));
    }
    let hooks = status.hooks.iter().map(|hook| {
        let state = match (hook.suspended, hook.suspended_for_outsiders) {
            (true, _) => "suspended after repeated failures",
            (false, true) => "suspended for HTTP questions after repeated failures",
            (false, false) => "",
        };
        let number = |value: u64| value.to_string();
        vec![hook.hook.clone(), number(hook.asked), number(hook.undecided), number(hook.mean_micros), state.to_owned()]
    });
    say!("{}", table(&["hook", "asked", "undecided", "mean µs", ""], &hooks.collect::<Vec<_>>()));
}

fn recorded(recording: &RecordingStatus) -> String {
    let RecordingStatus { settings, recorded, left_out, is_broken } = recording;
    let addresses = if settings.plain_addresses { "plain addresses" } else { "pseudonyms" };
    let share = settings.sample_permille;
    let broken = if *is_broken { " Now none can be: the log says why." } else { "" };
    format!(
        "{share} of 1000 decisions are recorded, with {addresses}: {recorded} were, {left_out} were left out.{broken}"
    )
}

fn log(server: &RunningServer, tenant: &str, follow: bool) -> Result<ExitCode> {
    let mut after = 0;
    loop {
        let reply: LogReply = request(server, Method::GET, &of(tenant, &format!("/log?after={after}")), None)?;
        for line in &reply.lines {
            after = line.number.max(after);
            if server.json {
                say!("{}", serde_json::to_string(line)?);
            } else {
                say!("{}  {:7}  {}", harmless(&line.at), harmless(&line.level), harmless(&line.text));
            }
        }
        if !follow {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(FOLLOW_INTERVAL);
    }
}

fn titled(generation: &GenerationStatus) -> String {
    format!("{} {}", generation.name, generation.version).trim().to_owned()
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
fn permille(share: f64) -> u32 {
    (share * 1000.0).round() as u32
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) && (share == 0.0 || permille(share) > 0) => Ok(share),
        _ => Err("expected 0, or a number from 0.001 to 1".to_owned()),
    }
}
