//! Whether a server could start with a configuration, as far as that can be told without sockets and its data
//! directory.

use std::sync::Arc;

use anyhow::{Context, Result};
use restante_deferral::participating_function::ReportKey;

use super::destinations::destinations;
use super::directory::Directory;
use super::listeners::BoundMsrp;
use super::policies::{ConfiguredPolicies, PolicyParts};
use super::starting::tls;
use super::usage::Inboxes;
use super::{relay_link, wall_clock};
use crate::configuration::{Configuration, Source, Tenant};
use crate::policies::Occasion;

/// Reads and checks what [`Server::start_with`](super::Server::start_with) does, in the same order and with the same
/// words: the files of TLS, the tenants and their names, what MSRP paths name, the policies with their settings, the
/// passwords for relays. Blocks, for some hundred milliseconds for each component that no server with this data
/// directory compiled.
///
/// Policies are loaded in a directory that is there for this alone. So it is as if no tenant had a policy before: where
/// one has, a start goes on with that one in place of one that is refused here.
///
/// # Errors
/// What would keep a server from starting.
pub fn check(configuration: &Configuration, parts: PolicyParts) -> Result<()> {
    tls(configuration)?;
    destinations(configuration)?;
    let nobody = Arc::new(Inboxes::new());
    Directory::new(configuration, ReportKey::default(), Arc::downgrade(&nobody)).map_err(anyhow::Error::msg)?;
    BoundMsrp::check(configuration)?;
    let apart = tempfile::tempdir().context("cannot make a directory to load policies in")?;
    let elsewhere = Configuration { data: apart.path().to_owned(), ..configuration.clone() };
    // What a server compiled there is compiled.
    let parts = PolicyParts { compiled_in: Some(configuration.data.clone()), ..parts };
    let policies = ConfiguredPolicies::start(&elsewhere, nobody, Arc::new(wall_clock), parts)?;
    let tenants: Vec<(&str, &Tenant, &Source)> =
        configuration.tenants.iter().map(|(name, tenant)| (name.as_str(), tenant, &configuration.source)).collect();
    policies.prepare_all(&tenants, Occasion::Start)?;
    relay_link::check(&configuration.msrp.relay)
}
