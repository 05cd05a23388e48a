//! What goes into a machine and what comes out.

use super::report::ReportKey;
use crate::commit::{Applied, CommitError, LoadRequest, ReportMade, Transaction, Window};
use crate::decision::validate::Impossible;
use crate::decision::{Answer, AttemptKind, Field, MediaDirection, Progress, Question, Selection, Trigger, Undecided};
use crate::model::{
    Body, Contact, ContactId, Counts, DeduplicationKey, Duration, Envelope, MessageId, Mode, Origin, Profile,
    RecipientKey, RegistrationState, StoredMessage, Timestamp, Verification,
};

/// Names whoever waits for a [`Reply`]: a server transaction, an MSRP message. Made by the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// Names a question. A stale answer is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionToken(pub u64);

/// Names a transaction given to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitToken(pub u64);

/// Names a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadToken(pub u64);

/// Names an attempt, unique within a machine's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

/// Bounds and times of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages in memory per recipient.
    pub max_window_messages: u32,
    /// Bytes of their inline bodies.
    pub max_window_bytes: u64,
    /// Arrivals (and pulls) that wait for an answer, per recipient. More are refused with 503.
    pub max_waiting_arrivals: usize,
    /// Messages per decision.
    pub max_decision_messages: usize,
    /// Wait between a registration and the first push (RFC 3428 says nothing; clients need their 200 first).
    pub registration_delay: Duration,
    /// A refresh reopens a waiting queue at most this often.
    pub min_refresh_interval: Duration,
    /// A policy may not be asked `on-available` by timers more often than this.
    pub min_ask_interval: Duration,
    /// Longest relay deadline that a policy can ask for; proxies in front give up after 5 s.
    pub max_relay: Duration,
    /// The same for an INVITE; they give up after 20 s.
    pub max_relay_of_invitation: Duration,
    /// Longest hold. A policy is asked again then and may hold again, so that what one policy held to the end of time
    /// does not bind the next one.
    pub max_hold: Duration,
    /// Longest keeping.
    pub max_keep: Duration,
    /// Keeping where neither the sender nor a working policy says anything.
    pub default_keep: Duration,
    /// Address of this server in reports that it sends, for example `sip:example.org`.
    pub reporter: String,
    /// Makes the Message-IDs of those reports.
    pub report_key: ReportKey,
    /// Names of the targets that a policy may hand messages over to.
    pub hand_over_targets: Vec<String>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_window_messages: 200,
            max_window_bytes: 1024 * 1024,
            max_waiting_arrivals: 256,
            max_decision_messages: 50,
            registration_delay: Duration::from_secs(2),
            min_refresh_interval: Duration::from_secs(60),
            min_ask_interval: Duration::from_secs(1),
            max_relay: Duration::from_secs(3),
            max_relay_of_invitation: Duration::from_secs(15),
            max_hold: Duration::from_secs(24 * 3600),
            max_keep: Duration::from_secs(30 * 24 * 3600),
            default_keep: Duration::from_secs(7 * 24 * 3600),
            reporter: String::from("sip:restante.invalid"),
            report_key: ReportKey::default(),
            hand_over_targets: Vec::new(),
        }
    }
}

/// What a request says beside its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The service that it names.
    pub service: Option<String>,
    /// What the core says of the recipient's registration.
    pub registration: RegistrationState,
    /// Further values, for whoever is asked about it.
    pub fields: Vec<Field>,
}

/// A message that came whole and waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Who waits.
    pub reply: ReplyToken,
    /// Recognises repetitions.
    pub deduplication: DeduplicationKey,
    /// The same over the names as they were written, where those are others.
    pub deduplication_as_written: Option<DeduplicationKey>,
    /// What its request says beside it.
    pub request: RequestFacts,
    /// What it says.
    pub envelope: Envelope,
    /// Its body; a spooled one is durable already.
    pub body: Body,
    /// The sender's expiry.
    pub expires_at: Option<Timestamp>,
    /// Of the sender.
    pub sender_counts: Counts,
    /// Of the tenant.
    pub tenant_counts: Counts,
    /// Of the recipient, lately: `last_minute` and `last_hour`.
    pub recipient_rates: Counts,
    /// What upstream met.
    pub upstream_failure: Option<u16>,
    /// The tenant may store one more. Otherwise whatever would be stored is refused with 480.
    pub has_room: bool,
}

