//! Answers that can be read and not be carried out: those of `plugin/hostile`, by hook.

use restante_deferral::decision::validate::{self, Impossible, Offered, Situation};
use restante_deferral::decision::{Answer, PullAnswer, Question, Undecided};
use restante_deferral::model::{CanonicalAddress, ContactId, MessageId};
use restante_policy::record::typical_question_about;
use restante_policy::{Hook, decide};

use crate::support::hostile;

/// What a host that knows no hand-over target says of a behaviour's answer.
fn verdict(behaviour: &str, hook: Hook) -> Result<(), Reason> {
    let question = typical_question_about(hook, 2).unwrap();
    let answer = decide(&hostile(behaviour), question.clone()).map_err(Reason::Unread)?;
    let checked = match (&answer, &question) {
        (Answer::Incoming(answer), Question::Incoming(context, _)) => {
            validate::incoming(answer, context.now, true, &[])
        }
        (Answer::Available(plan), Question::Available(context, availability)) => {
            let contacts: Vec<ContactId> = availability.contacts.iter().map(|contact| contact.id).collect();
            let offered: Vec<Offered> = availability.messages.iter().map(|it| offered(it.id, &contacts)).collect();
            let situation =
                Situation { now: context.now, messages: &offered, contacts: &contacts, hand_over_targets: &[] };
            validate::plan(plan, situation)
        }
        (Answer::Pull(PullAnswer::Refuse(refusal)), _) => validate::rejection(refusal),
        (Answer::Pull(PullAnswer::Send(delivery)), Question::Pull(_, pull)) => {
            let shown: Vec<MessageId> = pull.messages.iter().map(|message| message.id).collect();
            validate::pull(delivery, &shown, |_| true)
        }
        (Answer::Failure(answers), Question::Failure(context, failure)) => {
            let failed: Vec<MessageId> = failure.messages.iter().map(|it| it.message.id).collect();
            validate::failure(answers, &failed, context.now, &[])
        }
        (Answer::Expiry(answers), Question::Expiry(context, messages)) => {
            let expired: Vec<_> = messages.iter().map(|it| (it.message.id, it.source)).collect();
            validate::expiry(answers, &expired, context.now, &[])
        }
        _ => panic!("{behaviour}: {answer:?} is no answer to {}", hook.name()),
    };
    checked.map_err(Reason::Refused)
}

#[derive(Debug, PartialEq, Eq)]
enum Reason {
    /// Before it was an answer.
    Unread(Undecided),
    /// By the deferral machine.
    Refused(Impossible),
}

fn offered(id: MessageId, contacts: &[ContactId]) -> Offered {
    Offered {
        id,
        kind: restante_deferral::model::MessageKind::Message,
        sender: CanonicalAddress("sip:alice@example.org".into()),
        page_refused: false,
        large_refused: false,
        waits: false,
        page_contacts: contacts.to_vec(),
        large_contacts: contacts.to_vec(),
    }
}

#[test]
fn each_answer_that_cannot_be_carried_out_is_refused_for_its_reason() {
    use Impossible::{NamedTwice, NotARefusal, Past, TooManySteps, UnknownContact, UnknownMessage, UnknownTarget};
    let cases: &[(Hook, &[(&str, Impossible)])] = &[
        (
            Hook::Incoming,
            &[
                ("impossible", NotARefusal),
                ("lowest", Past),
                ("not-a-number", Past),
                ("negative", Past),
                ("highest-refusal", NotARefusal),
                ("lowest-refusal", NotARefusal),
                ("refusal-of-the-hosts", NotARefusal),
                ("long-reason", NotARefusal),
                ("smuggled-header", NotARefusal),
                ("unknown-target", UnknownTarget),
                ("long-target", UnknownTarget),
            ],
        ),
        (
            Hook::Available,
            &[
                ("unknown-message", UnknownMessage),
                ("unknown-contact", UnknownContact),
                ("others-messages", UnknownMessage),
                ("same-twice", NamedTwice),
                ("same-in-two-steps", NamedTwice),
                ("same-many-times", NamedTwice),
                ("hundreds-of-steps", TooManySteps),
                ("unknown-target", UnknownTarget),
                ("lowest-deadline", Past),
                ("negative", Past),
            ],
        ),
        (
            Hook::Pull,
            &[
                ("unknown-message", UnknownMessage),
                ("others-messages", UnknownMessage),
                ("same-twice", NamedTwice),
                ("highest", NotARefusal),
                ("lowest", NotARefusal),
                ("smuggled-header", NotARefusal),
            ],
        ),
        (
            Hook::Failure,
            &[
                ("unknown-message", UnknownMessage),
                ("same-twice", NamedTwice),
                ("lowest-deadline", Past),
                ("negative", Past),
                ("unknown-target", UnknownTarget),
            ],
        ),
        (
            Hook::Expiry,
            &[
                ("unknown-message", UnknownMessage),
                ("others-messages", UnknownMessage),
                ("same-twice", NamedTwice),
                ("lowest", Past),
                ("negative", Past),
                ("unknown-target", UnknownTarget),
            ],
        ),
    ];
    for (hook, answers) in cases {
        for (behaviour, expected) in *answers {
            assert_eq!(verdict(behaviour, *hook), Err(Reason::Refused(*expected)), "{behaviour}, {}", hook.name());
        }
    }
}

#[test]
fn what_is_too_much_to_copy_is_not_read() {
    for (hook, behaviours) in [
        (Hook::Incoming, &["aliased-strings", "long-err"][..]),
        (Hook::Available, &["aliased-strings", "giant-list", "ten-thousand-steps", "long-err"]),
        (Hook::Pull, &["aliased-strings", "giant-list", "long-err"]),
        (Hook::Failure, &["aliased-strings", "giant-list", "long-err"]),
        (Hook::Expiry, &["giant-list", "long-err"]),
    ] {
        for behaviour in behaviours {
            let expected = Err(Reason::Unread(Undecided::Impossible));
            assert_eq!(verdict(behaviour, hook), expected, "{behaviour}, {}", hook.name());
        }
    }
}

#[test]
fn the_ends_of_what_a_field_can_say_can_be_carried_out() {
    for (hook, behaviours) in [
        (Hook::Incoming, &["highest", "highest-relay", "lowest-relay"][..]),
        (Hook::Available, &["highest", "lowest", "highest-deadline"]),
        (Hook::Failure, &["highest", "lowest", "highest-deadline"]),
        (Hook::Expiry, &["good"]),
    ] {
        for behaviour in behaviours {
            assert_eq!(verdict(behaviour, hook), Ok(()), "{behaviour}, {}", hook.name());
        }
    }
}
