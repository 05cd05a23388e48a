//! Questions and answers as JSON.

mod any;

use any::{Dice, dice};
use proptest::prelude::*;
use restante_deferral::decision::{
    Answer, Availability, Context, ExpiringMessage, ExpiryAnswer, Failure, FailureAnswer, HostAbilities, Incoming,
    IncomingAnswer, Plan, Pull, PullAnswer, Question, Target, Undecided,
};
use restante_deferral::model::{Abilities, ContactId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

fn again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn question_again(question: &Question) -> Question {
    match question {
        Question::Incoming(context, it) => Question::Incoming(again(context), again(it)),
        Question::Available(context, it) => Question::Available(again(context), again(it)),
        Question::Pull(context, it) => Question::Pull(again(context), again(it)),
        Question::Failure(context, it) => Question::Failure(again(context), again(it)),
        Question::Expiry(context, it) => Question::Expiry(again(context), again(it)),
    }
}

fn answer_again(answer: &Answer) -> Answer {
    let text = serde_json::to_string(answer).unwrap();
    match answer {
        Answer::Incoming(_) => Answer::Incoming(serde_json::from_str::<IncomingAnswer>(&text).unwrap()),
        Answer::Available(_) => Answer::Available(serde_json::from_str::<Plan>(&text).unwrap()),
        Answer::Pull(_) => Answer::Pull(serde_json::from_str::<PullAnswer>(&text).unwrap()),
        Answer::Failure(_) => Answer::Failure(serde_json::from_str::<Vec<FailureAnswer>>(&text).unwrap()),
        Answer::Expiry(_) => Answer::Expiry(serde_json::from_str::<Vec<ExpiryAnswer>>(&text).unwrap()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_as_it_was(said in dice()) {
        let mut dice = Dice::new(said);
        let (question, answer, host) = (dice.question(), dice.answer(), dice.host());
        let undecided = dice.undecided();
        prop_assert_eq!(&question_again(&question), &question);
        prop_assert_eq!(&answer_again(&answer), &answer);
        prop_assert_eq!(&again::<HostAbilities>(&host), &host);
        prop_assert_eq!(again::<Undecided>(&undecided), undecided);
    }
}

#[test]
fn values_are_written_under_the_names_of_the_contract() {
    let abilities = Abilities { page_mode: true, cpm_deferred: true, ..Abilities::default() };
    assert_eq!(serde_json::to_value(abilities).unwrap(), json!(["page-mode", "cpm-deferred"]));
    assert_eq!(serde_json::to_value(Target::Any).unwrap(), json!("any"));
    assert_eq!(serde_json::to_value(Target::Contact(ContactId(3))).unwrap(), json!({"contact": 3}));
    assert_eq!(serde_json::to_value(Undecided::OutOfMemory).unwrap(), json!("out-of-memory"));
}

#[test]
fn what_is_absent_or_null_is_none_or_empty() {
    let bare = json!({"now": 5, "tenant": "example", "recipient": {"address": "sip:bob@example.org"}});
    let context: Context = serde_json::from_value(bare).unwrap();
    let spelled_out = json!({
        "now": 5,
        "tenant": "example",
        "recipient": {
            "address": "sip:bob@example.org", "aliases": [], "subscriber-class": null, "delivery": null,
            "utc-offset-minutes": null,
        },
        "queue": {"messages": 0, "size-bytes": 0, "oldest-received-at": null},
        "fields": [],
    });
    assert_eq!(serde_json::from_value::<Context>(spelled_out).unwrap(), context);
}

fn refusal<T: DeserializeOwned>(value: serde_json::Value) -> String {
    match serde_path_to_error::deserialize::<_, T>(value) {
        Ok(_) => panic!("it was read"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_the_contract_does_not_know_is_refused_with_its_place() {
    let availability = |contact: serde_json::Value, step: serde_json::Value| {
        let mut contact = contact;
        contact["id"] = json!(1);
        contact["q-permille"] = json!(1000);
        json!({"trigger": step, "contacts": [contact], "messages": [], "not-shown": 0, "can-notify": true})
    };
    let cases = [
        (
            refusal::<Availability>(availability(json!({"tag": []}), json!("timer"))),
            "contacts[0].tag: unknown field `tag`",
        ),
        (
            refusal::<Availability>(availability(json!({"abilities": ["page-mode", "page_mode"]}), json!("timer"))),
            "contacts[0].abilities[1]: unknown variant `page_mode`",
        ),
        (refusal::<Availability>(availability(json!({}), json!("Timer"))), "trigger: unknown variant `Timer`"),
        (refusal::<Plan>(json!({"steps": [{"page": {"messages": [1]}}]})), "steps[0].page: missing field `target`"),
        (refusal::<Plan>(json!({"steps": [{"pages": {}}]})), "steps[0]"),
        (refusal::<Incoming>(json!({"sender": "sip:alice@example.org"})), "sender: invalid type: string"),
        (refusal::<Vec<ExpiringMessage>>(json!([{"source": "nobody"}])), "[0].source: unknown variant `nobody`"),
        (refusal::<Pull>(json!({"selection": {"listed": ["1"]}})), "selection.listed[0]: invalid type: string"),
        (refusal::<Failure>(json!({"status": 70_000})), "status: invalid value"),
    ];
    for (said, expected) in cases {
        assert!(said.starts_with(expected), "{said:?} does not begin with {expected:?}");
    }
}