/// Somebody wants to send a large message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Who waits.
    pub reply: ReplyToken,
    /// What its request says beside it.
    pub request: RequestFacts,
    /// What is known; `imdn` and `page_base_bytes` are not.
    pub envelope: Envelope,
    /// Size, when the offer says so.
    pub size_bytes: Option<u64>,
    /// Of the sender.
    pub sender_counts: Counts,
    /// Of the tenant.
    pub tenant_counts: Counts,
    /// Of the recipient, lately.
    pub recipient_rates: Counts,
    /// What upstream met.
    pub upstream_failure: Option<u16>,
}

/// A client asks for its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// Who waits.
    pub reply: ReplyToken,
    /// Its contact, when registered.
    pub contact: Option<ContactId>,
    /// Name of the device, registered or not.
    pub device: String,
    /// How it proved who it is.
    pub verification: Verification,
    /// What it asks for.
    pub selection: Selection,
    /// `a=accept-types`.
    pub accept_types: Vec<String>,
    /// `a=accept-wrapped-types`.
    pub accept_wrapped_types: Vec<String>,
    /// `a=max-size`.
    pub max_size_bytes: Option<u64>,
    /// Which way messages may go.
    pub direction: MediaDirection,
    /// Further values.
    pub fields: Vec<Field>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptEnd {
    /// SIP status that ended it, a success included; none when there was no answer.
    pub status: Option<u16>,
    /// Who said so.
    pub origin: Origin,
    /// Retry-After.
    pub retry_after_seconds: Option<u32>,
    /// It was not even begun, because too much is in flight here: it says nothing of the contact.
    pub is_ours: bool,
    /// Per message that was not reported by [`Input::Delivered`] before; a message that is missing here is `Unsent`.
    pub outcomes: Vec<(MessageId, Outcome)>,
}

/// What became of one message of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device acknowledged it (or, for a notification, took the announcement).
    Acknowledged,
    /// It did not.
    Failed {
        /// How far it came.
        progress: Progress,
        /// MSRP status for it.
        status: Option<u16>,
    },
}

/// What a machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Answer to [`Output::Load`].
    Loaded(LoadToken, Result<Box<Window>, CommitError>),
    /// The recipient's contacts are these now, all of them; why.
    Contacts(Vec<Contact>, Trigger),
    /// Names or preferences changed.
    Profile(Profile),
    /// A large message wants to come. Answered by [`Reply::Invite`], [`Reply::PassOn`] or a refusal.
    Invitation(Box<Invitation>),
    /// A message came.
    Arrival(Box<Arrival>),
    /// The client asks for its messages. Answered by an attempt of kind `Pull` with the same reply token, or a reply.
    Pull(Box<PullRequest>),
    /// The client gave its pull up before it was answered: nobody waits for the reply. It is dropped where it was answered.
    PullWithdrawn(ReplyToken),
    /// Answer to [`Output::Ask`].
    Answered(QuestionToken, Result<Answer, Undecided>),
    /// Answer to [`Output::Commit`]: per change.
    Committed(CommitToken, Result<Vec<Applied>, CommitError>),
    /// One message of a running attempt is acknowledged by the device.
    Delivered(AttemptId, MessageId),
    /// An attempt is over. Comes once for every [`Output::Start`].
    AttemptEnded(AttemptId, AttemptEnd),
    /// Somebody else stored something in this queue: a report, an import, what had waited under another name.
    QueueGrew,
    /// The operator drops messages; none named: all. Answered by [`Reply::Done`].
    Discard {
        /// Who waits.
        reply: ReplyToken,
        /// Which.
        messages: Option<Vec<MessageId>>,
        /// Tell the senders that asked.
        report: bool,
    },
    /// Time passed: [`super::Recipient::next_wake`] has come.
    Wake,
}

/// Answer to whoever waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is durable (or was before): 202.
    Accepted,
    /// A large message may come.
    Invite,
    /// The INVITE of a large message is to be passed on to every contact that takes one. Where none of them does in time,
    /// the message may come as after [`Reply::Invite`].
    PassOn {
        /// From now on.
        deadline: Duration,
        /// To these alone; empty: to all.
        contacts: Vec<ContactId>,
    },
    /// The device's own final answer to a relayed message.
    Relayed {
        /// Its status.
        status: u16,
    },
    /// Refused by the policy or a limit.
    Refused {
        /// SIP status.
        status: u16,
        /// Reason phrase.
        reason: String,
        /// Retry-After.
        retry_after_seconds: Option<u32>,
    },
    /// It could not be stored: 503 with Retry-After, or 500.
    Unavailable(CommitError),
    /// There is nothing to fetch: 200 and BYE.
    NothingWaiting,
    /// An operator's request is done: so many messages, those included that go when their attempts end.
    Done(usize),
}

