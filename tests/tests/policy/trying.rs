//! `run` and `bench`.

use restante_policy::Hook;
use restante_policy::record::typical_question_json;
use restante_tests::guest;
use serde_json::{Value, json};

use crate::support::{Desk, policy, policy_json};

fn question(hook: Hook) -> Value {
    serde_json::from_str(typical_question_json(hook)).expect("JSON")
}

#[test]
fn run_shows_the_answer_and_what_it_took() {
    let desk = Desk::new();
    let input = desk.write("question.json", question(Hook::Available).to_string());
    let (status, report) = policy_json(&["run", "standard", "--hook", "on-available", "--input", &input]);
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["answer"], json!({"steps": [{"page": {"messages": [1, 2], "target": "any"}}]}));
    assert!(report["cost"].as_u64().is_some_and(|cost| cost > 1_000), "{report}");
    assert!(report["memory-bytes"].as_u64().is_some_and(|bytes| bytes >= 65_536), "{report}");
    assert!(report["micros"].as_f64().is_some_and(|micros| micros > 0.0), "{report}");
    let few = desk.write("settings.json", r#"{"few": 1}"#);
    let (_, report) = policy_json(&["run", "standard", "--input", &input, "--settings", &few]);
    assert_eq!(report["answer"]["steps"][0]["session"]["messages"], json!([1]), "one for each sender");
    let again = policy_json(&["run", "standard", "--input", &input, "--settings", &few]).1;
    assert_eq!(again["cost"], report["cost"], "the cost is the same every time");
}

#[test]
fn every_hook_answers_its_typical_question() {
    for (hook, key) in [("on-incoming", "keep"), ("on-available", "steps"), ("on-pull", "send")] {
        let (status, report) = policy_json(&["run", "standard", "--hook", hook]);
        assert_eq!(status, Some(0), "{report}");
        assert!(report["answer"].get(key).is_some(), "{report}");
    }
    for (hook, action) in [("on-failure", "retry"), ("on-expiry", "drop")] {
        let (_, report) = policy_json(&["run", "standard", "--hook", hook]);
        assert!(report["answer"][0]["action"].get(action).is_some(), "{report}");
    }
}

#[test]
fn what_a_policy_logs_is_shown_and_cannot_steer_a_terminal() {
    let desk = Desk::new();
    let settings = desk.write("settings.json", r#"{"behaviour": "log-control"}"#);
    let shown = policy(&["run", &guest("hostile"), "--hook", "on-incoming", "--settings", &settings]);
    assert!(shown.stdout.contains("log debug: a\\u{1b}[31m\\u{d}\\u{a}b\\u{0}c\\u{202e}d\n"), "{shown:?}");
    assert!(shown.stdout.contains("\"keep\": {"), "{shown:?}");
}

#[test]
fn no_answer_is_told_with_its_reason_and_a_status() {
    let desk = Desk::new();
    for (behaviour, word, why) in
        [("trap", "trapped", "unreachable"), ("err", "declined", "cannot decide"), ("endless-loop", "timed-out", "")]
    {
        let settings = desk.write("settings.json", format!(r#"{{"behaviour": "{behaviour}"}}"#));
        let (status, report) =
            policy_json(&["run", &guest("hostile"), "--hook", "on-incoming", "--settings", &settings]);
        assert_eq!((status, &report["undecided"]), (Some(1), &word.into()), "{report}");
        assert!(report["why"].as_str().is_some_and(|said| said.contains(why)), "{report}");
    }
    let settings = desk.write("settings.json", r#"{"behaviour": "impossible"}"#);
    let finished = policy(&["run", &guest("hostile"), "--hook", "on-available", "--settings", &settings]);
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stdout.contains("impossible: unknown message; a server would fall back"), "{finished:?}");
}

#[test]
fn a_question_that_is_none_is_told_where() {
    let desk = Desk::new();
    let mut broken = question(Hook::Available);
    broken["input"]["contacts"][0]["abilties"] = json!([]);
    let typing_error = desk.write("broken.json", broken.to_string());
    let expiry = desk.write("expiry.json", question(Hook::Expiry).to_string());
    let mut bare = question(Hook::Expiry);
    bare.as_object_mut().unwrap().remove("hook");
    let bare = desk.write("bare.json", bare.to_string());
    let text = desk.write("text.json", "nonsense");
    let cases: [(Vec<&str>, &str); 6] = [
        (vec!["--input", &typing_error], "DESK/broken.json: input.contacts[0].abilties: unknown field `abilties`"),
        (vec!["--input", &expiry, "--hook", "on-pull"], "DESK/expiry.json: is a question to on-expiry, not to on-pull"),
        (vec!["--input", &bare], "DESK/bare.json: has no `hook`; expected --hook"),
        (vec!["--input", &text], "DESK/text.json: not JSON"),
        (vec![], "expected --hook, --input or both"),
        (vec!["--input", &expiry, "--settings", &text], "DESK/text.json: not JSON"),
    ];
    for (arguments, expected) in cases {
        let finished = policy(&[&["run", "standard"], arguments.as_slice()].concat());
        assert_eq!(finished.status.code(), Some(1));
        let said = desk.shown(&finished.stderr);
        assert!(said.starts_with(&format!("restante: {expected}")), "{said}");
    }
    assert!(policy(&["run", "standard", "--input", &bare, "--hook", "on-expiry"]).status.success());
}

#[test]
fn bench_measures_one_message_and_fifty() {
    let (status, report) = policy_json(&["bench", "standard"]);
    assert_eq!(status, Some(0), "{report}");
    let lines = report["decisions"].as_array().unwrap();
    let of = |hook: &str| {
        lines
            .iter()
            .filter(|line| line["hook"] == hook)
            .map(|line| line["messages"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!((of("on-incoming"), of("on-available"), of("on-expiry")), (vec![1], vec![1, 50], vec![1, 50]));
    for line in lines {
        let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"));
        assert!(number("median-micros") > 0.0 && number("p99-micros") >= number("median-micros"), "{line}");
        assert!(number("cost") > 1_000.0 && number("memory-bytes") >= 65_536.0, "{line}");
    }
}
