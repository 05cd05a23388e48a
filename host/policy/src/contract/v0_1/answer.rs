//! What a policy answers.

use restante_deferral::decision as native;
use restante_deferral::model::{ContactId, MessageId, Mode, Timestamp};

use super::bindings::restante::policy::types;

pub(crate) fn incoming_answer(answer: types::IncomingAnswer) -> native::IncomingAnswer {
    match answer {
        types::IncomingAnswer::Relay(relay) => native::IncomingAnswer::Relay(native::Relay {
            deadline_milliseconds: relay.deadline_milliseconds,
            contacts: relay.contacts.into_iter().map(ContactId).collect(),
            otherwise: keep(relay.otherwise),
        }),
        types::IncomingAnswer::Keep(answer) => native::IncomingAnswer::Keep(keep(answer)),
        types::IncomingAnswer::Reject(answer) => native::IncomingAnswer::Reject(rejection(answer)),
        types::IncomingAnswer::HandOver(target) => native::IncomingAnswer::HandOver(target),
        types::IncomingAnswer::Discard(why) => native::IncomingAnswer::Discard(why),
    }
}

pub(crate) fn plan(plan: types::Plan) -> native::Plan {
    native::Plan { steps: plan.steps.into_iter().map(step).collect(), ask_again_at: plan.ask_again_at.map(Timestamp) }
}

pub(crate) fn pull_answer(answer: types::PullAnswer) -> native::PullAnswer {
    match answer {
        types::PullAnswer::Send(delivery) => native::PullAnswer::Send(native::PullDelivery {
            messages: messages(delivery.messages),
            mode: mode(delivery.mode),
            keep_copy: delivery.keep_copy,
        }),
        types::PullAnswer::Refuse(answer) => native::PullAnswer::Refuse(rejection(answer)),
    }
}

pub(crate) fn failure_answers(answers: Vec<types::FailureAnswer>) -> Vec<native::FailureAnswer> {
    let answer = |answer: types::FailureAnswer| native::FailureAnswer {
        message: MessageId(answer.message),
        action: match answer.action {
            types::FailureAction::Retry(retry) => native::FailureAction::Retry(native::Retry {
                after_milliseconds: retry.after_milliseconds,
                mode: retry.mode.map(mode),
                contact: retry.contact.map(ContactId),
            }),
            types::FailureAction::Notify(fetch_deadline) => native::FailureAction::Notify(Timestamp(fetch_deadline)),
            types::FailureAction::Wait => native::FailureAction::Wait,
            types::FailureAction::HandOver(target) => native::FailureAction::HandOver(target),
            types::FailureAction::GiveUp(report) => native::FailureAction::GiveUp(report),
        },
    };
    answers.into_iter().map(answer).collect()
}

pub(crate) fn expiry_answers(answers: Vec<types::ExpiryAnswer>) -> Vec<native::ExpiryAnswer> {
    let answer = |answer: types::ExpiryAnswer| native::ExpiryAnswer {
        message: MessageId(answer.message),
        action: match answer.action {
            types::ExpiryAction::Drop(report) => native::ExpiryAction::Drop(report),
            types::ExpiryAction::Extend(until) => native::ExpiryAction::Extend(Timestamp(until)),
            types::ExpiryAction::HandOver(target) => native::ExpiryAction::HandOver(target),
        },
    };
    answers.into_iter().map(answer).collect()
}

fn step(step: types::Step) -> native::Step {
    match step {
        types::Step::Page(step) => native::Step::Page(delivery_step(step)),
        types::Step::Session(step) => native::Step::Session(delivery_step(step)),
        types::Step::Notify(step) => native::Step::Notify(native::NotifyStep {
            messages: messages(step.messages),
            fetch_deadline: Timestamp(step.fetch_deadline),
            afterwards: match step.afterwards {
                types::AfterDeadline::Ask => native::AfterDeadline::Ask,
                types::AfterDeadline::Push => native::AfterDeadline::Push,
            },
        }),
        types::Step::Hold(step) => {
            native::Step::Hold(native::HoldStep { messages: messages(step.messages), until: step.until.map(Timestamp) })
        }
        types::Step::Discard(step) => {
            native::Step::Discard(native::DiscardStep { messages: messages(step.messages), report: step.report })
        }
        types::Step::HandOver(step) => {
            native::Step::HandOver(native::HandOverStep { messages: messages(step.messages), target: step.target })
        }
    }
}

fn delivery_step(step: types::DeliveryStep) -> native::DeliveryStep {
    native::DeliveryStep {
        messages: messages(step.messages),
        target: match step.target {
            types::Target::Any => native::Target::Any,
            types::Target::Contact(contact) => native::Target::Contact(ContactId(contact)),
            types::Target::Each => native::Target::Each,
        },
    }
}

fn keep(keep: types::Keep) -> native::Keep {
    native::Keep { expires_at: Timestamp(keep.expires_at), priority: keep.priority, deliver_now: keep.deliver_now }
}

fn rejection(rejection: types::Rejection) -> native::Rejection {
    native::Rejection {
        status: rejection.status,
        reason: rejection.reason,
        retry_after_seconds: rejection.retry_after_seconds,
    }
}

fn messages(ids: Vec<u64>) -> Vec<MessageId> {
    ids.into_iter().map(MessageId).collect()
}

fn mode(mode: types::Mode) -> Mode {
    match mode {
        types::Mode::Page => Mode::Page,
        types::Mode::Large => Mode::Large,
    }
}
