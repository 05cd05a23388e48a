//! `replay`

use std::process::{Command, Stdio};
use std::time::Duration;

use restante_deferral::model::{TenantName, Timestamp};
use restante_policy::record::{Meter, Pseudonymiser, RecordSource, typical_host, typical_question, write_record};
use restante_policy::{Hook, PolicyLimits};
use restante_tests::{binary, guest};
use serde_json::json;

use crate::support::{Desk, policy, policy_json};

/// Records of the standard policy, as a server writes them.
fn records(desk: &Desk) -> String {
    // By the clock nothing ends here, also where this thread stands still for a while.
    let patient = PolicyLimits { deadline: Duration::from_secs(1), ..PolicyLimits::default() };
    let meter = Meter::new(patient, None).unwrap();
    let pseudonymiser = Pseudonymiser::for_tenant(&[3; 64], &TenantName("example".into()));
    let component = restante_policy::standard::COMPONENT;
    let source = RecordSource::new(&meter, component, &json!({}), &typical_host(), Some(pseudonymiser)).unwrap();
    let live = meter.load(component, &json!({}), &typical_host()).unwrap();
    let mut file = Vec::new();
    for number in 0..20 {
        for hook in Hook::ALL {
            let question = typical_question(hook).unwrap();
            let outcome = live.decide(question.clone()).outcome;
            let record = source.record(&question, &outcome, Timestamp(1_700_000_000_000 + number), 15);
            assert!(!record.live_differed);
            write_record(&mut file, &record).unwrap();
        }
    }
    desk.write("records.jsonl", file)
}

#[test]
fn the_same_policy_decides_the_same() {
    let desk = Desk::new();
    let file = records(&desk);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("alice") && !text.contains("bob") && !text.contains("example.org"), "pseudonyms");
    let same = policy(&["replay", &file, "--policy", "standard"]);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    assert!(same.stdout.contains("all           100        0 "), "{same:?}");
    let cases = policy(&["test", &file, "--policy", "standard"]);
    assert!(cases.status.success() && cases.stdout.ends_with("100 cases, 0 failed\n"), "records are cases: {cases:?}");
}

#[test]
fn what_would_change_is_counted_and_shown_with_an_example() {
    let desk = Desk::new();
    let file = records(&desk);
    let settings = desk.write("settings.json", r#"{"few": 1, "delivery": "pull", "precedence": "operator"}"#);
    let arguments = ["replay", &file, "--policy", "standard", "--settings", &settings];
    let changed = policy(&arguments);
    assert_eq!(changed.status.code(), Some(1), "{changed:?}");
    assert!(changed.stdout.contains("\n20 × on-available: page → notify\n"), "{changed:?}");
    let (_, report) = policy_json(&arguments);
    assert_eq!((&report["total"]["identical"], &report["total"]["changed"]), (&json!(80), &json!(20)));
    let group = &report["groups"][0];
    assert_eq!((&group["hook"], &group["count"]), (&json!("on-available"), &json!(20)));
    assert_eq!(group["examples"].as_array().map(Vec::len), Some(1));
    assert!(group["examples"][0]["before"]["steps"][0].get("page").is_some(), "{group}");
    assert!(group["examples"][0]["after"]["steps"][0].get("notify").is_some(), "{group}");

    let trap = desk.write("trap.json", r#"{"behaviour": "trap"}"#);
    let (status, report) = policy_json(&["replay", &file, "--policy", &guest("hostile"), "--settings", &trap]);
    assert_eq!((status, &report["total"]["newly_undecided"]), (Some(1), &json!(100)), "{report}");
}

#[test]
fn what_cannot_be_told_has_a_status_of_its_own() {
    let desk = Desk::new();
    let file = records(&desk);
    let broken = desk.write("broken.jsonl", "{\"format\": 7}\n");
    let empty = desk.write("empty.jsonl", "");
    let settings = desk.write("settings.json", r#"{"few": -1}"#);
    let cases: [(Vec<&str>, &str); 4] = [
        (vec![&broken, "--policy", "standard"], "DESK/broken.jsonl: line 1: format: expected 1"),
        (vec![&empty, "--policy", "standard"], "no records in DESK/empty.jsonl"),
        (vec![&file, "--policy", "/nowhere.wasm"], "/nowhere.wasm: No such file"),
        (vec![&file, "--policy", "standard", "--settings", &settings], "/few"),
    ];
    for (arguments, expected) in cases {
        let finished = policy(&[&["replay"], arguments.as_slice()].concat());
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
        assert!(desk.shown(&finished.stderr).contains(expected), "{finished:?}");
    }
}

#[test]
fn what_nobody_reads_any_more_ends_quietly_and_a_replay_has_not_told_then() {
    let desk = Desk::new();
    let file = records(&desk);
    for (arguments, status) in
        [(&["policy", "replay", &file, "--policy", "standard"][..], 2), (&["policy", "inspect", "standard"], 0)]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(binary());
        command.args(arguments).stdin(Stdio::null()).stdout(writer);
        let ended = command.output().expect("the program runs");
        assert_eq!((ended.status.code(), &*ended.stderr), (Some(status), &b""[..]), "{arguments:?}");
    }
}
