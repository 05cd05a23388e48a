use std::collections::BTreeMap;

use super::*;
use crate::testing::host;
use crate::time::{Period, TimeOfDay};
use crate::types::Severity;

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Way {
    #[default]
    Push,
    /// With a comment, which makes another schema.
    PullLater,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Choice {
    Nothing,
    Few { count: u8 },
    Named(String),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Quota {
    messages: Option<u32>,
    way: Option<Way>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Everything {
    #[schemars(range(min = 0, max = 100))]
    few: u32,
    way: Way,
    quota: Quota,
    #[schemars(length(max = 2))]
    waits: Vec<u64>,
    tiers: BTreeMap<String, Quota>,
    choices: Vec<Choice>,
    night: Option<Period>,
    offset: i16,
    share: f64,
    open: bool,
}

impl Default for Everything {
    fn default() -> Self {
        Everything {
            few: 3,
            way: Way::Push,
            quota: Quota::default(),
            waits: vec![30],
            tiers: BTreeMap::new(),
            choices: Vec::new(),
            night: None,
            offset: 0,
            share: 0.5,
            open: false,
        }
    }
}

struct Tested;

impl Policy for Tested {
    type Settings = Everything;

    fn check(settings: &Everything, host: &HostAbilities, problems: &mut Problems) {
        if settings.waits.is_empty() {
            problems.warning("/waits", "nothing is tried again");
        }
        if u64::from(settings.few) > host.max_message_bytes {
            problems.error("/few", "too many");
        }
    }
}

fn found(text: &str) -> Vec<(String, String)> {
    let problems = check::<Tested>(text, &host()).err().unwrap_or_default();
    assert!(problems.iter().all(|problem| problem.severity == Severity::Error), "{text}: {problems:?}");
    problems.into_iter().map(|problem| (problem.pointer, problem.text)).collect()
}

#[test]
fn nothing_said_means_the_defaults() {
    let (settings, checked) = check::<Tested>("{}", &host()).unwrap();
    assert_eq!(settings, Everything::default());
    assert_eq!(read::<Everything>(&checked.normalised), Ok(settings));
    assert!(checked.normalised.len() < 40 && checked.problems.is_empty());
    assert!(read::<Everything>(b"\xff").is_err());
}

#[test]
fn every_setting_is_read() {
    let text = r#"{"few": 100, "way": "pull-later", "quota": {"messages": 5, "way": "push"}, "waits": [1, 2],
        "tiers": {"a/b": {"messages": null}}, "choices": ["nothing", {"few": {"count": 2}}, {"named": "x"}],
        "night": {"from": "22:00", "until": "07:30"}, "offset": -60, "share": 1, "open": true}"#;
    let (settings, checked) = check::<Tested>(text, &host()).unwrap();
    let expected = Everything {
        few: 100,
        way: Way::PullLater,
        quota: Quota { messages: Some(5), way: Some(Way::Push) },
        waits: vec![1, 2],
        tiers: BTreeMap::from([("a/b".to_owned(), Quota::default())]),
        choices: vec![Choice::Nothing, Choice::Few { count: 2 }, Choice::Named("x".to_owned())],
        night: Some(Period { from: TimeOfDay::new(22, 0), until: TimeOfDay::new(7, 30) }),
        offset: -60,
        share: 1.0,
        open: true,
    };
    assert_eq!((&settings, read::<Everything>(&checked.normalised)), (&expected, Ok(expected.clone())));
}

#[test]
fn each_problem_is_named_by_its_pointer_and_says_what_was_expected() {
    let known = "is not a setting; expected messages or way";
    let cases: [(&str, &[(&str, &str)]); 20] = [
        (r#"{"few": -1}"#, &[("/few", "expected a whole number from 0 to 100")]),
        (r#"{"few": 101}"#, &[("/few", "expected a whole number from 0 to 100")]),
        (r#"{"few": 1.5}"#, &[("/few", "expected a whole number from 0 to 100")]),
        (
            r#"{"few": "3", "way": "Push"}"#,
            &[
                ("/few", "expected a whole number from 0 to 100"),
                ("/way", "expected one of \"push\" or \"pull-later\""),
            ],
        ),
        (r#"{"way": null}"#, &[("/way", "expected one of \"push\" or \"pull-later\"")]),
        (
            r#"{"quota": {"few": 1, "messages": -1}}"#,
            &[("/quota/few", known), ("/quota/messages", "expected a whole number from 0 to 4294967295 or null")],
        ),
        (
            r#"{"quota": {"messages": 4294967296}}"#,
            &[("/quota/messages", "expected a whole number from 0 to 4294967295 or null")],
        ),
        (r#"{"quota": {"way": 3}}"#, &[("/quota/way", "expected one of \"push\" or \"pull-later\" or null")]),
        (r#"{"waits": [1, 2, 3]}"#, &[("/waits", "expected a list of at most 2 items")]),
        (
            r#"{"waits": [-1, "x"]}"#,
            &[
                ("/waits/0", "expected a whole number of at least 0"),
                ("/waits/1", "expected a whole number of at least 0"),
            ],
        ),
        (r#"{"tiers": {"a/~": {"x": 1}}}"#, &[("/tiers/a~1~0/x", known)]),
        (r#"{"tiers": {"gold": 3}}"#, &[("/tiers/gold", "expected an object")]),
        (
            r#"{"choices": [{"few": {"count": 256}}]}"#,
            &[("/choices/0/few/count", "expected a whole number from 0 to 255")],
        ),
        (r#"{"choices": [3]}"#, &[("/choices/0", "expected \"nothing\" or an object or an object")]),
        (r#"{"night": {"from": "22:00"}}"#, &[("/night/until", "is missing; expected a text")]),
        (
            r#"{"night": {"from": "22", "until": "07:00"}}"#,
            &[("/night/from", "expected a time of day from \"00:00\" to \"23:59\"")],
        ),
        (r#"{"offset": 40000}"#, &[("/offset", "expected a whole number from -32768 to 32767")]),
        (r#"{"share": true}"#, &[("/share", "expected a number")]),
        (r#"{"open": 1}"#, &[("/open", "expected true or false")]),
        ("[]", &[("", "expected an object")]),
    ];
    for (text, expected) in cases {
        let found = found(text);
        let found: Vec<_> = found.iter().map(|(pointer, text)| (pointer.as_str(), text.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }
    assert!(found("{few: 1}")[0].1.starts_with("expected JSON: "));
    let unknown = found(r#"{"fewer": 1}"#);
    assert_eq!(unknown[0].0, "/fewer");
    assert!(unknown[0].1.ends_with("expected choices, few, night, offset, open, quota, share, tiers, waits or way"));
}

#[test]
fn a_policy_looks_across_settings_itself() {
    let (_, checked) = check::<Tested>(r#"{"waits": []}"#, &host()).unwrap();
    assert_eq!(checked.problems.len(), 1);
    assert_eq!((checked.problems[0].pointer.as_str(), checked.problems[0].severity), ("/waits", Severity::Warning));
    let small = HostAbilities { max_message_bytes: 1, ..host() };
    let refused = check::<Tested>("{}", &small).unwrap_err();
    assert_eq!((refused[0].pointer.as_str(), refused[0].severity), ("/few", Severity::Error));
}

#[test]
fn the_schema_closes_objects_and_carries_comments_bounds_and_defaults() {
    let schema = schema::<Everything>();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["$defs"]["Quota"]["additionalProperties"], false);
    assert_eq!(schema["$defs"]["Way"]["description"], "What to do.");
    assert_eq!(
        (&schema["properties"]["few"]["maximum"], &schema["properties"]["few"]["default"]),
        (&100.into(), &3.into())
    );
    assert_eq!(super::schema::<NoSettings>()["additionalProperties"], false);
}

#[test]
fn a_type_that_cannot_be_read_back_is_found_before_the_first_decision() {
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Skips {
        #[serde(skip_serializing_if = "Option::is_none")]
        first: Option<u8>,
        second: u8,
    }
    struct Faulty;
    impl Policy for Faulty {
        type Settings = Skips;
    }
    let problems = check::<Faulty>(r#"{"second": 7}"#, &host()).err().unwrap();
    assert!(problems[0].text.contains("skip_serializing_if"), "{problems:?}");
}