/// One delivery attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its name.
    pub id: AttemptId,
    /// With which contact; none for a pull of an unregistered device and for a hand-over.
    pub contact: Option<ContactId>,
    /// What to do.
    pub task: AttemptTask,
}

/// What to do in an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptTask {
    /// Send this in a MESSAGE. `repetition` counts earlier attempts: same Call-ID, higher CSeq. It counts those of this
    /// machine and, of earlier ones, those since the recipient last became available: a CSeq may come again after a restart.
    Page {
        /// The message.
        message: Box<StoredMessage>,
        /// Earlier attempts with it.
        repetition: u16,
    },
    /// Send these in one session. `repetition` as in `Page`.
    Session {
        /// The messages, in order.
        messages: Vec<StoredMessage>,
        /// Earlier attempts with the first of them.
        repetition: u16,
    },
    /// Announce these: NOTIFY in the contact's subscription, else a MESSAGE with a summary, else unsolicited NOTIFY where
    /// that is on.
    Notify {
        /// The messages, in order.
        messages: Vec<StoredMessage>,
        /// How many more wait.
        not_shown: u32,
    },
    /// Answer a pull: these in its session, in order.
    Pull {
        /// Whose INVITE.
        reply: ReplyToken,
        /// The messages.
        messages: Vec<StoredMessage>,
        /// `Page`: end the session at once; the messages follow as `Page` attempts.
        mode: Mode,
    },
    /// Pass a MESSAGE on that is not stored. Its end comes as any attempt's: the first success, else when every contact
    /// failed; 100 to 199 do not end it. A refusal for good counts as the device's only when all of them gave one.
    Relay {
        /// To these, best first; never empty, the attempt's contact is the first of them.
        contacts: Vec<ContactId>,
        /// Whose request.
        reply: ReplyToken,
        /// What it says.
        envelope: Box<Envelope>,
        /// Its body.
        body: Body,
    },
    /// Send this to a named target.
    HandOver {
        /// The target's name.
        target: String,
        /// The message.
        message: Box<StoredMessage>,
        /// In which mode.
        mode: Mode,
        /// Earlier attempts with it.
        repetition: u16,
    },
}

/// Something worth counting or logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message was stored.
    Stored(MessageId),
    /// A repetition was answered and not stored.
    Duplicate,
    /// A message reached a device.
    Delivered(MessageId),
    /// A message was dropped at its expiry.
    Expired(MessageId),
    /// A message was given up after a device refused it for good.
    GivenUp(MessageId),
    /// A message was dropped by policy or operator; why.
    Discarded(Option<MessageId>, String),
    /// A message was handed over.
    HandedOver(MessageId),
    /// A message was refused with this status.
    Refused(u16),
    /// An attempt began.
    AttemptStarted(AttemptKind),
    /// An attempt failed.
    AttemptFailed(AttemptKind, Option<u16>, Origin),
    /// A report for a sender was stored.
    Reported,
    /// The fallback decided.
    FellBack(Undecided, &'static str),
    /// The policy's answer cannot be carried out; why, and which hook gave it. [`Event::FellBack`] follows.
    Unusable(Impossible, &'static str),
}

/// What a machine wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Read part of the queue.
    Load(LoadToken, LoadRequest),
    /// Ask the tenant's policy.
    Ask(QuestionToken, Box<Question>),
    /// Make durable. Which of it are reports.
    Commit(CommitToken, Transaction, Vec<ReportMade>),
    /// Answer.
    Reply(ReplyToken, Reply),
    /// Begin an attempt.
    Start(Box<Attempt>),
    /// End an attempt early; its end is still reported.
    Cancel(AttemptId),
    /// This other recipient's queue got something: tell its machine [`Input::QueueGrew`].
    Grew(RecipientKey),
    /// A spooled body belongs to no message: remove the file.
    DropBody(Body),
    /// Count or log.
    Event(Event),
}
