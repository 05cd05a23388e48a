//! A policy that answers as its settings say. It shows that the host carries out whatever the contract offers; it is not
//! part of the program.
//!
//! | setting | values |
//! |---|---|
//! | `incoming` | `keep`, `relay:MILLISECONDS`, `relay-to-worst:MILLISECONDS` (the contact that comes last), `reject:STATUS`, `hand-over:TARGET`, `discard`, `tell` (what it was shown, as the reason of a refusal) |
//! | `available` | `page`, `session`, `session-to-worst` (the contact that comes last), `notify:MILLISECONDS`, `discard`, `hand-over:TARGET`, `hold`, `page-if:TRIGGER` (else `hold`) |
//! | `pull` | `session`, `page`, `copy` (in a session, and kept), `refuse:STATUS`, `tell` |
//! | `failure` | `wait`, `retry:MILLISECONDS`, `hand-over:TARGET`, `give-up` |
//! | `expiry` | `drop`, `extend:MILLISECONDS`, `hand-over:TARGET` |
//! | `keep_milliseconds` | how long a message is kept |
//! | `priority` | its priority; `size`: its size in bytes |

mod bindings {
    wit_bindgen::generate!({ world: "policy", path: "../../wit" });
}

use bindings::restante::policy::types::{
    AfterDeadline, Availability, CheckedSettings, Context, DeliveryStep, Description, DiscardStep, ExpiringMessage,
    ExpiryAction, ExpiryAnswer, Failure, FailureAction, FailureAnswer, HandOverStep, HoldStep, HostAbilities, Incoming,
    IncomingAnswer, Keep, MediaDirection, Mode, NotifyStep, Plan, Problem, Pull, PullAnswer, PullDelivery,
    RegistrationState, Rejection, Relay, Retry, Step, Target, Trigger,
};
use serde_json::Value;

struct Scripted;

/// What the settings say of one hook.
struct Script {
    settings: Value,
}

impl Script {
    fn of(context: &Context) -> Script {
        Script { settings: serde_json::from_slice(&context.settings).unwrap_or_default() }
    }

    /// The answer and what stands behind its colon.
    fn word(&self, hook: &str, usual: &str) -> (String, String) {
        let text = self.settings.get(hook).and_then(Value::as_str).unwrap_or(usual);
        let (word, rest) = text.split_once(':').unwrap_or((text, ""));
        (word.to_owned(), rest.to_owned())
    }

    fn keep(&self, context: &Context, incoming: &Incoming) -> Keep {
        let milliseconds = self.settings.get("keep_milliseconds").and_then(Value::as_u64).unwrap_or(600_000);
        let priority = match self.settings.get("priority").and_then(Value::as_str) {
            Some("size") => u8::try_from(incoming.size_bytes.unwrap_or(0).min(255)).unwrap_or(u8::MAX),
            _ => 100,
        };
        Keep { expires_at: context.now.saturating_add(milliseconds), priority, deliver_now: true }
    }
}

impl bindings::Guest for Scripted {
    fn describe() -> Description {
        Description { name: "scripted".to_owned(), version: String::new(), settings_schema: None }
    }

    fn check_settings(settings: String, _host: HostAbilities) -> Result<CheckedSettings, Vec<Problem>> {
        Ok(CheckedSettings { normalised: settings.into_bytes(), problems: Vec::new() })
    }

    fn on_incoming(context: Context, incoming: Incoming) -> Result<IncomingAnswer, String> {
        let script = Script::of(&context);
        let keep = script.keep(&context, &incoming);
        let (word, rest) = script.word("incoming", "keep");
        Ok(match word.as_str() {
            "relay" => IncomingAnswer::Relay(Relay {
                deadline_milliseconds: number(&rest),
                contacts: Vec::new(),
                otherwise: keep,
            }),
            "relay-to-worst" => IncomingAnswer::Relay(Relay {
                deadline_milliseconds: number(&rest),
                contacts: incoming.contacts.last().map(|contact| contact.id).into_iter().collect(),
                otherwise: keep,
            }),
            "reject" => IncomingAnswer::Reject(rejection(&rest)),
            "tell" => IncomingAnswer::Reject(telling(
                &context,
                &[
                    incoming.service.as_deref().and_then(|service| service.rsplit('.').next()).unwrap_or("none"),
                    match incoming.registration {
                        RegistrationState::Registered => "registered",
                        RegistrationState::Unregistered => "unregistered",
                        RegistrationState::Unknown => "unknown",
                    },
                ],
            )),
            "hand-over" => IncomingAnswer::HandOver(rest),
            "discard" => IncomingAnswer::Discard("as scripted".to_owned()),
            _ => IncomingAnswer::Keep(keep),
        })
    }

