//! `/tenants`, and `/reload`

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use restante_deferral::model::TenantName;
use serde::Deserialize;

use super::model::{ChangedPolicy, ReloadReport, RemovedTenant, TenantDetails, TenantList, TenantSummary};
use super::{Administration, Problem};
use crate::configuration::{Source, Tenant};
use crate::server::roster::{Known, Origin, Roster, RosterError};

pub async fn list(State(it): State<Administration>) -> Json<TenantList> {
    let tenants = it.roster.tenants();
    Json(TenantList { tenants: tenants.iter().map(|(name, known)| summary(&it, name, known)).collect() })
}

pub async fn show(State(it): State<Administration>, Path(name): Path<String>) -> Result<Json<TenantDetails>, Problem> {
    let tenants = it.roster.tenants();
    let known = tenants.get(&name).ok_or_else(|| RosterError::Unknown(name.clone()))?;
    Ok(Json(details(&it, &name, known)?))
}

pub async fn put(
    State(it): State<Administration>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Result<(StatusCode, Json<TenantDetails>), Problem> {
    let Body { tenant, text, source } = parse(&headers, body)?;
    let of = name.clone();
    let is_new = change(&it, move |roster| roster.put(&of, tenant, &text, source)).await?;
    let tenants = it.roster.tenants();
    let known = tenants.get(&name).ok_or_else(|| RosterError::Unknown(name.clone()))?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(details(&it, &name, known)?)))
}

pub async fn remove(
    State(it): State<Administration>,
    Path(name): Path<String>,
    Query(RemoveQuery { purge }): Query<RemoveQuery>,
) -> Result<Json<RemovedTenant>, Problem> {
    let of = name.clone();
    change(&it, move |roster| roster.remove(&of, purge)).await?;
    let stays = it.shared.store.tenant_totals(&TenantName(name.into()));
    Ok(Json(RemovedTenant { stored_messages: stays.messages, stored_bytes: stays.size_bytes }))
}

pub async fn reload(State(it): State<Administration>) -> Result<Json<ReloadReport>, Problem> {
    let certificates = it.certificates.clone();
    let reloaded = change(&it, move |roster| {
        let of_tls = certificates.reload();
        match roster.reload() {
            Ok(mut reloaded) => {
                reloaded
                    .warnings
                    .extend(of_tls.err().map(|error| format!("[tls]: the changed files cannot be used: {error}")));
                Ok(Ok(reloaded))
            }
            // Here it is the file that has it, and not the request.
            Err(error @ RosterError::Policy(_)) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    });
    let reloaded = reloaded.await?.map_err(|text| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text))?;
    Ok(Json(ReloadReport {
        added: reloaded.added,
        changed: reloaded.changed,
        removed: reloaded.removed,
        policies: reloaded
            .policies
            .into_iter()
            .map(|(tenant, generation)| ChangedPolicy { tenant, generation })
            .collect(),
        warnings: reloaded.warnings,
    }))
}

/// What goes with a tenant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveQuery {
    /// What is kept of its policy.
    #[serde(default)]
    purge: bool,
}

/// The tenant that a request is about.
struct Body {
    tenant: Tenant,
    /// As it is kept.
    text: String,
    /// Where what is wrong with it is found.
    source: Source,
}

/// TOML or JSON, as the request says.
fn parse(headers: &HeaderMap, body: String) -> Result<Body, Problem> {
    let wrong = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    match kind.split(';').next().unwrap_or("").trim() {
        "application/toml" => {
            let tenant = toml::from_str(&body).map_err(|error| wrong(error.to_string()))?;
            let source = Source::of_tenant(FilePath::new("body"), &body);
            Ok(Body { tenant, text: body, source })
        }
        "application/json" => {
            let tenant: Tenant = serde_json::from_str(&body).map_err(|error| wrong(error.to_string()))?;
            let text = toml::to_string(&tenant).map_err(|error| wrong(error.to_string()))?;
            // Places in JSON are not known.
            Ok(Body { tenant, text, source: Source::of_tenant(FilePath::new("body"), "") })
        }
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("Content-Type {other:?}: expected application/toml or application/json"),
        )),
    }
}

/// A change waits for the disk and for compilers: off this thread.
async fn change<T: Send + 'static>(
    it: &Administration,
    work: impl FnOnce(&Roster) -> Result<T, RosterError> + Send + 'static,
) -> Result<T, Problem> {
    let roster: Arc<Roster> = it.roster.clone();
    match tokio::task::spawn_blocking(move || work(&roster)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the server's log")),
    }
}

impl From<RosterError> for Problem {
    fn from(error: RosterError) -> Problem {
        let status = match &error {
            RosterError::Invalid(_) | RosterError::Policy(_) => StatusCode::BAD_REQUEST,
            RosterError::Conflict(_) | RosterError::NoFile => StatusCode::CONFLICT,
            RosterError::Unknown(_) => StatusCode::NOT_FOUND,
            RosterError::File(_) => StatusCode::UNPROCESSABLE_ENTITY,
            RosterError::Disk(..) | RosterError::Store(_) => {
                tracing::error!(%error, "tenants cannot be changed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Problem::new(status, error.to_string())
    }
}

fn summary(it: &Administration, name: &str, known: &Known) -> TenantSummary {
    let key = TenantName(name.into());
    let stored = it.shared.store.tenant_totals(&key);
    let dispositions = it.shared.store.tenant_dispositions(&key);
    let usage = it.shared.directory.tenant(&key).map(|tenant| tenant.usage.clone());
    TenantSummary {
        name: name.to_owned(),
        source: match known.origin {
            Origin::File => "file",
            Origin::Kept => "added",
        }
        .to_owned(),
        domains: known.tenant.domains.clone(),
        numbers: known.tenant.numbers.clone(),
        policy: known.tenant.policy.clone(),
        active: it.shared.policies().and_then(|policies| policies.active(&key)),
        stored_messages: stored.messages,
        stored_bytes: stored.size_bytes,
        stored_dispositions: dispositions.messages,
        stored_disposition_bytes: dispositions.size_bytes,
        sessions: usage.as_ref().map_or(0, |usage| usage.sessions.in_use()),
        deliveries_in_flight: usage.as_ref().map_or(0, |usage| usage.deliveries.in_use()),
    }
}

fn details(it: &Administration, name: &str, known: &Known) -> Result<TenantDetails, Problem> {
    let configuration = serde_json::to_value(&*known.tenant)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(TenantDetails { summary: summary(it, name, known), configuration })
}
