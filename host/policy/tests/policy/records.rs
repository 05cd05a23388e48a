//! Records, cases, and deciding again.

use std::io::BufReader;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use restante_deferral::decision::{Answer, IncomingAnswer, Question, Rejection, Undecided};
use restante_deferral::model::{TenantName, Timestamp};
use restante_policy::record::{
    Agreement, Case, CaseFailure, CaseRunner, Expectation, Measured, Meter, MeteredPolicy, Pseudonymiser, Record,
    RecordReader, RecordSource, Replay, read_cases, settings_digest, typical_host, typical_question, write_record,
};
use restante_policy::{Hook, Loaded, PolicyLimits, decide, standard::COMPONENT};
use serde_json::{Value, json};

use crate::any::{Dice, dice};
use crate::support::{HOSTILE, LOADER, NOW, arrival_for, availability, context};

/// Patient: the wall is looked at as well, and a busy machine may give a decision no time.
static METER: LazyLock<Meter> = LazyLock::new(|| {
    let limits = PolicyLimits { deadline: Duration::from_millis(200), ..PolicyLimits::default() };
    Meter::new(limits, None).expect("a meter")
});
/// How often a busy machine may take longer.
const ATTEMPTS: usize = 10;

/// The standard policy in both engines, so that it is compiled once: what is in use is shared.
static STANDARD: LazyLock<(Loaded, MeteredPolicy)> = LazyLock::new(|| {
    let serving = LOADER.load(COMPONENT, "{}", &typical_host()).expect("it serves");
    (serving, METER.load(COMPONENT, &json!({}), &typical_host()).expect("it counts"))
});

fn pseudonymiser() -> Pseudonymiser {
    Pseudonymiser::for_tenant(&[1; 64], &TenantName("example".into()))
}

/// Records the standard policy's decisions on these questions, as a server would.
fn recorded(settings: &Value, questions: &[Question], under_pseudonyms: bool) -> Vec<Record> {
    LazyLock::force(&STANDARD);
    let generation = LOADER.load(COMPONENT, &settings.to_string(), &typical_host()).unwrap().generation;
    let pseudonymiser = under_pseudonyms.then(pseudonymiser);
    let source = RecordSource::new(&METER, COMPONENT, settings, &typical_host(), pseudonymiser).unwrap();
    let record =
        |question: &Question| source.record(question, &decide(&generation, question.clone()), Timestamp(NOW), 17);
    questions.iter().map(record).collect()
}

fn typical() -> Vec<Question> {
    Hook::ALL.into_iter().map(|hook| typical_question(hook).unwrap()).collect()
}

