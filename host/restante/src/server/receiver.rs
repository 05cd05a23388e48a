//! Between the sockets and the shards: the least that can be done with what arrives. Each message goes to the shard
//! that its own identifiers name, or that its served user belongs to.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use restante_deferral::model::RecipientKey;
use restante_sip::message::{Defect, Method, Name, SipMessage, validate_request, validate_response};
use restante_sip::transaction::{Flow, shard_of_branch, shard_of_tag};
use restante_sip::uri::Uri;
use restante_sip::writer::{Builder, reason};
use restante_transport::queue::Lane;
use restante_transport::{Handler, Intake, SendToken, TransportEvent, Unreadable};
use siphasher::sip::SipHasher24;

use super::Shared;
use super::flow;
use super::offenders::Standing;
use super::shard::ToShard;

/// The handler that the transport calls.
#[must_use]
pub fn handler(shared: &Arc<Shared>) -> Handler {
    // What is shared holds the transport, and would otherwise hold itself and the store after everything was stopped.
    let shared = Arc::downgrade(shared);
    Arc::new(move |event| match shared.upgrade() {
        Some(shared) => handle(&shared, event),
        None => Intake::Congested,
    })
}

fn handle(shared: &Shared, event: TransportEvent) -> Intake {
    match event {
        TransportEvent::Received { message, flow } => received(shared, message, &flow::from_socket(&flow)),
        TransportEvent::Unreadable { reason, flow, .. } => {
            shared.note_garbage(flow.remote, flow.connection, flow.connection.is_some());
            shared.metrics.count_dropped(match reason {
                Unreadable::Datagram(_) => "unreadable-datagram",
                Unreadable::Truncated => "truncated-datagram",
                Unreadable::Stream(_) | Unreadable::Frame => "unreadable-stream",
            });
            Intake::Open
        }
        TransportEvent::SendFailed { token: SendToken { shard, key }, failure, .. } => {
            tracing::debug!(%failure, "not sent");
            push(shared, usize::from(shard), Lane::Ordered, ToShard::SendFailed(key, failure), 64)
        }
        TransportEvent::Closed { flow, .. } => {
            if let Some(connection) = flow.connection {
                shared.note_closed(flow.remote, connection);
                for shard in 0..shared.shards() {
                    push(shared, shard, Lane::Ordered, ToShard::Closed(connection), 64);
                }
            }
            Intake::Open
        }
    }
}

pub(super) fn received(shared: &Shared, message: SipMessage, flow: &Flow) -> Intake {
    if !message.is_request() {
        if !validate_response(&message) {
            shared.metrics.count_dropped("malformed-response");
            return Intake::Open;
        }
        let shard = message.top_via().ok().and_then(|via| via.branch().and_then(shard_of_branch)).map(usize::from);
        return match shard.filter(|shard| *shard < shared.shards()) {
            Some(shard) => give(shared, shard, Lane::Priority, message, flow, 0),
            None => {
                shared.metrics.count_dropped("response-to-nothing");
                Intake::Open
            }
        };
    }
    if let Err(malformed) = validate_request(&message) {
        shared.metrics.count_dropped("malformed-request");
        let connection = flow.connection.map(|id| restante_transport::ConnectionId(id.0));
        if shared.note_garbage(flow.remote, connection, flow.transport.is_reliable()) != Standing::Answered {
            return Intake::Open;
        }
        // An ACK is never answered (RFC 3261 §17.1.1.3).
        if let Some(status) = malformed.status().filter(|_| message.method() != Some(Method::Ack)) {
            answer(shared, &message, flow, status, &malformed.to_string());
        }
        return Intake::Open;
    }
    let directory_version = shared.directory.version();
    let (shard, lane) = destination(shared, &message, flow);
    give(shared, shard, lane, message, flow, directory_version)
}

fn give(shared: &Shared, shard: usize, lane: Lane, message: SipMessage, flow: &Flow, directory_version: u64) -> Intake {
    let bytes = message.bytes().len();
    let refused = match shared.push(shard, lane, ToShard::Sip { message, flow: *flow, directory_version }, bytes) {
        Ok(()) => return Intake::Open,
        Err(refused) => match *refused {
            ToShard::Sip { message, .. } => message,
            _ => return Intake::Congested,
        },
    };
    shared.metrics.count_dropped("shard-busy");
    if refused.is_request() && refused.method() != Some(Method::Ack) {
        answer(shared, &refused, flow, 503, reason(503));
    }
    Intake::Congested
}

