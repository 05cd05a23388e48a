//! `restante policy inspect`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use restante_policy::{Loader, PolicyEngine, PolicyLimits};
use serde_json::Value;

use super::run::print_json;
use super::subject::Subject;
use super::wasm::Contents;
use crate::cli::output::say;
use crate::cli::table::harmless;
use crate::policies::library::digest_of;

#[derive(Args, Debug)]
pub struct Arguments {
    /// A component, a core module, or `standard`.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// # Errors
/// The file cannot be read or is broken.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let subject = Subject::read(&arguments.file)?;
    let contents =
        Contents::read(&subject.component).with_context(|| format!("{}: malformed component", subject.name))?;
    let digest = digest_of(&subject.component);
    let versions = contents.contract_versions();
    let loader = Loader::new(PolicyEngine::new(PolicyLimits::default())?, None)?;
    let compiled = loader.compile(&subject.component);
    let described = compiled.as_ref().map(|compiled| compiled.description()).map_err(ToString::to_string);
    let schema: Option<Value> = match &described {
        Ok(description) => description.settings_schema.as_deref().map(serde_json::from_str).transpose()?,
        Err(_) => None,
    };
    if arguments.json {
        let report = serde_json::json!({
            "file": subject.name,
            "was-core-module": subject.was_module,
            "sha256": digest,
            "size-bytes": subject.component.len(),
            "contract": versions,
            "name": described.as_ref().ok().map(|it| it.name.as_str()),
            "version": described.as_ref().ok().map(|it| it.version.as_str()),
            "settings-schema": schema,
            "unusable": described.as_ref().err(),
            "contents": contents,
        });
        say!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let was = if subject.was_module { "made of a core module here" } else { "a component" };
    say!("file:      {} ({was})", harmless(&subject.name));
    match &described {
        Ok(description) => say!("policy:    {} {}", harmless(&description.name), harmless(&description.version)),
        Err(why) => say!("unusable:  {}", harmless(why)),
    }
    say!("sha256:    {digest}");
    say!("size:      {} bytes", subject.component.len());
    let contract = if versions.is_empty() { "none: not a policy".to_owned() } else { versions.join(", ") };
    say!("contract:  {}", harmless(&contract));
    say!("memory:    {} bytes at first", contents.initial_memory_bytes);
    for (index, import) in contents.imports.iter().enumerate() {
        say!("{} {}", if index == 0 { "imports:  " } else { "          " }, harmless(import));
    }
    for (index, export) in contents.exports.iter().enumerate() {
        say!("{} {}", if index == 0 { "exports:  " } else { "          " }, harmless(export));
    }
    for (field, values) in &contents.producers {
        say!("{} {}", harmless(&format!("{field}:")), harmless(&values.join(", ")));
    }
    if let Some(schema) = &schema {
        say!("settings:");
        print_json(schema)?;
    }
    Ok(ExitCode::SUCCESS)
}