fn agreement(records: &[Record], component: &[u8], settings: Option<Value>) -> (Agreement, Vec<String>) {
    let mut replay = Replay::new(&METER, component, settings, 1);
    for record in records {
        replay.add(record).unwrap();
    }
    let groups = replay.comparison().groups();
    (replay.comparison().total(), groups.iter().map(|it| format!("{}: {}", it.hook.name(), it.change)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_record_is_read_as_it_was_written(said in dice()) {
        let mut dice = Dice::new(said);
        let question = dice.question();
        let mut answer = dice.answer();
        // Only an answer of its own hook is one.
        let outcome = loop {
            if std::mem::discriminant(&hook_of(&answer)) == std::mem::discriminant(&Hook::of(&question)) {
                break Ok(answer);
            }
            let next = dice.answer();
            if next == answer {
                break Err(dice.undecided());
            }
            answer = next;
        };
        let record = Record {
            at: Timestamp(5),
            tenant: TenantName("example".into()),
            digest: "00".to_owned(),
            settings: json!({"b": 1, "a": [null, {"d": 1.5, "c": "x"}]}),
            host: dice.host(),
            question,
            outcome,
            micros: 3,
            cost: u64::MAX,
            memory_bytes: 1,
            is_pseudonymised: true,
            live_differed: false,
        };
        let mut file = Vec::new();
        write_record(&mut file, &record).unwrap();
        write_record(&mut file, &record).unwrap();
        let read: Result<Vec<_>, _> = RecordReader::new(BufReader::new(file.as_slice())).collect();
        prop_assert_eq!(read.unwrap(), vec![record.clone(), record]);
    }

    #[test]
    fn any_recorded_decision_replays_exactly(said in dice(), under_pseudonyms in any::<bool>()) {
        let addresses = vec!["sip:alice@example.org".to_owned(), "tel:+15551230001".to_owned(), String::new()];
        let question = Dice::with_addresses(said, addresses).question();
        let records = recorded(&json!({}), &[question], under_pseudonyms);
        prop_assert!(!records[0].live_differed, "the standard policy looks at no name");
        let (agreement, changes) = agreement(&records, COMPONENT, None);
        prop_assert_eq!((agreement.identical, changes), (1, vec![]));
    }
}

fn hook_of(answer: &Answer) -> Hook {
    match answer {
        Answer::Incoming(_) => Hook::Incoming,
        Answer::Available(_) => Hook::Available,
        Answer::Pull(_) => Hook::Pull,
        Answer::Failure(_) => Hook::Failure,
        Answer::Expiry(_) => Hook::Expiry,
    }
}

#[test]
fn records_are_refused_with_the_place_of_what_is_wrong() {
    let good = recorded(&json!({}), &typical(), false).remove(1).to_json();
    assert!(Record::from_json(good.clone()).is_ok());
    let broken = |pointer: &str, key: &str, value: Value| {
        let mut record = good.clone();
        let place = record.pointer_mut(pointer).and_then(Value::as_object_mut).unwrap();
        place.insert(key.to_owned(), value);
        Record::from_json(record).unwrap_err().to_string()
    };
    let cases = [
        (broken("", "format", json!(2)), "format: expected 1"),
        (broken("", "undecided", json!("declined")), "expected either `answer` or `undecided`"),
        (broken("", "settings", json!({"few": 4})), "settings-digest: is not that of the settings"),
        (broken("", "colour", json!(1)), "colour: unknown field `colour`"),
        (broken("/context/recipient", "name", json!("Bob")), "context.recipient.name: unknown field `name`"),
        (broken("/input/messages/1", "priority", json!(300)), "input.messages[1].priority: invalid value"),
        (broken("/answer", "steps", json!([{"page": 1}])), "answer.steps[0].page: invalid type"),
        (broken("", "hook", json!("on-pull")), "answer: "),
    ];
    for (said, expected) in cases {
        assert!(said.starts_with(expected), "{said:?} does not begin with {expected:?}");
    }
}

#[test]
fn the_order_of_settings_does_not_change_their_digest() {
    let digest = |text: &str| settings_digest(&serde_json::from_str(text).unwrap());
    assert_eq!(digest(r#"{"a": {"x": 1, "y": 2}, "b": []}"#), digest(r#"{"b":[],"a":{"y":2,"x":1}}"#));
    assert_ne!(digest(r#"{"a": [1, 2]}"#), digest(r#"{"a": [2, 1]}"#));
}

#[test]
fn a_file_tells_which_line_is_broken() {
    let line = recorded(&json!({}), &typical()[..1], false).remove(0).to_json().to_string();
    let outcomes = |text: String| {
        RecordReader::new(text.as_bytes()).map(|it| it.map(drop).map_err(|error| error.to_string())).collect::<Vec<_>>()
    };
    let outcome = outcomes(format!("{line}\n\n{{\"format\":1}}\n{line}"));
    assert_eq!((outcome.len(), &outcome[0], &outcome[2]), (3, &Ok(()), &Ok(())));
    assert!(outcome[1].as_ref().is_err_and(|error| error.starts_with("line 3: ")), "{outcome:?}");
    let outcome = outcomes(format!("{line}\nnonsense"));
    assert!(outcome[1].as_ref().is_err_and(|error| error.starts_with("line 2: not JSON")), "{outcome:?}");
    let endless = outcomes(" ".repeat(5 << 20));
    assert_eq!(endless[0], Err("line 1: longer than a record can be: at most 4194304 bytes".to_owned()));
}

#[test]
fn the_meter_says_what_the_serving_engine_says_at_the_same_cost_every_time() {
    let serving = LOADER.load(COMPONENT, "{}", &typical_host()).unwrap().generation;
    let metered = METER.load(COMPONENT, &json!({}), &typical_host()).unwrap();
    let mut costs = Vec::new();
    for count in [1, 50] {
        let question = Question::Available(context(), availability(count));
        let [first, second] = [metered.decide(question.clone()), metered.decide(question.clone())];
        assert_eq!(first.outcome, decide(&serving, question));
        assert_eq!((first.cost, first.memory_bytes), (second.cost, second.memory_bytes));
        assert!(first.memory_bytes >= 65_536 && first.memory_bytes <= 16 << 20, "{first:?}");
        costs.push(first.cost);
    }
    assert!(costs[0] > 1_000 && costs[1] > 5 * costs[0], "{costs:?}");
}

#[test]
fn the_meter_ends_a_loop_and_names_every_misbehaviour() {
    // Instructions are counted, and the wall is looked at as well: this gives a busy machine a second for them.
    let quick = PolicyLimits { deadline: Duration::from_millis(20), ..PolicyLimits::default() };
    let meter = Meter::new(quick, None).unwrap();
    let cases = [
        ("endless-loop", Err(Undecided::TimedOut)),
        ("trap", Err(Undecided::Trapped)),
        ("memory-bomb", Err(Undecided::OutOfMemory)),
        ("err", Err(Undecided::Declined)),
    ];
    for (behaviour, expected) in cases {
        let policy = meter.load(HOSTILE, &json!({ "behaviour": behaviour }), &typical_host()).unwrap();
        let decide = || policy.decide(arrival_for("example"));
        let is_it = |measured: &Measured| measured.outcome == expected && measured.why.is_some();
        // Where it was the wall that ended one of them, they differ.
        let is_the_same_twice = (0..ATTEMPTS).any(|_| {
            let measured = decide();
            is_it(&measured) && measured == decide()
        });
        assert!(is_the_same_twice, "{behaviour}: {:?} {:?}", decide(), decide());
    }
    let flood = meter.load(HOSTILE, &json!({"behaviour": "log-flood"}), &typical_host()).unwrap();
    let lines = flood.decide(arrival_for("example")).lines;
    assert_eq!((lines.len(), lines[15].text.as_str()), (16, "line 15"));
}

#[test]
fn a_replay_shows_what_other_settings_would_change() {
    let records = recorded(&json!({}), &typical(), true);
    assert_eq!(agreement(&records, COMPONENT, None).0.identical, 5);
    let (agreement, mut changes) = agreement(&records, COMPONENT, Some(json!({"few": 1, "default_keep_seconds": 60})));
    changes.sort();
    assert_eq!((agreement.identical, agreement.changed), (3, 2));
    assert_eq!(changes, ["on-available: page → session", "on-incoming: keep: expires-at ↓"]);
    let mut replay = Replay::new(&METER, COMPONENT, Some(json!({"few": "many"})), 1);
    assert!(replay.add(&records[0]).unwrap_err().to_string().contains("/few"));
}

#[test]
fn another_policy_is_compared_with_what_was_recorded() {
    let records = recorded(&json!({}), &typical(), false);
    let (agreement, changes) = agreement(&records, HOSTILE, Some(json!({"behaviour": "trap"})));
    assert_eq!((agreement.changed, agreement.newly_undecided), (5, 5));
    assert!(changes.contains(&"on-incoming: keep → trapped".to_owned()), "{changes:?}");
    assert!(changes.contains(&"on-pull: send large → trapped".to_owned()), "{changes:?}");
}

#[test]
fn a_record_says_when_the_live_answer_was_another_and_what_the_clock_said() {
    let question = typical_question(Hook::Incoming).unwrap();
    let source = RecordSource::new(&METER, COMPONENT, &json!({}), &typical_host(), Some(pseudonymiser())).unwrap();
    let rejected = Ok(Answer::Incoming(IncomingAnswer::Reject(Rejection {
        status: 403,
        reason: "No".to_owned(),
        retry_after_seconds: None,
    })));
    let record = source.record(&question, &rejected, Timestamp(NOW), 17);
    assert!(record.live_differed && matches!(record.outcome, Ok(Answer::Incoming(IncomingAnswer::Keep(_)))));
    assert!(record.is_pseudonymised && record.to_json()["live-differed"] == true);
    let late = source.record(&question, &Err(Undecided::TimedOut), Timestamp(NOW), 20_000);
    assert_eq!((late.outcome.clone(), late.live_differed), (Err(Undecided::TimedOut), false));
    let (agreement, _) = agreement(std::slice::from_ref(&late), COMPONENT, None);
    assert_eq!((agreement.changed, agreement.not_comparable), (0, 1));
    assert_eq!(Case::of_record(late), None, "no policy can be held to a clock");
}

fn case(text: Value) -> Case {
    Case::from_json(text).unwrap()
}

#[test]
fn cases_pass_and_fail_with_what_was_said() {
    let question: Value =
        serde_json::from_str(restante_policy::record::typical_question_json(Hook::Available)).unwrap();
    let expecting = |key: &str, expected: Value| {
        let mut value = question.clone();
        value["name"] = json!("two small messages");
        value[key] = expected;
        case(value)
    };
    let mut runner = CaseRunner::new(&METER, COMPONENT, json!({}), typical_host());
    let page = json!({"steps": [{"page": {"messages": [1, 2], "target": "any"}}]});
    assert_eq!(runner.run(&expecting("expect", page.clone())).failure, None);
    let other = runner.run(&expecting("expect", json!({"steps": []})));
    let differs = CaseFailure::Differs { expected: json!({"steps": []}), actual: page.clone(), why: None };
    assert_eq!((other.name.as_str(), other.failure), ("two small messages", Some(differs)));
    let undecided = runner.run(&expecting("expect-undecided", json!("declined"))).failure;
    let differs = CaseFailure::Differs { expected: json!({"undecided": "declined"}), actual: page.clone(), why: None };
    assert_eq!(undecided, Some(differs));

    let mut of_its_own = question.clone();
    of_its_own["settings"] = json!({"few": 1});
    of_its_own["host"] = json!({"max-page-bytes": 500});
    of_its_own["expect"] = page;
    assert!(matches!(runner.run(&case(of_its_own.clone())).failure, Some(CaseFailure::Differs { .. })));
    of_its_own["settings"] = json!({"few": -1});
    let unusable = runner.run(&case(of_its_own)).failure;
    assert!(matches!(&unusable, Some(CaseFailure::Unusable(why)) if why.contains("/few")), "{unusable:?}");
}

#[test]
fn cases_of_settings_name_problems_by_place_and_severity() {
    let mut runner = CaseRunner::new(&METER, COMPONENT, json!({}), typical_host());
    let settings = |settings: Value, problems: Value| {
        case(json!({"hook": "check-settings", "settings": settings, "expect": {"problems": problems}}))
    };
    let error = json!({"pointer": "/few", "severity": "error"});
    let warning = json!({"pointer": "/default_keep_seconds", "severity": "warning"});
    let late = json!({"default_keep_seconds": 100, "max_keep_seconds": 10});
    assert_eq!(runner.run(&settings(json!({"few": -1}), json!([error]))).failure, None);
    assert_eq!(runner.run(&settings(late.clone(), json!([warning]))).failure, None);
    assert_eq!(runner.run(&settings(json!({}), json!([]))).failure, None);
    assert!(runner.run(&settings(late, json!([]))).failure.is_some());
    assert!(runner.run(&settings(json!({"few": 3}), json!([error]))).failure.is_some());
}

#[test]
fn a_file_of_records_is_a_file_of_cases() {
    let mut file = Vec::new();
    for record in recorded(&json!({}), &typical(), true) {
        write_record(&mut file, &record).unwrap();
    }
    let text = String::from_utf8(file).unwrap();
    let cases = read_cases(&text).unwrap();
    let mut runner = CaseRunner::new(&METER, COMPONENT, json!({}), typical_host());
    assert_eq!(cases.len(), 5);
    for case in &cases {
        assert_eq!(runner.run(case).failure, None, "{}", case.name);
    }
    assert!(matches!(&cases[0].expectation, Expectation::Decision(..)));
    let one = read_cases(text.lines().next().unwrap()).unwrap();
    let list = read_cases(&format!("[{}]", text.lines().take(2).collect::<Vec<_>>().join(","))).unwrap();
    assert_eq!((one.len(), list.len()), (1, 2));
}

#[test]
fn cases_that_are_none_are_told_what_is_wrong() {
    let refused = |text: Value| Case::from_json(text).unwrap_err().to_string();
    let question: Value = serde_json::from_str(restante_policy::record::typical_question_json(Hook::Incoming)).unwrap();
    let with = |key: &str, value: Value| {
        let mut case = question.clone();
        case[key] = value;
        refused(case)
    };
    assert_eq!(refused(question.clone()), "expected either `expect` or `expect-undecided`");
    assert!(with("expect", json!({"keep": {}})).starts_with("expect.keep: missing field `expires-at`"));
    assert!(with("hook", json!("on-arrival")).starts_with("hook: unknown variant `on-arrival`"));
    assert!(with("host", json!({"max-page": 1})).starts_with("host.max-page: unknown field"));
    assert!(refused(json!({"hook": "check-settings", "settings": {}})).contains("missing field `expect`"));
    assert!(read_cases("{\n\"hook\": }").unwrap_err().to_string().starts_with("line 2: not JSON"));
}