    fn on_available(context: Context, availability: Availability) -> Result<Plan, String> {
        let (word, rest) = Script::of(&context).word("available", "page");
        let messages: Vec<u64> = availability.messages.iter().map(|message| message.id).collect();
        let any = |messages| DeliveryStep { messages, target: Target::Any };
        let step = match word.as_str() {
            "session" => Step::Session(any(messages)),
            "page-each" => Step::Page(DeliveryStep { messages, target: Target::Each }),
            "session-each" => Step::Session(DeliveryStep { messages, target: Target::Each }),
            "session-to-worst" => {
                let worst = availability.contacts.last().map_or(0, |contact| contact.id);
                Step::Session(DeliveryStep { messages, target: Target::Contact(worst) })
            }
            "notify" => Step::Notify(NotifyStep {
                messages,
                fetch_deadline: context.now.saturating_add(number(&rest)),
                afterwards: AfterDeadline::Push,
            }),
            "discard" => Step::Discard(DiscardStep { messages, report: true }),
            "hand-over" => Step::HandOver(HandOverStep { messages, target: rest }),
            "page-if" if rest == trigger(&availability) => Step::Page(any(messages)),
            "hold" | "page-if" => Step::Hold(HoldStep { messages, until: None }),
            _ => Step::Page(any(messages)),
        };
        Ok(Plan { steps: vec![step], ask_again_at: None })
    }

    fn on_pull(context: Context, pull: Pull) -> Result<PullAnswer, String> {
        let (word, rest) = Script::of(&context).word("pull", "session");
        let messages = pull.messages.iter().map(|message| message.id).collect();
        Ok(match word.as_str() {
            "refuse" => PullAnswer::Refuse(rejection(&rest)),
            "tell" => PullAnswer::Refuse(telling(
                &context,
                &[match pull.direction {
                    MediaDirection::ReceiveOnly => "receive-only",
                    MediaDirection::SendAndReceive => "send-and-receive",
                }],
            )),
            "page" => PullAnswer::Send(PullDelivery { messages, mode: Mode::Page, keep_copy: false }),
            word => PullAnswer::Send(PullDelivery { messages, mode: Mode::Large, keep_copy: word == "copy" }),
        })
    }

    fn on_failure(context: Context, failure: Failure) -> Result<Vec<FailureAnswer>, String> {
        let (word, rest) = Script::of(&context).word("failure", "wait");
        let action = match word.as_str() {
            "retry" => FailureAction::Retry(Retry { after_milliseconds: number(&rest), mode: None, contact: None }),
            "hand-over" => FailureAction::HandOver(rest),
            "give-up" => FailureAction::GiveUp(true),
            _ => FailureAction::Wait,
        };
        let answer = |id| FailureAnswer { message: id, action: action.clone() };
        Ok(failure.messages.iter().map(|failed| answer(failed.message.id)).collect())
    }

    fn on_expiry(context: Context, messages: Vec<ExpiringMessage>) -> Result<Vec<ExpiryAnswer>, String> {
        let (word, rest) = Script::of(&context).word("expiry", "drop");
        let action = match word.as_str() {
            "extend" => ExpiryAction::Extend(context.now.saturating_add(number(&rest))),
            "hand-over" => ExpiryAction::HandOver(rest),
            _ => ExpiryAction::Drop(true),
        };
        let answer = |id| ExpiryAnswer { message: id, action: action.clone() };
        Ok(messages.iter().map(|expiring| answer(expiring.message.id)).collect())
    }
}

fn rejection(status: &str) -> Rejection {
    Rejection { status: number(status), reason: "As Scripted".to_owned(), retry_after_seconds: Some(17) }
}

/// What was shown, and the further values.
fn telling(context: &Context, shown: &[&str]) -> Rejection {
    let fields = context.fields.iter().map(|field| field.value.as_str());
    let reason = shown.iter().copied().chain(fields).collect::<Vec<_>>().join(" ");
    Rejection { status: 403, reason, retry_after_seconds: None }
}

fn trigger(availability: &Availability) -> &'static str {
    match availability.trigger {
        Trigger::Registered => "registered",
        Trigger::Refreshed => "refreshed",
        Trigger::Reported => "reported",
        Trigger::MessageArrived => "message-arrived",
        Trigger::Timer => "timer",
        Trigger::FetchDeadline => "fetch-deadline",
        Trigger::Operator => "operator",
        Trigger::PlanDone => "plan-done",
    }
}

fn number<T: std::str::FromStr + Default>(text: &str) -> T {
    text.parse().unwrap_or_default()
}

bindings::export!(Scripted with_types_in bindings);
