//! The examples of `plugin/examples` as components. What they decide is shown by their own tests and cases.

use restante_deferral::decision::{Answer, IncomingAnswer, Question};
use restante_policy::{LoadError, Severity, decide};

use crate::support::{LOADER, abilities, arrival_for, availability, context};

const EXAMPLES: [&str; 5] = ["quiet-hours", "paid-tiers", "spam-brake", "emergency-first", "guardian-hold"];

fn component(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/{name}.wasm", env!("OUT_DIR"))).expect("the build script made it")
}

#[test]
fn each_is_a_policy_that_describes_itself_and_decides() {
    for name in EXAMPLES {
        let loaded =
            LOADER.load(&component(name), "{}", &abilities()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let description = loaded.generation.description();
        assert_eq!(description.name, name);
        let schema = description.settings_schema.as_deref().expect("a schema");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
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
