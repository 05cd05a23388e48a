//! `/queue`

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use restante_deferral::commit::{Change, Transaction};
use restante_deferral::model::{
    CanonicalAddress, MessageId, MessageKind, Mode, RecipientKey, StoredMessage, TenantName,
};
use restante_sip::identity::canonical;
use restante_sip::uri::Uri;
use restante_store::{Filter, Store, Ticket};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::model::{DiscardRequest, Discarded, QueueEntry, QueuePage, QueueState};
use super::{Administration, Problem};
use crate::server::shard::ToShard;
use crate::times::to_the_second;

/// Most messages on a page.
const MAX_PAGE: u32 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    tenant: Option<String>,
    to: Option<String>,
    after: Option<u64>,
    #[serde(default = "fifty")]
    limit: u32,
}

fn fifty() -> u32 {
    50
}

pub async fn list(
    State(it): State<Administration>,
    Query(query): Query<ListQuery>,
) -> Result<Json<QueuePage>, Problem> {
    let recipient = query.to.as_deref().map(|to| queue_of(&it, query.tenant.as_deref(), to)).transpose()?;
    let filter = Filter {
        tenant: query.tenant.map(|name| TenantName(name.into())),
        recipient,
        after: query.after.map(MessageId),
    };
    let limit = query.limit.clamp(1, MAX_PAGE) as usize;
    let found = blocking(&it, move |store| store.list(&filter, limit.saturating_add(1))).await?;
    let more = found.len() > limit;
    let messages: Vec<QueueEntry> = found.iter().take(limit).map(|(message, size)| entry(message, *size)).collect();
    let next_after = messages.last().map(|last| last.id).filter(|_| more);
    Ok(Json(QueuePage { messages, next_after }))
}

pub async fn show(State(it): State<Administration>, Path(id): Path<u64>) -> Result<Json<QueueEntry>, Problem> {
    let found = blocking(&it, move |store| match store.show(MessageId(id)) {
        Err(error) if error.is_of_one_row() => Ok(Err(error)),
        found => found.map(Ok),
    })
    .await?;
    let found = found.map_err(|error| {
        let text = format!("message {id} cannot be read ({error}): `restante queue discard {id}` removes it");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    let (message, size) =
        found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("no waiting message {id}")))?;
    Ok(Json(entry(&message, size)))
}

pub async fn discard(
    State(it): State<Administration>,
    Json(request): Json<DiscardRequest>,
) -> Result<Json<Discarded>, Problem> {
    let mut total = 0;
    if let Some(to) = &request.to {
        total += discard_of(&it, queue_of(&it, request.tenant.as_deref(), to)?, None, request.report).await?;
    }
    for id in request.ids {
        let id = MessageId(id);
        let found = blocking(&it, move |store| match store.show(id) {
            Err(error) if error.is_of_one_row() => Ok((store.recipient_of(id)?, false)),
            found => Ok((found?.map(|(message, _)| message.message.recipient), true)),
        });
        total += match found.await? {
            (Some(recipient), true) => discard_of(&it, recipient, Some(vec![id]), request.report).await?,
            (Some(recipient), false) => remove_unreadable(&it, recipient, id).await?,
            (None, _) => 0,
        };
    }
    Ok(Json(Discarded { messages: total }))
}

/// What cannot be read is on nobody's mind, and has nothing to report.
async fn remove_unreadable(it: &Administration, recipient: RecipientKey, id: MessageId) -> Result<usize, Problem> {
    let late = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server did not answer in time");
    let transaction = Transaction { changes: vec![Change::Remove { recipient, id }], settles: true };
    // No shard waits for this number.
    it.shared.store.write(Ticket { shard: 0, token: 0 }, transaction).map_err(|_| late())?;
    for _ in 0..100 {
        if blocking(it, move |store| store.recipient_of(id)).await?.is_none() {
            return Ok(1);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Err(late())
}

async fn discard_of(
    it: &Administration,
    recipient: RecipientKey,
    messages: Option<Vec<MessageId>>,
    report: bool,
) -> Result<usize, Problem> {
    let (done, answer) = oneshot::channel();
    it.shared.to_recipient(&recipient.clone(), ToShard::Discard { recipient, messages, report, done });
    let answer = tokio::time::timeout(std::time::Duration::from_secs(30), answer).await;
    answer
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server did not answer in time"))
}

/// The queue of a user; where a tenant is named, that tenant's and no other's, whoever serves the address now. A tenant keeps
/// reports for somebody elsewhere, too, on messages that came from there.
fn queue_of(it: &Administration, tenant: Option<&str>, uri: &str) -> Result<RecipientKey, Problem> {
    if let (Some(tenant), Ok(parsed)) = (tenant, Uri::parse(uri))
        && let Some(name) = canonical(&parsed)
    {
        let served = it.shared.directory.served(&parsed).map(|(_, key)| key);
        let of_tenant = served.filter(|key| *key.tenant.0 == *tenant);
        let under_name = || RecipientKey { tenant: TenantName(tenant.into()), address: CanonicalAddress(name.into()) };
        return Ok(of_tenant.unwrap_or_else(under_name));
    }
    recipient(it, uri).map_err(|Problem(status, text)| match status {
        StatusCode::NOT_FOUND => Problem::new(status, format!("{text}; with a tenant, reports for others are shown")),
        _ => Problem(status, text),
    })
}

/// The served user that a URI names.
pub fn recipient(it: &Administration, uri: &str) -> Result<RecipientKey, Problem> {
    let parsed = Uri::parse(uri).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{uri:?}: {error}")))?;
    let found = it.shared.directory.served(&parsed).map(|(_, key)| key);
    found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("{uri:?} is not a user of any tenant")))
}

/// Something that waits for the disk, off this thread.
pub async fn blocking<T: Send + 'static>(
    it: &Administration,
    work: impl FnOnce(&dyn Store) -> Result<T, restante_store::StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let store = it.shared.store.clone();
    match tokio::task::spawn_blocking(move || work(&*store)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the server's log")),
    }
}

fn entry(message: &StoredMessage, size_bytes: u64) -> QueueEntry {
    let stored = &message.message;
    let envelope = &stored.envelope;
    QueueEntry {
        id: message.id.0,
        tenant: stored.recipient.tenant.to_string(),
        to: stored.recipient.address.to_string(),
        from: envelope.sender.address.to_string(),
        kind: match envelope.kind {
            MessageKind::Message => "message",
            MessageKind::Disposition => "disposition",
        }
        .to_owned(),
        mode: match envelope.mode {
            Mode::Page => "page",
            Mode::Large => "large",
        }
        .to_owned(),
        content_type: envelope.content_type.clone(),
        size_bytes,
        received_at: to_the_second(stored.received_at),
        expires_at: to_the_second(stored.expires_at),
        priority: stored.priority,
        attempts: message.attempts,
        state: match (message.not_before, message.fetch_deadline) {
            (Some(_), _) => QueueState::Retry,
            (None, Some(_)) => QueueState::Announced,
            (None, None) => QueueState::Waiting,
        },
        retry_at: message.not_before.map(to_the_second),
        announced_until: message.fetch_deadline.filter(|_| message.not_before.is_none()).map(to_the_second),
        last_failure: message.last_failure.map(|last| {
            let status = last.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            let origin = format!("{:?}", last.origin).to_lowercase();
            format!("{status} from {origin} at {}", to_the_second(last.at))
        }),
        imdn_message_id: envelope.imdn.as_ref().map(|imdn| imdn.message_id.clone()),
    }
}
