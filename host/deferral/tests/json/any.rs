//! Any question and any answer: every field takes every kind of value.

use proptest::prelude::*;
use restante_deferral::decision::{
    AfterDeadline, Answer, AttemptKind, Availability, ContactView, Context, DeliveryStep, DiscardStep, ExpiringMessage,
    ExpiryAction, ExpiryAnswer, FailedMessage, Failure, FailureAction, FailureAnswer, Field, HandOverStep, HoldStep,
    HostAbilities, Incoming, IncomingAnswer, IncomingPhase, Keep, MediaDirection, NotifyStep, Plan, Progress, Pull,
    PullAnswer, PullDelivery, Question, RecipientView, Rejection, Relay, Retry, Selection, SenderView, Step, Target,
    Trigger, Undecided, WaitingMessage,
};
use restante_deferral::model::{
    Abilities, CanonicalAddress, ContactId, Counts, Delivery, DeviceState, Dispositions, ExpirySource, LastResult,
    MessageId, MessageKind, Mode, Origin, QueueTotals, RegistrationState, TenantName, Timestamp, Verification,
};

/// What chance said, read as values. When it has said all, everything is small and simple.
pub struct Dice {
    said: std::vec::IntoIter<u8>,
    /// What addresses are taken from; texts of any kind when there are none.
    addresses: Vec<String>,
}

/// Dice for a property.
pub fn dice() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..800)
}

impl Dice {
    /// Addresses are any text.
    pub fn new(said: Vec<u8>) -> Dice {
        Dice { said: said.into_iter(), addresses: Vec::new() }
    }

    /// Addresses are some of these.
    #[allow(dead_code, reason = "not every test that includes this file has addresses of its own")]
    pub fn with_addresses(said: Vec<u8>, addresses: Vec<String>) -> Dice {
        Dice { said: said.into_iter(), addresses }
    }

    fn byte(&mut self) -> u8 {
        self.said.next().unwrap_or(0)
    }

