//! `/components` and `/tenants/NAME/policy`

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use restante_deferral::model::TenantName;
use restante_policy::{LogLevel, LogLine, Problem as SettingsProblem, Severity};
use serde::{Deserialize, Serialize};

use super::streaming::streamed;
use super::{Administration, Problem};
use crate::policies::activation::NotActivated;
use crate::policies::{
    Activated, GenerationStatus, Policies, PolicyError, Proposal, RecordingSettings, TenantPolicyStatus,
};
use crate::times::to_the_millisecond;

/// Most bytes of a tenant's cases.
const MAX_CASES_BYTES: usize = 16 << 20;

/// The routes. A component is uploaded by its bytes, never named by a path of this machine.
pub fn routes(max_component_bytes: usize) -> Router<Administration> {
    let upload = post(move |it, bytes| upload(it, bytes, max_component_bytes));
    let upload = upload.layer(DefaultBodyLimit::max(max_component_bytes));
    let cases = axum::routing::put(put_cases).delete(delete_cases).layer(DefaultBodyLimit::max(MAX_CASES_BYTES));
    Router::new()
        .route("/components", upload)
        .route("/tenants/{name}/policy", get(status))
        .route("/tenants/{name}/policy/activate", post(activate))
        .route("/tenants/{name}/policy/rollback", post(roll_back))
        .route("/tenants/{name}/policy/candidate", axum::routing::put(try_out).delete(drop_candidate))
        .route("/tenants/{name}/policy/candidate/activate", post(activate_candidate))
        .route("/tenants/{name}/policy/shadow", get(shadow))
        .route("/tenants/{name}/policy/recording", axum::routing::put(start_recording).delete(stop_recording))
        .route("/tenants/{name}/policy/records", get(records).delete(delete_records))
        .route("/tenants/{name}/policy/cases", cases)
        .route("/tenants/{name}/policy/log", get(log))
}

/// Answer to an upload.
#[derive(Debug, Serialize, Deserialize)]
pub struct Uploaded {
    /// SHA-256 of the component.
    pub digest: String,
}

/// What is to become a generation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalRequest {
    /// Of an uploaded component.
    pub digest: String,
    /// Settings; absent: as the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<serde_json::Value>,
    /// Detached ed25519 signature, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// For a candidate: how many of a thousand decisions it sees. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_permille: Option<u32>,
}

/// Which generation to go back to.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Its number; absent: the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

/// What became active, or the candidate.
#[derive(Debug, Serialize, Deserialize)]
pub struct ActivatedReply {
    /// It.
    pub generation: GenerationStatus,
    /// What it found odd about its settings.
    pub warnings: Vec<ProblemReply>,
}

/// A problem with settings.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProblemReply {
    /// JSON pointer.
    pub pointer: String,
    /// `error` or `warning`.
    pub severity: String,
    /// What is wrong.
    pub text: String,
}

impl From<&SettingsProblem> for ProblemReply {
    fn from(problem: &SettingsProblem) -> ProblemReply {
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let SettingsProblem { pointer, text, .. } = problem.clone();
        ProblemReply { pointer, severity: severity.to_owned(), text }
    }
}

/// Lines of a log.
#[derive(Debug, Deserialize, Serialize)]
pub struct LogReply {
    /// Those that are remembered.
    pub lines: Vec<LogLineReply>,
}

/// A line of a log.
#[derive(Debug, Deserialize, Serialize)]
pub struct LogLineReply {
    /// Counts the tenant's lines, from 1.
    pub number: u64,
    /// When: RFC 3339, with milliseconds.
    pub at: String,
    /// `debug`, `info` or `warning`.
    pub level: String,
    /// The text, with what could act on a terminal escaped.
    pub text: String,
}

impl From<LogLine> for LogLineReply {
    fn from(LogLine { number, at, level, text }: LogLine) -> LogLineReply {
        let level = match level {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warning => "warning",
        };
        LogLineReply { number, at: to_the_millisecond(at), level: level.to_owned(), text }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    #[serde(default)]
    after: u64,
}

impl IntoResponse for PolicyError {
    fn into_response(self) -> Response {
        let status = match &self {
            PolicyError::UnknownTenant(_) | PolicyError::Nothing(_) => StatusCode::NOT_FOUND,
            PolicyError::NotActivated(_) => StatusCode::UNPROCESSABLE_ENTITY,
            PolicyError::Disk(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let error = self.to_string();
        let body = match self {
            PolicyError::NotActivated(NotActivated { step, problems, .. }) => {
                let problems: Vec<_> = problems.iter().map(ProblemReply::from).collect();
                serde_json::json!({ "error": error, "step": step, "problems": problems })
            }
            _ => serde_json::json!({ "error": error }),
        };
        (status, Json(body)).into_response()
    }
}

/// On a thread that serves nobody.
async fn blocking<T: Send + 'static>(
    it: &Administration,
    work: impl FnOnce(&Policies) -> Result<T, PolicyError> + Send + 'static,
) -> Result<T, Response> {
    let starting = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is still starting").into_response();
    let policies = Arc::clone(it.shared.policies().ok_or_else(starting)?);
    let failed =
        |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the server's log").into_response();
    let done = tokio::task::spawn_blocking(move || work(&policies)).await.map_err(failed)?;
    done.map_err(PolicyError::into_response)
}

fn reply(activated: &Activated) -> Json<ActivatedReply> {
    Json(ActivatedReply {
        generation: GenerationStatus::from(&activated.generation),
        warnings: activated.warnings.iter().map(ProblemReply::from).collect(),
    })
}

fn named(tenant: String) -> TenantName {
    TenantName(tenant.into())
}

async fn upload(
    State(it): State<Administration>,
    bytes: Result<Bytes, BytesRejection>,
    max_component_bytes: usize,
) -> Result<Json<Uploaded>, Response> {
    let bytes = bytes.map_err(|rejection| {
        let text = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            format!("the component is too large; at most {max_component_bytes} bytes are allowed")
        } else {
            rejection.body_text()
        };
        Problem::new(rejection.status(), text)
    })?;
    let digest = blocking(&it, move |policies| policies.upload(&bytes)).await?;
    Ok(Json(Uploaded { digest }))
}

async fn status(
    State(it): State<Administration>,
    Path(tenant): Path<String>,
) -> Result<Json<TenantPolicyStatus>, Response> {
    Ok(Json(blocking(&it, move |policies| policies.status(&named(tenant))).await?))
}

async fn activate(
    State(it): State<Administration>,
    Path(tenant): Path<String>,
    request: Result<Json<ProposalRequest>, JsonRejection>,
) -> Result<Json<ActivatedReply>, Response> {
    let request = checked(request)?;
    let activated = blocking(&it, move |policies| policies.activate(&named(tenant), request.into())).await?;
    Ok(reply(&activated))
}

async fn try_out(
    State(it): State<Administration>,
    Path(tenant): Path<String>,
    request: Result<Json<ProposalRequest>, JsonRejection>,
) -> Result<Json<ActivatedReply>, Response> {
    let request = checked(request)?;
    let sample_permille = request.sample_permille.unwrap_or(1000);
    if sample_permille > 1000 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "sample_permille: expected 0 to 1000").into_response());
    }
    let work = move |policies: &Policies| policies.try_out(&named(tenant), request.into(), sample_permille);
    Ok(reply(&blocking(&it, work).await?))
}

