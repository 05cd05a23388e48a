//! The examples of `plugin/examples` as components, and their cases.

use std::fs;
use std::path::PathBuf;

use restante_deferral::decision::{Answer, Context, IncomingAnswer, Question};
use restante_policy::{LoadError, Loaded, Problem, Severity, decide};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{LOADER, abilities, arrival_for, availability, context};

const EXAMPLES: [&str; 5] = ["quiet-hours", "paid-tiers", "spam-brake", "emergency-first", "guardian-hold"];

fn component(name: &str) -> Vec<u8> {
    fs::read(format!("{}/{name}.wasm", env!("OUT_DIR"))).expect("the build script made it")
}

#[test]
fn each_is_a_policy_that_describes_itself_and_decides() {
    for name in EXAMPLES {
        let loaded =
            LOADER.load(&component(name), "{}", &abilities()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let description = loaded.generation.description();
        assert_eq!(description.name, name);
        let schema = description.settings_schema.as_deref().expect("a schema");
        let schema: Value = serde_json::from_str(schema).unwrap();
        assert_eq!((&schema["type"], &schema["additionalProperties"]), (&"object".into(), &false.into()), "{name}");
        assert!(schema["properties"].as_object().is_some_and(|properties| properties.len() > 1), "{name}");
        let kept = decide(&loaded.generation, arrival_for("example"));
        assert!(matches!(kept, Ok(Answer::Incoming(IncomingAnswer::Keep(_)))), "{name}: {kept:?}");
        let plan = decide(&loaded.generation, Question::Available(context(), availability(50)));
        assert!(matches!(plan, Ok(Answer::Available(_))), "{name}: {plan:?}");
    }
}

#[test]
fn what_is_wrong_with_settings_is_named_by_its_pointer() {
    let settings = r#"{"quiet": {"from": "22:00", "to": "07:00"}, "urgent_priority": 256}"#;
    let Err(LoadError::Settings(problems)) = LOADER.load(&component("quiet-hours"), settings, &abilities()) else {
        panic!("it was taken");
    };
    let found: Vec<_> = problems.iter().map(|problem| (problem.pointer.as_str(), problem.text.as_str())).collect();
    let expected = [
        ("/quiet/to", "is not a setting; expected from or until"),
        ("/quiet/until", "is missing; expected a text"),
        ("/urgent_priority", "expected a whole number from 0 to 255"),
    ];
    assert_eq!(found, expected);
    assert!(problems.iter().all(|problem| problem.severity == Severity::Error));
}

/// Cases of an example, by their file.
fn cases(name: &str) -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../plugin/examples").join(name).join("cases");
    let files = fs::read_dir(folder).expect("cases").map(|entry| entry.expect("a case").path());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a text");
        (path.display().to_string(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}")))
    };
    files.map(read).collect()
}

fn part<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn question(case: &Value) -> Question {
    let context: Context = part(&case["context"]);
    let input = &case["input"];
    match case["hook"].as_str() {
        Some("on-incoming") => Question::Incoming(context, Box::new(part(input))),
        Some("on-available") => Question::Available(context, part(input)),
        Some("on-pull") => Question::Pull(context, Box::new(part(input))),
        Some("on-failure") => Question::Failure(context, part(input)),
        Some("on-expiry") => Question::Expiry(context, part(input)),
        hook => panic!("{hook:?}"),
    }
}

fn answer(answer: Answer) -> Value {
    let value = match answer {
        Answer::Incoming(answer) => serde_json::to_value(answer),
        Answer::Available(plan) => serde_json::to_value(plan),
        Answer::Pull(answer) => serde_json::to_value(answer),
        Answer::Failure(answers) => serde_json::to_value(answers),
        Answer::Expiry(answers) => serde_json::to_value(answers),
    };
    value.expect("JSON")
}

fn found(problems: &[Problem]) -> Value {
    let severity = |problem: &Problem| if problem.severity == Severity::Error { "error" } else { "warning" };
    let entry = |problem: &Problem| json!({"pointer": problem.pointer, "severity": severity(problem)});
    json!({"problems": problems.iter().map(entry).collect::<Vec<_>>()})
}

/// Nothing said and null are the same.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            members.map(|(name, value)| (name.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn outcome(component: &[u8], case: &Value) -> Value {
    let loaded = LOADER.load(component, &case["settings"].to_string(), &abilities());
    match (case["hook"] == "check-settings", loaded) {
        (true, Ok(Loaded { warnings, .. })) => found(&warnings),
        (true, Err(LoadError::Settings(problems))) => found(&problems),
        (false, Ok(loaded)) => answer(decide(&loaded.generation, question(case)).expect("an answer")),
        (_, Err(error)) => panic!("{error}"),
    }
}

#[test]
fn every_case_holds() {
    for name in EXAMPLES {
        let component = component(name);
        let cases = cases(name);
        assert!(cases.len() > 4, "{name}");
        // Compiled once, as long as somebody uses it.
        let _in_use = LOADER.load(&component, "{}", &abilities()).unwrap();
        for (file, case) in cases {
            let outcome = outcome(&component, &case);
            assert_eq!(without_nulls(&outcome), without_nulls(&case["expect"]), "{file}: {}", case["name"]);
        }
    }
}