fn push(shared: &Shared, shard: usize, lane: Lane, item: ToShard, bytes: usize) -> Intake {
    match shared.push(shard, lane, item, bytes) {
        Ok(()) => Intake::Open,
        Err(_) => {
            shared.metrics.count_dropped("shard-busy");
            Intake::Congested
        }
    }
}

/// Which shard, and on which lane: what ends work, or says who can be reached, passes by what begins work.
pub(super) fn destination(shared: &Shared, message: &SipMessage, flow: &Flow) -> (usize, Lane) {
    let method = message.method();
    let lane = match method {
        Some(Method::Ack | Method::Bye | Method::Cancel | Method::Register) => Lane::Priority,
        _ => Lane::Ordinary,
    };
    let tagged = message.to().ok().and_then(|to| to.tag().and_then(shard_of_tag)).map(usize::from);
    // The ACK of a refusal has the Request-URI of its INVITE, and a tag of whoever refused; ours of a dialog has our
    // Contact.
    let tagged = tagged.filter(|shard| *shard < shared.shards());
    if let (Some(shard), false) = (tagged, method == Some(Method::Ack)) {
        return (shard, lane);
    }
    let request_uri = message.request_uri().and_then(|uri| Uri::parse(uri).ok());
    let is_of_invite = matches!(method, Some(Method::Cancel | Method::Ack));
    if is_of_invite && let Some(shard) = shared.elsewhere.shard(message) {
        return (shard, lane);
    }
    let user = match &method {
        Some(Method::Register) => message.to().ok().map(|to| to.uri),
        // A client that fetches names itself in From; the URI it fetches from is nobody's queue. CANCEL and ACK have
        // nothing else to find the INVITE's shard by.
        Some(Method::Invite | Method::Cancel | Method::Ack)
            if request_uri.as_ref().is_some_and(|uri| shared.is_deferred_uri(uri)) =>
        {
            message.from().ok().map(|from| from.uri)
        }
        // What a user of ours sends is passed on, which any shard does: there, CANCEL and ACK find it by themselves.
        _ => request_uri.clone().map(|uri| match shared.served(message, &uri, flow) {
            served if served.is_originating() => uri,
            served => served.uri,
        }),
    };
    let shard_of_user = |uri: &Uri| {
        let key = shared.directory.served(uri).map(|(_, key)| key);
        key.map_or(tagged.unwrap_or(0), |key| shard_of(&key, shared.shards()))
    };
    let shard = user.as_ref().map_or(tagged.unwrap_or(0), shard_of_user);
    if method == Some(Method::Invite)
        && user != request_uri
        && request_uri.as_ref().is_some_and(|uri| !shared.is_deferred_uri(uri) && shard_of_user(uri) != shard)
    {
        shared.elsewhere.note(message, shard);
    }
    (shard, lane)
}

/// The shard that a user belongs to: the same in every run, though nothing depends on that.
#[must_use]
pub fn shard_of(key: &RecipientKey, shards: usize) -> usize {
    // Keyed with constants: which user shares a shard with which is no secret worth a per-process key, and every thread
    // must come to the same result.
    let mut hasher = SipHasher24::new_with_keys(0x5265_7374_616e_7465, 0x706f_7374_6521_2121);
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % (shards.max(1) as u64)).unwrap_or(0)
}

/// Answers without any state.
fn answer(shared: &Shared, request: &SipMessage, flow: &Flow, status: u16, reason: &str) {
    let Some(sender) = shared.sender() else { return };
    let via = request.top_via().ok();
    // Without one nobody says where an answer goes; whoever is connected is there.
    let via_is_missing = request.header(Name::Via).is_none();
    if via_is_missing && !flow.transport.is_reliable() {
        return;
    }
    let remote = match &via {
        Some(via) if !flow.transport.is_reliable() => via.response_destination(flow.remote),
        _ => flow.remote,
    };
    let stamped = via.map(|mut via| {
        via.stamp(flow.remote);
        via.to_string()
    });
    let response = match request.defect() {
        Some(Defect::NoVersion) if via_is_missing => Builder::response_to_part(request, status, reason),
        _ => Builder::response(request, status, reason, stamped.as_deref(), Some("r00stateless")),
    };
    let response = if status == 503 { response.field("Retry-After", "5") } else { response };
    let bytes: Bytes = match response.finish() {
        Ok(bytes) => bytes,
        // Without the fields that an answer repeats it would reach nobody.
        Err(_) => return,
    };
    let target = flow::to_target(&Flow { remote, ..*flow });
    if sender.send(&target, bytes, None).is_err() {
        shared.metrics.count_dropped("answer-not-sent");
    }
}
