//! `test`

use restante_policy::Hook;
use restante_policy::record::typical_question_json;
use restante_tests::guest;
use serde_json::{Value, json};

use crate::support::{Desk, policy, policy_json};

fn case(name: &str, hook: Hook, key: &str, expected: Value) -> Value {
    let mut case: Value = serde_json::from_str(typical_question_json(hook)).expect("JSON");
    case["name"] = json!(name);
    case[key] = expected;
    case
}

fn two_messages() -> Value {
    json!({"steps": [{"page": {"messages": [1, 2], "target": "any"}}]})
}

#[test]
fn cases_are_tried_and_a_difference_is_shown() {
    let desk = Desk::new();
    let standard = std::fs::read(guest("standard")).unwrap();
    desk.write("built.wasm", standard);
    desk.write("cases/a.json", case("two go at once", Hook::Available, "expect", two_messages()).to_string());
    let settings = json!({
        "name": "few is a number", "hook": "check-settings", "settings": {"few": "three"},
        "expect": {"problems": [{"pointer": "/few", "severity": "error"}]},
    });
    desk.write("cases/b.json", json!([settings]).to_string());
    let passed = policy(&["test", &desk.argument("")]);
    assert!(passed.status.success(), "{passed:?}");
    assert!(
        desk.shown(&passed.stdout).ends_with("b.json: few is a number (check-settings)\n2 cases, 0 failed\n"),
        "{passed:?}"
    );

    let other = json!({"steps": [{"page": {"messages": [2, 1], "target": "any"}}], "ask-again-at": 5});
    desk.write("cases/c.json", case("in another order", Hook::Available, "expect", other).to_string());
    desk.write("cases/d.json", case("declines", Hook::Pull, "expect-undecided", json!("declined")).to_string());
    let failed = policy(&["test", &desk.argument("")]);
    assert_eq!(failed.status.code(), Some(1));
    let shown = desk.shown(&failed.stdout);
    assert!(shown.contains("c.json: in another order (on-available)\n"), "{shown}");
    assert!(shown.contains("      - {\n") || shown.contains("      -   \"ask-again-at\": 5,\n"), "{shown}");
    assert!(shown.contains("      -   \"undecided\": \"declined\"\n"), "{shown}");
    assert!(shown.ends_with("4 cases, 2 failed\n"), "{shown}");
    let (status, report) = policy_json(&["test", &desk.argument("")]);
    assert_eq!((status, &report["passed"], &report["failed"]), (Some(1), &json!(2), &json!(2)));
    assert_eq!(report["cases"][2]["actual"], two_messages());
}

#[test]
fn a_case_has_settings_and_a_host_of_its_own() {
    let desk = Desk::new();
    let mut handed_over =
        case("to the gateway", Hook::Expiry, "expect", json!([{"message": 1, "action": {"hand-over": "sms"}}]));
    handed_over["settings"] = json!({"expiry": "hand-over:sms"});
    handed_over["host"] = json!({"hand-over-targets": ["sms"]});
    let file = desk.write("one.json", handed_over.to_string());
    let passed = policy(&["test", &file, "--policy", &guest("scripted")]);
    assert!(passed.status.success(), "{passed:?}");
    let failed = policy(&["test", &file, "--policy", "standard"]);
    assert!(!failed.status.success() && failed.stdout.contains("setting"), "{failed:?}");
}

#[test]
fn the_policy_that_cargo_built_is_found_in_the_workspace_above() {
    let desk = Desk::new();
    desk.write("target/wasm32-unknown-unknown/release/night_watch.wasm", std::fs::read(guest("standard")).unwrap());
    desk.write("policies/night/Cargo.toml", "[package]\nname = \"night-watch\"\n");
    desk.write("policies/night/cases/a.json", case("", Hook::Available, "expect", two_messages()).to_string());
    let passed = policy(&["test", &desk.argument("policies/night")]);
    assert!(passed.status.success(), "{passed:?}");
    assert!(
        passed.stdout.contains("release/night_watch.wasm\n") && passed.stdout.contains("a.json: case 1 ("),
        "{passed:?}"
    );
}

#[test]
fn what_is_missing_or_broken_is_said() {
    let desk = Desk::new();
    let said = |arguments: &[&str]| {
        let finished = policy(&[&["test"], arguments].concat());
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        desk.shown(&finished.stderr)
    };
    let here = desk.argument("");
    assert!(said(&[&here]).contains("no policy was built here; build it, or name one with --policy"));
    assert!(said(&[&here, "--policy", "standard"]).contains("no cases found"));
    let mut broken = case("", Hook::Available, "expect", json!({"steps": [{"pages": {}}]}));
    let file = desk.write("cases/a.json", broken.to_string());
    let expected = "DESK/cases/a.json: line 1: expect.steps[0]";
    assert!(said(&[&here, "--policy", "standard"]).contains(expected), "{}", said(&[&here, "--policy", "standard"]));
    broken["expect"] = two_messages();
    broken["expects"] = json!(1);
    desk.write("cases/a.json", broken.to_string());
    assert!(said(&[&file, "--policy", "standard"]).contains("unknown field `expects`"));
}
