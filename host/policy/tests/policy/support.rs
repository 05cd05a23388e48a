//! Components, generations and questions to try them with.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use restante_deferral::decision::{Availability, ContactView, Context, Field, HostAbilities, Incoming, IncomingPhase};
use restante_deferral::decision::{Question, RecipientView, SenderView, Trigger, WaitingMessage};
use restante_deferral::model::{
    Abilities, CanonicalAddress, ContactId, Counts, Dispositions, MessageId, MessageKind, Mode, QueueTotals,
    TenantName, Timestamp, Verification,
};
use restante_policy::{Generation, LoadError, Loaded, Loader, PolicyEngine, PolicyLimits};

/// The policy that misbehaves as its settings say.
pub const HOSTILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hostile.wasm"));
/// The same before it was made a component.
pub const CORE_MODULE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hostile.core.wasm"));
/// A component of `plugin/hostile/by-hand`.
pub fn by_hand(name: &str) -> Vec<u8> {
    let path = format!("{}/{name}.wasm", env!("OUT_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The time of every test.
pub const NOW: u64 = 1_700_000_000_000;

/// Longer than anything takes on a busy machine that comes to an end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a busy machine may take longer.
const ATTEMPTS: usize = 20;

/// One engine for most tests: each has its own address space and clock. Patient, because the deadline goes by the wall
/// and a busy machine may give a test no time.
pub static ENGINE: LazyLock<PolicyEngine> = LazyLock::new(|| engine(Duration::from_secs(5), 0));
/// Compiles each component once.
pub static LOADER: LazyLock<Loader> = LazyLock::new(|| Loader::new(ENGINE.clone(), None).expect("a loader"));
/// Loads what comes to no end while it is loaded: nobody waits for long.
pub static HASTY: LazyLock<Loader> = LazyLock::new(|| {
    let limits = PolicyLimits { check_deadline: Duration::from_secs(1), ..PolicyLimits::default() };
    Loader::new(PolicyEngine::new(limits).expect("an engine"), None).expect("a loader")
});

/// An engine with this deadline of decisions and so many threads, patient with everything else.
pub fn engine(deadline: Duration, threads: usize) -> PolicyEngine {
    let (check_deadline, max_wait) = (PATIENCE, PATIENCE);
    let limits = PolicyLimits { deadline, threads, check_deadline, max_wait, ..PolicyLimits::default() };
    PolicyEngine::new(limits).expect("an engine")
}

/// What the tests' host can do.
pub fn abilities() -> HostAbilities {
    HostAbilities { max_page_bytes: 1_300, max_message_bytes: 100 << 20, hand_over_targets: vec!["sms".to_owned()] }
}

/// The standard policy with these settings.
pub fn standard(settings: &str) -> Result<Loaded, LoadError> {
    LOADER.load(restante_policy::standard::COMPONENT, settings, &abilities())
}

/// The hostile policy with this behaviour.
pub fn hostile(behaviour: &str) -> Arc<Generation> {
    hostile_of(&LOADER, behaviour)
}

/// The same of another engine. Settings are checked by the wall, too: a busy machine may give that no time at first.
pub fn hostile_of(loader: &Loader, behaviour: &str) -> Arc<Generation> {
    let settings = format!(r#"{{"behaviour": "{behaviour}"}}"#);
    let load = || loader.load(HOSTILE, &settings, &abilities());
    let loaded = (1..ATTEMPTS).find_map(|_| load().ok());
    loaded.unwrap_or_else(|| load().expect("it behaves until it is asked")).generation
}

/// A tenant.
pub fn tenant(name: &str) -> TenantName {
    TenantName(name.into())
}

/// Bob of this tenant.
pub fn context_of(name: &str) -> Context {
    Context {
        now: Timestamp(NOW),
        tenant: tenant(name),
        recipient: RecipientView {
            address: CanonicalAddress("sip:bob@example.org".into()),
            aliases: Vec::new(),
            subscriber_class: None,
            delivery: None,
            utc_offset_minutes: None,
        },
        queue: QueueTotals::default(),
        fields: vec![Field { name: "sip.user-agent".to_owned(), value: "test".to_owned() }],
    }
}

/// Bob.
pub fn context() -> Context {
    context_of("example")
}

/// A message for Bob who is not there.
pub fn incoming() -> Incoming {
    Incoming {
        phase: IncomingPhase::Complete,
        kind: MessageKind::Message,
        mode: Mode::Page,
        service: None,
        registration: Default::default(),
        sender: SenderView {
            address: "sip:alice@example.org".to_owned(),
            verification: Verification::TrustedPeer,
            private: false,
        },
        size_bytes: Some(120),
        content_type: "text/plain".to_owned(),
        wrapped_type: None,
        dispositions: Dispositions::default(),
        expires_at: None,
        contacts: Vec::new(),
        recipient_counts: Counts::default(),
        sender_counts: Counts::default(),
        tenant_counts: Counts::default(),
        upstream_failure: None,
    }
}

/// The question whether that message is kept.
pub fn arrival_for(name: &str) -> Question {
    Question::Incoming(context_of(name), Box::new(incoming()))
}

/// A contact for both modes.
pub fn contact(id: u64) -> ContactView {
    let abilities = Abilities { page_mode: true, large_message_mode: true, ..Abilities::default() };
    ContactView {
        id: ContactId(id),
        instance: None,
        q_permille: 1_000,
        abilities,
        tags: Vec::new(),
        last_failure: None,
    }
}

/// A small message from Alice that waits.
pub fn waiting(id: u64) -> WaitingMessage {
    WaitingMessage {
        id: MessageId(id),
        sender: "sip:alice@example.org".to_owned(),
        kind: MessageKind::Message,
        page_bytes: Some(600),
        size_bytes: 120,
        content_type: "text/plain".to_owned(),
        received_at: Timestamp(NOW - 60_000),
        expires_at: Timestamp(NOW + 86_400_000),
        priority: 100,
        attempts: 0,
        not_before: None,
        last_failure: None,
        page_refused: false,
        large_refused: false,
        notified_at: None,
        fetch_deadline: None,
        devices: Vec::new(),
    }
}

/// So many of them, and Bob registered.
pub fn availability(count: u64) -> Availability {
    Availability {
        trigger: Trigger::Registered,
        contacts: vec![contact(1)],
        messages: (1..=count).map(waiting).collect(),
        not_shown: 0,
        can_notify: true,
    }
}
