//! The tenants that a server begins with: those of its configuration, and those that were added to an earlier run.
//!
//! What is wrong with the configuration keeps the server from starting: its operator is there to mend it. A tenant that
//! was added at run time and cannot be served any more is left out and said, and its file stays.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;

use super::kept::Kept;
use super::{Everybody, Known, Origin, Roster, by_name, check_claim, of_file};
use crate::configuration::{Configuration, Source, Tenant, check_claims};
use crate::policies::Occasion;
use crate::server::Shared;
use crate::server::policies::{ConfiguredPolicies, Prepared};

impl Roster {
    /// Loads all policies and has the directory know all tenants. Blocks.
    ///
    /// # Errors
    /// What is wrong with the configuration, or the data directory.
    pub fn start(shared: &Arc<Shared>, configuration: &Configuration) -> Result<Arc<Roster>> {
        let policies = shared.policies.get().context("the engine of the policies is not there")?;
        let place = configuration.data.join("tenants");
        let kept = Kept::open(&configuration.data).with_context(|| place.display().to_string())?;
        let of_file = of_file(configuration);
        let mut prepared = prepare(policies, &of_file)?;
        let mut added = read(&kept, &of_file, configuration).with_context(|| place.display().to_string())?;
        let mut everybody: Everybody =
            of_file.iter().chain(&added).map(|(name, it)| (name.clone(), it.clone())).collect();
        let directory = &shared.directory;
        let fits = |everybody: &Everybody| {
            let tenants = by_name(everybody);
            check_claims(&tenants).map_err(|wrong| wrong.text).and_then(|()| directory.prepare(&tenants))
        };
        let tenants = match (fits(&everybody), prepare(policies, &added)) {
            (Ok(tenants), Ok(of_added)) => {
                prepared.extend(of_added);
                tenants
            }
            // Something does not fit: those that do are found one by one.
            _ => {
                everybody = of_file;
                added.retain(|name, known| {
                    let mut with_it = everybody.clone();
                    with_it.insert(name.clone(), known.clone());
                    let loaded = check_claim(&everybody, name, &known.tenant)
                        .map_err(|error| error.to_string())
                        .and_then(|()| fits(&with_it))
                        .and_then(|_| {
                            policies
                                .prepare(name, &known.tenant, &known.source, Occasion::Start)
                                .map_err(|error| error.to_string())
                        });
                    match loaded {
                        Ok(loaded) => {
                            prepared.push(loaded);
                            everybody = with_it;
                            true
                        }
                        Err(problem) => {
                            leave_out(name, &problem);
                            false
                        }
                    }
                });
                fits(&everybody).map_err(anyhow::Error::msg)?
            }
        };
        for prepared in &prepared {
            // A full disk is no reason not to deliver what is on it.
            if let Err((tenant, error)) = policies.keep(prepared) {
                tracing::error!(
                    %tenant,
                    %error,
                    "the tenant's policy cannot be stored; it is active, and will be set up again at the next start"
                );
            }
        }
        prepared.into_iter().for_each(|prepared| policies.activate(prepared));
        directory.replace(tenants);
        shared.directory.tenants().iter().for_each(|it| shared.metrics.begin_tenant(&it.name, it.digest.is_demanded));
        Ok(Arc::new(Roster {
            shared: shared.clone(),
            running: configuration.clone(),
            kept,
            known: ArcSwap::from_pointee(everybody),
            turn: Mutex::new(()),
        }))
    }
}

fn prepare(policies: &ConfiguredPolicies, tenants: &Everybody) -> Result<Vec<Prepared>> {
    let all: Vec<(&str, &Tenant, &Source)> =
        tenants.iter().map(|(name, known)| (name.as_str(), &*known.tenant, &known.source)).collect();
    Ok(policies.prepare_all(&all, Occasion::Start)?)
}

/// Those that can be read and are not in the file.
fn read(kept: &Kept, of_file: &Everybody, configuration: &Configuration) -> std::io::Result<Everybody> {
    let mut found = Everybody::new();
    for name in kept.names()? {
        if of_file.contains_key(&name) {
            leave_out(&name, "a tenant of this name is in the configuration file");
            continue;
        }
        let known = kept.read(&name).map_err(|error| error.to_string()).and_then(|text| {
            let tenant: Tenant = toml::from_str(&text).map_err(|error| error.to_string())?;
            let source = Source::of_tenant(&kept.path(&name), &text);
            tenant.check(&name, &configuration.limits).map_err(|wrong| wrong.placed(&source))?;
            Ok(Known { tenant: Arc::new(tenant), origin: Origin::Kept, source })
        });
        match known {
            Ok(known) => _ = found.insert(name, known),
            Err(problem) => leave_out(&name, &problem),
        }
    }
    Ok(found)
}

fn leave_out(name: &str, problem: &str) {
    tracing::error!(tenant = name, problem, "a tenant that was added at run time cannot be loaded");
}