async fn activate_candidate(
    State(it): State<Administration>,
    Path(tenant): Path<String>,
) -> Result<Json<ActivatedReply>, Response> {
    Ok(reply(&blocking(&it, move |policies| policies.activate_candidate(&named(tenant))).await?))
}

async fn drop_candidate(State(it): State<Administration>, Path(tenant): Path<String>) -> Result<StatusCode, Response> {
    blocking(&it, move |policies| policies.drop_candidate(&named(tenant))).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn roll_back(
    State(it): State<Administration>,
    Path(tenant): Path<String>,
    request: Result<Json<RollbackRequest>, JsonRejection>,
) -> Result<Json<ActivatedReply>, Response> {
    let number = checked(request)?.number;
    Ok(reply(&blocking(&it, move |policies| policies.roll_back(&named(tenant), number)).await?))
}

/// How the candidate compares: what `restante policy replay --json` says of records, and how often it was asked.
async fn shadow(
    State(it): State<Administration>,
    Path(tenant): Path<String>,
) -> Result<Json<serde_json::Value>, Response> {
    let shadow = blocking(&it, move |policies| policies.shadow(&named(tenant))).await?;
    let counts = shadow.counts();
    let mut reply = shadow.comparison().to_json();
    reply["digest"] = shadow.candidate().digest().into();
    reply["asked"] = counts.asked.into();
    reply["skipped"] = counts.skipped.into();
    reply["micros"] = counts.micros.into();
    Ok(Json(reply))
}

async fn start_recording(
    State(it): State<Administration>,
    Path(tenant): Path<String>,
    request: Result<Json<RecordingSettings>, JsonRejection>,
) -> Result<StatusCode, Response> {
    let recording = checked(request)?;
    if recording.sample_permille > 1000 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "sample_permille: expected 0 to 1000").into_response());
    }
    blocking(&it, move |policies| policies.set_recording(&named(tenant), Some(recording.into()))).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn stop_recording(State(it): State<Administration>, Path(tenant): Path<String>) -> Result<StatusCode, Response> {
    blocking(&it, move |policies| policies.set_recording(&named(tenant), None)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn records(State(it): State<Administration>, Path(tenant): Path<String>) -> Result<Response, Response> {
    let records = blocking(&it, move |policies| policies.records(&named(tenant))).await?;
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], streamed(records)).into_response())
}

async fn delete_records(State(it): State<Administration>, Path(tenant): Path<String>) -> Result<StatusCode, Response> {
    blocking(&it, move |policies| policies.delete_records(&named(tenant))).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn put_cases(
    State(it): State<Administration>,
    Path(tenant): Path<String>,
    cases: Bytes,
) -> Result<StatusCode, Response> {
    blocking(&it, move |policies| policies.set_cases(&named(tenant), Some(&cases))).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_cases(State(it): State<Administration>, Path(tenant): Path<String>) -> Result<StatusCode, Response> {
    blocking(&it, move |policies| policies.set_cases(&named(tenant), None)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn log(
    State(it): State<Administration>,
    Path(tenant): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Json<LogReply>, Response> {
    let lines = blocking(&it, move |policies| policies.log_lines(&named(tenant), query.after)).await?;
    Ok(Json(LogReply { lines: lines.into_iter().map(LogLineReply::from).collect() }))
}

/// What a request carries.
pub(super) fn checked<T>(request: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    let refused = |rejection: JsonRejection| Problem::new(rejection.status(), rejection.body_text());
    request.map(|Json(request)| request).map_err(refused)
}

impl From<ProposalRequest> for Proposal {
    fn from(request: ProposalRequest) -> Proposal {
        let ProposalRequest { digest, settings, signature, .. } = request;
        Proposal { digest, settings, signature }
    }
}