    fn flip(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    fn number(&mut self) -> u64 {
        match self.byte() % 4 {
            0 => 0,
            1 => u64::from(self.byte()),
            2 => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
            _ => u64::MAX,
        }
    }

    fn small<T: TryFrom<u64> + Default>(&mut self) -> T {
        let number = self.number();
        T::try_from(number).or_else(|_| T::try_from(number % 128)).unwrap_or_default()
    }

    fn option<T>(&mut self, value: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        self.flip().then(|| value(self))
    }

    fn list<T>(&mut self, mut value: impl FnMut(&mut Dice) -> T) -> Vec<T> {
        (0..self.byte() % 3).map(|_| value(self)).collect()
    }

    fn text(&mut self) -> String {
        let texts = ["", "gold", "text/plain", "sms", "a \"quoted\" \\ text\u{1}\u{2028}ü", "null", "{\"any\":1}"];
        self.one_of(&texts).to_owned()
    }

    fn address(&mut self) -> String {
        if self.addresses.is_empty() {
            return self.text();
        }
        let at = usize::from(self.byte()) % self.addresses.len();
        self.addresses[at].clone()
    }

    fn time(&mut self) -> Timestamp {
        Timestamp(self.number())
    }

    /// A question to any hook.
    pub fn question(&mut self) -> Question {
        let context = self.context();
        match self.byte() % 5 {
            0 => Question::Incoming(context, Box::new(self.incoming())),
            1 => Question::Available(context, self.availability()),
            2 => Question::Pull(context, Box::new(self.pull())),
            3 => Question::Failure(context, self.failure()),
            _ => Question::Expiry(context, self.list(Dice::expiring)),
        }
    }

    /// What a host can do.
    pub fn host(&mut self) -> HostAbilities {
        HostAbilities {
            max_page_bytes: self.small(),
            max_message_bytes: self.number(),
            hand_over_targets: self.list(Dice::text),
        }
    }

    fn context(&mut self) -> Context {
        Context {
            now: self.time(),
            tenant: TenantName(self.text().into()),
            recipient: RecipientView {
                address: CanonicalAddress(self.address().into()),
                aliases: self.list(Dice::address),
                subscriber_class: self.option(Dice::text),
                delivery: self.option(|it| it.one_of(&[Delivery::Push, Delivery::Pull, Delivery::Hold])),
                utc_offset_minutes: self.option(|it| i16::from(it.byte()) - 128),
            },
            queue: QueueTotals {
                messages: self.small(),
                size_bytes: self.number(),
                oldest_received_at: self.option(Dice::time),
            },
            fields: self.list(|it| Field { name: it.text(), value: it.address() }),
        }
    }

    fn contact(&mut self) -> ContactView {
        ContactView {
            id: ContactId(self.number()),
            instance: self.option(Dice::address),
            q_permille: self.small(),
            abilities: Abilities {
                page_mode: self.flip(),
                large_message_mode: self.flip(),
                cpm_deferred: self.flip(),
                cpm_messaging: self.flip(),
                reliable_transport: self.flip(),
                through_proxy: self.flip(),
                subscribed: self.flip(),
                takes_summaries: self.flip(),
            },
            tags: self.list(|it| format!("+g.example=\"<{}>\"", it.address())),
            last_failure: self.option(Dice::last_result),
        }
    }

    fn last_result(&mut self) -> LastResult {
        LastResult { at: self.time(), status: self.option(Dice::small), origin: self.origin() }
    }

    fn origin(&mut self) -> Origin {
        self.one_of(&[Origin::Device, Origin::Core, Origin::Timeout, Origin::Transport])
    }

    fn verification(&mut self) -> Verification {
        self.one_of(&[Verification::None, Verification::TrustedPeer, Verification::Authenticated])
    }

    fn kind(&mut self) -> MessageKind {
        self.one_of(&[MessageKind::Message, MessageKind::Disposition])
    }

    fn mode(&mut self) -> Mode {
        self.one_of(&[Mode::Page, Mode::Large])
    }

    fn dispositions(&mut self) -> Dispositions {
        Dispositions {
            positive_delivery: self.flip(),
            negative_delivery: self.flip(),
            processing: self.flip(),
            display: self.flip(),
        }
    }

    fn counts(&mut self) -> Counts {
        Counts {
            stored_messages: self.small(),
            stored_bytes: self.number(),
            last_minute: self.small(),
            last_hour: self.small(),
        }
    }

    fn incoming(&mut self) -> Incoming {
        Incoming {
            phase: self.one_of(&[IncomingPhase::Invitation, IncomingPhase::Complete]),
            kind: self.kind(),
            mode: self.mode(),
            service: self.option(Dice::text),
            sender: SenderView { address: self.address(), verification: self.verification(), private: self.flip() },
            size_bytes: self.option(Dice::number),
            content_type: self.text(),
            wrapped_type: self.option(Dice::text),
            dispositions: self.dispositions(),
            expires_at: self.option(Dice::time),
            registration: self.one_of(&[
                RegistrationState::Unknown,
                RegistrationState::Registered,
                RegistrationState::Unregistered,
            ]),
            contacts: self.list(Dice::contact),
            recipient_counts: self.counts(),
            sender_counts: self.counts(),
            tenant_counts: self.counts(),
            upstream_failure: self.option(Dice::small),
        }
    }

    fn waiting(&mut self) -> WaitingMessage {
        WaitingMessage {
            id: MessageId(self.number()),
            sender: self.address(),
            kind: self.kind(),
            page_bytes: self.option(Dice::small),
            size_bytes: self.number(),
            content_type: self.text(),
            received_at: self.time(),
            expires_at: self.time(),
            priority: self.byte(),
            attempts: self.small(),
            not_before: self.option(Dice::time),
            last_failure: self.option(Dice::last_result),
            page_refused: self.flip(),
            large_refused: self.flip(),
            notified_at: self.option(Dice::time),
            fetch_deadline: self.option(Dice::time),
            devices: self.list(|it| DeviceState { device: it.address(), delivered_at: it.option(Dice::time) }),
        }
    }

    fn availability(&mut self) -> Availability {
        let triggers = [
            Trigger::Registered,
            Trigger::Refreshed,
            Trigger::Reported,
            Trigger::MessageArrived,
            Trigger::Timer,
            Trigger::FetchDeadline,
            Trigger::Operator,
            Trigger::PlanDone,
        ];
        Availability {
            trigger: self.one_of(&triggers),
            contacts: self.list(Dice::contact),
            messages: self.list(Dice::waiting),
            not_shown: self.small(),
            can_notify: self.flip(),
        }
    }

    fn pull(&mut self) -> Pull {
        Pull {
            contact: self.option(Dice::contact),
            verification: self.verification(),
            selection: if self.flip() { Selection::Listed(self.ids()) } else { Selection::All },
            accept_types: self.list(Dice::text),
            accept_wrapped_types: self.list(Dice::text),
            max_size_bytes: self.option(Dice::number),
            direction: self.one_of(&[MediaDirection::ReceiveOnly, MediaDirection::SendAndReceive]),
            messages: self.list(Dice::waiting),
            not_shown: self.small(),
        }
    }

    fn failure(&mut self) -> Failure {
        let attempts = [
            AttemptKind::Page,
            AttemptKind::Session,
            AttemptKind::Notification,
            AttemptKind::Relay,
            AttemptKind::Pull,
            AttemptKind::HandOver,
        ];
        let progress = [Progress::Refused, Progress::Partial, Progress::Unsent];
        Failure {
            attempt: self.one_of(&attempts),
            contact: self.option(|it| ContactId(it.number())),
            status: self.option(Dice::small),
            origin: self.origin(),
            retry_after_seconds: self.option(Dice::small),
            messages: self.list(|it| FailedMessage {
                message: it.waiting(),
                progress: it.one_of(&progress),
                status: it.option(Dice::small),
            }),
            other_contacts: self.list(Dice::contact),
        }
    }

    fn expiring(&mut self) -> ExpiringMessage {
        ExpiringMessage {
            message: self.waiting(),
            source: self.one_of(&[ExpirySource::Sender, ExpirySource::Operator]),
            dispositions: self.dispositions(),
        }
    }

    /// An answer of any hook.
    pub fn answer(&mut self) -> Answer {
        match self.byte() % 5 {
            0 => Answer::Incoming(self.incoming_answer()),
            1 => Answer::Available(Plan { steps: self.list(Dice::step), ask_again_at: self.option(Dice::time) }),
            2 => Answer::Pull(self.pull_answer()),
            3 => Answer::Failure(
                self.list(|it| FailureAnswer { message: MessageId(it.number()), action: it.failure_action() }),
            ),
            _ => Answer::Expiry(
                self.list(|it| ExpiryAnswer { message: MessageId(it.number()), action: it.expiry_action() }),
            ),
        }
    }

    fn ids(&mut self) -> Vec<MessageId> {
        self.list(|it| MessageId(it.number()))
    }

    fn keep(&mut self) -> Keep {
        Keep { expires_at: self.time(), priority: self.byte(), deliver_now: self.flip() }
    }

    fn rejection(&mut self) -> Rejection {
        Rejection { status: self.small(), reason: self.text(), retry_after_seconds: self.option(Dice::small) }
    }

    fn incoming_answer(&mut self) -> IncomingAnswer {
        match self.byte() % 5 {
            0 => IncomingAnswer::Relay(Relay {
                deadline_milliseconds: self.small(),
                contacts: self.list(|it| ContactId(it.number())),
                otherwise: self.keep(),
            }),
            1 => IncomingAnswer::Keep(self.keep()),
            2 => IncomingAnswer::Reject(self.rejection()),
            3 => IncomingAnswer::HandOver(self.text()),
            _ => IncomingAnswer::Discard(self.text()),
        }
    }

    fn step(&mut self) -> Step {
        match self.byte() % 6 {
            0 => Step::Page(self.delivery()),
            1 => Step::Session(self.delivery()),
            2 => Step::Notify(NotifyStep {
                messages: self.ids(),
                fetch_deadline: self.time(),
                afterwards: self.one_of(&[AfterDeadline::Ask, AfterDeadline::Push]),
            }),
            3 => Step::Hold(HoldStep { messages: self.ids(), until: self.option(Dice::time) }),
            4 => Step::Discard(DiscardStep { messages: self.ids(), report: self.flip() }),
            _ => Step::HandOver(HandOverStep { messages: self.ids(), target: self.text() }),
        }
    }

    fn delivery(&mut self) -> DeliveryStep {
        let other = if self.small::<u64>().is_multiple_of(2) { Target::Any } else { Target::Each };
        let target = self.option(|it| Target::Contact(ContactId(it.number()))).unwrap_or(other);
        DeliveryStep { messages: self.ids(), target }
    }

    fn pull_answer(&mut self) -> PullAnswer {
        if self.flip() {
            return PullAnswer::Refuse(self.rejection());
        }
        PullAnswer::Send(PullDelivery { messages: self.ids(), mode: self.mode(), keep_copy: self.flip() })
    }

    fn failure_action(&mut self) -> FailureAction {
        match self.byte() % 5 {
            0 => FailureAction::Retry(Retry {
                after_milliseconds: self.number(),
                mode: self.option(Dice::mode),
                contact: self.option(|it| ContactId(it.number())),
            }),
            1 => FailureAction::Notify(self.time()),
            2 => FailureAction::Wait,
            3 => FailureAction::HandOver(self.text()),
            _ => FailureAction::GiveUp(self.flip()),
        }
    }

    fn expiry_action(&mut self) -> ExpiryAction {
        match self.byte() % 3 {
            0 => ExpiryAction::Drop(self.flip()),
            1 => ExpiryAction::Extend(self.time()),
            _ => ExpiryAction::HandOver(self.text()),
        }
    }

    /// Any reason for no answer.
    #[allow(dead_code, reason = "not every test that includes this file needs one")]
    pub fn undecided(&mut self) -> Undecided {
        self.one_of(&[
            Undecided::Declined,
            Undecided::Trapped,
            Undecided::TimedOut,
            Undecided::OutOfMemory,
            Undecided::Overloaded,
            Undecided::Impossible,
            Undecided::Suspended,
        ])
    }
}
