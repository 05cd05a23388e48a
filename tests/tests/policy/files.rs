//! `component`, `inspect` and `check`.

use restante_tests::guest;

use crate::support::{Desk, core_module, policy, policy_json};

#[test]
fn a_core_module_becomes_the_component_that_the_program_has() {
    let desk = Desk::new();
    let made = policy(&["component", &core_module("standard"), "-o", &desk.argument("made.wasm")]);
    assert!(made.status.success(), "{made:?}");
    assert!(desk.shown(&made.stdout).starts_with("DESK/made.wasm: a component of "), "{made:?}");
    let (_, inside) = policy_json(&["inspect", "standard"]);
    let (_, made) = policy_json(&["inspect", &desk.argument("made.wasm")]);
    let (_, on_the_way) = policy_json(&["inspect", &core_module("standard")]);
    assert_eq!((&made["sha256"], &on_the_way["sha256"]), (&inside["sha256"], &inside["sha256"]));
    assert_eq!((&made["was-core-module"], &on_the_way["was-core-module"]), (&false.into(), &true.into()));
    let again = policy(&["component", &desk.argument("made.wasm"), "-o", &desk.argument("again.wasm")]);
    assert!(again.stdout.contains("was one already"), "{again:?}");
    assert_eq!(std::fs::read(desk.path("made.wasm")).unwrap(), std::fs::read(desk.path("again.wasm")).unwrap());
}

#[test]
fn what_can_be_no_component_is_told_why() {
    let desk = Desk::new();
    let empty_module = desk.write("empty.wasm", b"\0asm\x01\0\0\0");
    let text = desk.write("text.wasm", "not WebAssembly at all");
    let cases = [
        (vec!["inspect", &empty_module], "contract: none: not a policy"),
        (vec!["inspect", &text], "malformed component"),
        (vec!["check", &text], "FAILED imports"),
        (vec!["check", &empty_module], "FAILED world the component does not export describe, check-settings"),
        (vec!["check", "/nowhere/policy.wasm"], "/nowhere/policy.wasm: No such file"),
    ];
    for (arguments, expected) in cases {
        let finished = policy(&arguments);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn inspect_tells_what_a_policy_is() {
    let (status, report) = policy_json(&["inspect", &guest("hostile")]);
    assert_eq!(status, Some(0));
    assert_eq!(report["contract"], serde_json::json!(["0.1.0"]));
    let imports = report["contents"]["imports"].as_array().unwrap();
    assert!(imports.contains(&"restante:policy/log@0.1.0".into()), "{report}");
    let exports = report["contents"]["exports"].as_array().unwrap();
    for hook in ["check-settings", "on-incoming", "on-available", "on-pull", "on-failure", "on-expiry"] {
        assert!(exports.contains(&hook.into()), "{hook} is not in {report}");
    }
    assert_eq!(report["contents"]["producers"]["language"][0], "Rust");
    let (_, standard) = policy_json(&["inspect", "standard"]);
    assert_eq!((&standard["name"], &standard["unusable"]), (&"standard".into(), &serde_json::Value::Null));
    assert!(standard["settings-schema"]["properties"]["few"].is_object(), "{standard}");
    let table = policy(&["inspect", &guest("hostile")]);
    assert!(table.stdout.contains("contract:  0.1.0\n") && table.stdout.contains("processed-by: rustc "), "{table:?}");
}

#[test]
fn check_goes_through_everything_and_says_what_it_saw() {
    for file in ["standard".to_owned(), core_module("scripted")] {
        let checked = policy(&["check", &file]);
        assert!(checked.status.success(), "{checked:?}");
        let steps: Vec<(&str, &str)> = checked
            .stdout
            .lines()
            .filter_map(|line| line.split_once(' ').map(|(verdict, rest)| (verdict, rest.trim_start())))
            .collect();
        for step in [
            "size",
            "imports",
            "contract",
            "world",
            "description",
            "schema",
            "settings",
            "on-incoming",
            "on-available",
            "on-pull",
            "on-failure",
            "on-expiry",
        ] {
            let is_well = |(verdict, rest): &(&str, &str)| {
                // A policy without a schema is worth a word and can be used.
                let expected = if step == "schema" { ["ok", "warning"] } else { ["ok", "ok"] };
                expected.contains(verdict) && rest.split(' ').next() == Some(step)
            };
            assert!(steps.iter().any(is_well), "{step}: {checked:?}");
        }
    }
}

#[test]
fn check_fails_where_a_server_would() {
    let desk = Desk::new();
    let settings = |text: &str| desk.write("settings.json", text);
    let step = |file: &str, text: &str, step: &str| {
        let (status, report) = policy_json(&["check", file, "--settings", &settings(text)]);
        let steps = report["steps"].as_array().unwrap();
        let found = steps.iter().find(|it| it["step"] == step).unwrap_or_else(|| panic!("no {step} in {report}"));
        let verdict = found["verdict"].as_str().unwrap().to_owned();
        (status, verdict, found["found"].as_str().unwrap().to_owned())
    };
    let cases = [
        ("standard".to_owned(), r#"{"few": -1}"#, "settings", 1, "failed", "/few: expected a whole number"),
        (
            "standard".to_owned(),
            r#"{"default_keep_seconds": 9000000}"#,
            "settings",
            0,
            "warning",
            "/default_keep_seconds",
        ),
        (guest("hostile"), r#"{"behaviour": "trap"}"#, "on-incoming", 1, "failed", "trapped: "),
        (guest("hostile"), r#"{"behaviour": "endless-loop"}"#, "on-available", 1, "failed", "timed-out: "),
        (
            guest("hostile"),
            r#"{"behaviour": "trap", "when": "check"}"#,
            "settings",
            1,
            "failed",
            "failed while it checked",
        ),
        (
            guest("hostile"),
            r#"{"behaviour": "err"}"#,
            "on-incoming",
            1,
            "warning",
            "declined: the policy declined: cannot decide",
        ),
        (
            guest("hostile"),
            r#"{"behaviour": "impossible"}"#,
            "on-available",
            1,
            "failed",
            "cannot be done: unknown message",
        ),
        (
            guest("scripted"),
            r#"{"incoming": "reject:200"}"#,
            "on-incoming",
            1,
            "failed",
            "cannot be done: not a refusal",
        ),
    ];
    for (file, text, name, status, verdict, found) in cases {
        // A policy that declines is usable; hostile's other hooks decide for themselves.
        let (code, was, said) = step(&file, text, name);
        assert_eq!(was, verdict, "{text}: {said}");
        assert!(said.contains(found), "{text}: {said}");
        if verdict != "warning" || file == "standard" {
            assert_eq!(code, Some(status), "{text}");
        }
    }
}
