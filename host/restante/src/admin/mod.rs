//! The administration interface: HTTP on a Unix socket in the data directory, and on TCP with a token.

mod decide;
pub mod model;
pub mod policies;
mod queue;
mod serve;
mod streaming;
mod tenants;
mod users;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use self::serve::{Listening, serve};
use crate::configuration::Configuration;
use crate::memory;
use crate::metrics::Scrape;
use crate::server::certificates::{Certificates, time_text};
use crate::server::roster::Roster;
use crate::server::{Server, Shared};

/// The bit of a file's mode that lets every user read it.
const OTHERS_READ: u32 = 0o004;
/// Longest request body.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What handlers see.
#[derive(Clone)]
pub struct Administration {
    shared: Arc<Shared>,
    roster: Arc<Roster>,
    counters: Arc<restante_transport::TransportCounters>,
    certificates: Arc<Certificates>,
}

/// The interface while it runs.
pub struct Running {
    socket: PathBuf,
    address: Option<SocketAddr>,
    token_file: PathBuf,
    stop: watch::Sender<bool>,
}

impl Running {
    /// The Unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where it is on TCP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The file with the token for that.
    #[must_use]
    pub fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// Takes no more requests and removes the socket.
    pub fn stop(&self) {
        let _ = self.stop.send(true);
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// An error as its user reads it.
pub struct Problem(StatusCode, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Response {
        problem.into_response()
    }
}

impl Problem {
    /// With a status.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Problem {
        Problem(status, text.into())
    }
}

impl From<restante_store::StoreError> for Problem {
    fn from(error: restante_store::StoreError) -> Problem {
        tracing::error!(%error, "the store cannot be read");
        Problem(StatusCode::INTERNAL_SERVER_ERROR, "the store cannot be read; see the server's log".to_owned())
    }
}

/// Starts it.
///
/// # Errors
/// A socket that cannot be opened.
pub async fn start(configuration: &Configuration, server: &Server) -> Result<Running> {
    let administration = Administration {
        shared: server.shared().clone(),
        roster: server.roster().clone(),
        counters: server.transport_counters(),
        certificates: server.certificates().clone(),
    };
    let max_component_bytes = usize::try_from(configuration.limits.max_policy_bytes).unwrap_or(usize::MAX);
    let (stop, stopped) = watch::channel(false);
    let socket = configuration.data.join("admin.sock");
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context(socket.display().to_string());
        }
        _ => {}
    }
    // From its first moment on nobody else may open it.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(&socket);
    rustix::process::umask(before);
    let listener = bound.with_context(|| socket.display().to_string())?;
    tokio::spawn(serve(
        Listening::Unix(listener),
        routes(administration.clone(), max_component_bytes),
        stopped.clone(),
    ));
    let token_file = configuration.admin.token_file.clone().unwrap_or_else(|| configuration.data.join("admin.token"));
    let mut on_tcp = None;
    if let Some(address) = configuration.admin.listen {
        let token = token(&token_file)?;
        warn_of_open_token(&token_file);
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let local = listener.local_addr()?;
        on_tcp = Some(local);
        let mut hosts = vec![local.to_string(), format!("localhost:{}", local.port())];
        hosts.extend(configuration.admin.hosts.iter().cloned());
        let guard = Guard { token: token.into(), hosts: hosts.into() };
        let remote = routes(administration, max_component_bytes).layer(middleware::from_fn_with_state(guard, check));
        tokio::spawn(serve(Listening::Tcp(listener), remote, stopped));
    }
    Ok(Running { socket, address: on_tcp, token_file, stop })
}

fn routes(administration: Administration, max_component_bytes: usize) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/queue", get(queue::list))
        .route("/queue/discard", post(queue::discard))
        .route("/queue/{id}", get(queue::show))
        .route("/users/{address}", get(users::show).patch(users::change))
        .route("/users/{address}/registration", put(users::report_registration).post(users::report_registration))
        .route("/users/{address}/credentials", put(users::set_credentials).delete(users::remove_credentials))
        .route("/tenants", get(tenants::list))
        .route("/tenants/{name}", get(tenants::show).put(tenants::put).delete(tenants::remove))
        .route("/tenants/{name}/decide/{hook}", post(decide::decide))
        .route("/reload", post(tenants::reload))
        .merge(policies::routes(max_component_bytes))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(administration)
}

