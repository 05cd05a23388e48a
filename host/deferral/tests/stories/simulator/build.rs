//! Messages, contacts and answers for stories.

use bytes::Bytes;
use restante_deferral::decision::{
    Answer, DeliveryStep, IncomingAnswer, Keep, Plan, Question, Selection, Step, Target, Undecided, WaitingMessage,
};
use restante_deferral::model::{
    Abilities, Body, CanonicalAddress, Contact, ContactId, Counts, DeduplicationKey, Dispositions, Duration, Envelope,
    ImdnHeaders, MessageId, MessageKind, Mode, Origin, RecipientKey, Sender, TenantName, Timestamp, Verification,
};
use restante_deferral::participating_function::{Arrival, Attempt, AttemptEnd, AttemptTask, PullRequest, ReplyToken};

pub fn bob() -> RecipientKey {
    key("sip:bob@example.org")
}

pub fn key(address: &str) -> RecipientKey {
    RecipientKey { tenant: TenantName("example".into()), address: CanonicalAddress(address.into()) }
}

pub fn envelope(name: &str) -> Envelope {
    Envelope {
        kind: MessageKind::Message,
        mode: Mode::Page,
        sender: Sender {
            address: CanonicalAddress("sip:alice@example.org".into()),
            uri: String::from("sip:alice@example.org"),
            verification: Verification::TrustedPeer,
            private: false,
        },
        request_uri: String::from("sip:bob@example.org"),
        headers: vec![(String::from("Conversation-ID"), String::from("f81d4fae"))],
        content_type: String::from("message/cpim"),
        wrapped_type: Some(String::from("text/plain")),
        imdn: Some(ImdnHeaders {
            message_id: name.to_owned(),
            date_time: Some(String::from("2023-11-14T22:13:20Z")),
            to: Some(String::from("<sip:bob@example.org>")),
            from: Some(String::from("<sip:anonymous@anonymous.invalid>")),
            original_to: None,
            dispositions: Dispositions::default(),
            record_route: Vec::new(),
        }),
        page_base_bytes: Some(700),
    }
}

/// A small message from Alice.
pub fn message(name: &str) -> Arrival {
    let mut key = [0_u8; 16];
    for (slot, byte) in key.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    Arrival {
        reply: ReplyToken(0),
        request: Default::default(),
        deduplication: DeduplicationKey(key),
        deduplication_as_written: None,
        envelope: envelope(name),
        body: Body::Inline(Bytes::from(format!("text of {name}"))),
        expires_at: None,
        sender_counts: Counts::default(),
        tenant_counts: Counts::default(),
        recipient_rates: Counts::default(),
        upstream_failure: None,
        has_room: true,
    }
}

/// A message that goes in a session only.
pub fn large(name: &str) -> Arrival {
    let mut arrival = message(name);
    arrival.envelope.mode = Mode::Large;
    arrival.envelope.page_base_bytes = None;
    arrival
}

pub fn from(mut arrival: Arrival, sender: &str) -> Arrival {
    arrival.envelope.sender.address = CanonicalAddress(sender.into());
    arrival.envelope.sender.uri = sender.to_owned();
    arrival
}

pub fn asking(mut arrival: Arrival, dispositions: Dispositions) -> Arrival {
    if let Some(imdn) = &mut arrival.envelope.imdn {
        imdn.dispositions = dispositions;
    }
    arrival
}

pub fn negative() -> Dispositions {
    Dispositions { negative_delivery: true, ..Dispositions::default() }
}

pub fn phone() -> Contact {
    contact(1, 1000)
}

pub fn contact(id: u64, q_permille: u16) -> Contact {
    Contact {
        id: ContactId(id),
        instance: Some(format!("urn:uuid:{id}")),
        device: format!("urn:uuid:{id}"),
        q_permille,
        abilities: Abilities { page_mode: true, large_message_mode: true, ..Abilities::default() },
        tags: Vec::new(),
        route_bytes: 100,
        max_page_bytes: 1300,
        subscribed: false,
        accepts_summary: false,
        expires_at: Timestamp::NEVER,
        refreshed_at: Some(Timestamp::default()),
    }
}

/// Somebody elsewhere, who registers nowhere here.
pub fn foreign(contact: Contact) -> Contact {
    Contact { refreshed_at: None, ..contact }
}

pub fn subscribed(contact: Contact) -> Contact {
    Contact { subscribed: true, ..contact }
}

pub fn end(status: Option<u16>, origin: Origin) -> AttemptEnd {
    AttemptEnd { status, origin, retry_after_seconds: None, is_ours: false, outcomes: Vec::new() }
}

/// Too much is in flight here.
pub fn too_busy() -> AttemptEnd {
    AttemptEnd { is_ours: true, ..end(None, Origin::Transport) }
}

pub fn timeout() -> AttemptEnd {
    end(None, Origin::Timeout)
}

pub fn pull(contact: Option<ContactId>, selection: Selection) -> PullRequest {
    PullRequest {
        reply: ReplyToken(0),
        contact,
        device: contact.map_or_else(|| String::from("sip:unknown"), |contact| format!("urn:uuid:{}", contact.0)),
        verification: Verification::Authenticated,
        selection,
        accept_types: vec![String::from("message/cpim")],
        accept_wrapped_types: vec![String::from("*")],
        max_size_bytes: None,
        direction: Default::default(),
        fields: Vec::new(),
    }
}

/// Keep for a week.
pub fn keep(now: Timestamp) -> Keep {
    Keep { expires_at: now.after(Duration::from_secs(7 * 24 * 3600)), priority: 100, deliver_now: true }
}

pub fn kept(now: Timestamp) -> Result<Answer, Undecided> {
    Ok(Answer::Incoming(IncomingAnswer::Keep(keep(now))))
}

pub fn any(messages: Vec<MessageId>) -> DeliveryStep {
    DeliveryStep { messages, target: Target::Any }
}

pub fn ids(messages: &[WaitingMessage]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}

pub fn planned(steps: Vec<Step>) -> Result<Answer, Undecided> {
    Ok(Answer::Available(Plan { steps, ask_again_at: None }))
}

/// Keeps everything, pages everything, and lets the fallback do the rest.
pub fn pages_all(question: &Question) -> Result<Answer, Undecided> {
    match question {
        Question::Available(_, availability) => planned(vec![Step::Page(any(ids(&availability.messages)))]),
        Question::Incoming(context, _) => kept(context.now),
        _ => Err(Undecided::Declined),
    }
}

/// Keeps everything, sends all in one session, and lets the fallback do the rest.
pub fn one_session(question: &Question) -> Result<Answer, Undecided> {
    match question {
        Question::Available(_, availability) => planned(vec![Step::Session(any(ids(&availability.messages)))]),
        question => pages_all(question),
    }
}

/// An attempt in a few words, by the names of its messages.
pub fn describe(attempt: &Attempt) -> String {
    let name = |stored: &restante_deferral::model::StoredMessage| {
        stored.message.envelope.imdn.as_ref().map(|imdn| imdn.message_id.clone()).unwrap_or_default()
    };
    let to = attempt.contact.map(|contact| format!(" to {}", contact.0)).unwrap_or_default();
    match &attempt.task {
        AttemptTask::Page { message, repetition } => format!("page {} #{repetition}{to}", name(message)),
        AttemptTask::Session { messages, .. } => {
            format!("session {}{to}", messages.iter().map(name).collect::<Vec<_>>().join(" "))
        }
        AttemptTask::Notify { messages, .. } => {
            format!("notify {}{to}", messages.iter().map(name).collect::<Vec<_>>().join(" "))
        }
        AttemptTask::Pull { messages, mode, .. } => {
            format!("pull {mode:?} {}{to}", messages.iter().map(name).collect::<Vec<_>>().join(" "))
        }
        AttemptTask::Relay { envelope, contacts, .. } => {
            let to: String = contacts.iter().map(|contact| format!(" to {}", contact.0)).collect();
            format!("relay {}{to}", envelope.imdn.as_ref().map(|imdn| imdn.message_id.clone()).unwrap_or_default())
        }
        AttemptTask::HandOver { target, message, .. } => format!("hand over {} to {target}", name(message)),
    }
}