/// What a TCP request must show.
#[derive(Clone)]
struct Guard {
    token: Arc<str>,
    hosts: Arc<[String]>,
}

/// The token, compared in constant time, and a Host that is this server's, so that no page in a browser can be made to
/// ask here under another name.
async fn check(State(guard): State<Guard>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !guard.hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) {
        return shown_out(StatusCode::MISDIRECTED_REQUEST, "unknown Host; see admin.hosts");
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let given = given.unwrap_or("").as_bytes();
    if !bool::from(given.ct_eq(guard.token.as_bytes())) {
        return shown_out(StatusCode::UNAUTHORIZED, "bearer token required");
    }
    next.run(request).await
}

/// Whether the token file that the configuration names can be used, or made: what is in the data directory is not
/// looked at.
///
/// # Errors
/// What [`start`] says of it.
pub fn check_token_file(configuration: &Configuration) -> Result<()> {
    match &configuration.admin.token_file {
        Some(file) if configuration.admin.listen.is_some() => {
            known_token(file).context("cannot start the administration interface")?;
            warn_of_open_token(file);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whoever knows the token may do everything.
fn warn_of_open_token(path: &Path) {
    if std::fs::metadata(path).is_ok_and(|it| it.permissions().mode() & OTHERS_READ != 0) {
        tracing::warn!(file = %path.display(), "the token is readable by every local user; restrict it (chmod 600)");
    }
}

/// The token of the file; none where there is no file.
fn known_token(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 16 => Ok(Some(text.trim().to_owned())),
        Ok(_) => anyhow::bail!("{}: expected a token of at least 16 characters", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Who may not ask keeps no connection.
fn shown_out(status: StatusCode, text: &str) -> Response {
    ([(header::CONNECTION, "close")], Problem::new(status, text)).into_response()
}

/// The token of the file, made when it is missing.
fn token(path: &Path) -> Result<String> {
    if let Some(token) = known_token(path)? {
        return Ok(token);
    }
    let mut random = [0u8; 24];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let token = HEXLOWER.encode(&random);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, format!("{token}\n").as_bytes())?;
    Ok(token)
}

async fn health(State(administration): State<Administration>) -> Response {
    let store = &administration.shared.store;
    let age = store.oldest_write_age();
    let limit = std::time::Duration::from_millis(administration.shared.limits.max_commit_wait_milliseconds);
    let (status, state) = match (store.is_full(), age > limit) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "disk_full"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        (false, false) => (StatusCode::OK, "ok"),
    };
    let mut health = serde_json::json!({ "status": state, "oldest_write_milliseconds": age.as_millis() });
    let tls = administration.certificates.status();
    if let Some(certificate) = &tls.certificate {
        let expires_at = certificate.expires_at_seconds.and_then(time_text);
        health["certificate"] =
            serde_json::json!({ "names": certificate.names, "expires_at": expires_at, "problem": tls.problem });
    }
    (status, Json(health)).into_response()
}

async fn metrics(State(administration): State<Administration>) -> Response {
    let shared = &administration.shared;
    let (messages, dispositions) = shared.store.all_totals();
    let scrape = Scrape {
        transport: administration.counters.snapshot(),
        messages,
        dispositions,
        is_disk_full: shared.store.is_full(),
        oldest_write_age: shared.store.oldest_write_age(),
        disbelieved_hops: shared.disbelieved_hops(),
        heap: memory::heap(),
        tls: administration.certificates.status(),
        policies: shared.policies().map(|policies| policies.host().statistics()).unwrap_or_default(),
        activations: shared.policies().map(|policies| policies.activations()).unwrap_or_default(),
    };
    let text = shared.metrics.encode(Some(scrape));
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
