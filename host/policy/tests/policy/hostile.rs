//! What a policy that misbehaves does to the host: nothing, and it is told apart.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use restante_deferral::decision::{Answer, AttemptKind, Failure, IncomingAnswer, Question, Undecided};
use restante_deferral::model::Origin;
use restante_policy::{
    Generation, LoadError, Loader, PolicyEngine, PolicyHost, PolicyLimits, TenantStatistics, decide,
};

use crate::support::{
    ENGINE, HASTY, HOSTILE, LOADER, abilities, arrival_for, context, engine, hostile, hostile_of, tenant,
};

fn failure() -> Question {
    let failure = Failure {
        attempt: AttemptKind::Page,
        contact: None,
        status: None,
        origin: Origin::Timeout,
        retry_after_seconds: None,
        messages: Vec::new(),
        other_contacts: Vec::new(),
    };
    Question::Failure(context(), failure)
}

#[test]
fn each_misbehaviour_has_its_verdict_and_leaves_nothing_behind() {
    let cases = [
        ("memory-bomb", Undecided::OutOfMemory),
        ("trap", Undecided::Trapped),
        ("recursion", Undecided::Trapped),
        ("err", Undecided::Declined),
    ];
    let good = hostile("good");
    for (behaviour, expected) in cases {
        let generation = hostile(behaviour);
        for _ in 0..20 {
            assert_eq!(decide(&generation, arrival_for("example")), Err(expected), "{behaviour}");
        }
        assert!(decide(&good, arrival_for("example")).is_ok(), "after {behaviour}");
    }
}

#[test]
fn an_endless_loop_is_ended_at_the_deadline() {
    let loader = Loader::new(PolicyEngine::new(PolicyLimits::default()).unwrap(), None).unwrap();
    let generation = hostile_of(&loader, "endless-loop");
    let took = [(); 10].map(|()| {
        let started_at = Instant::now();
        assert_eq!(decide(&generation, arrival_for("example")), Err(Undecided::TimedOut));
        started_at.elapsed()
    });
    assert!(took.iter().all(|took| *took >= Duration::from_millis(20)), "{took:?}");
    // A busy machine may be late now and then.
    assert!(took.iter().filter(|took| **took < Duration::from_secs(2)).count() > 5, "{took:?}");
}

#[test]
fn an_answer_beyond_its_bounds_is_not_copied() {
    for behaviour in ["aliased-strings", "giant-list"] {
        assert_eq!(decide(&hostile(behaviour), failure()), Err(Undecided::Impossible), "{behaviour}");
    }
    assert_eq!(decide(&hostile("long-err"), arrival_for("example")), Err(Undecided::Impossible));
    assert_eq!(decide(&hostile("good"), failure()), Ok(Answer::Failure(Vec::new())));
}

#[test]
fn nothing_is_remembered_between_calls() {
    let generation = hostile("remember");
    for _ in 0..5 {
        let expected = Answer::Incoming(IncomingAnswer::Discard("0".to_owned()));
        assert_eq!(decide(&generation, arrival_for("example")), Ok(expected));
    }
}

/// What loads a policy that behaves so while it is loaded.
fn loader_of(behaviour: &str) -> &'static Loader {
    if behaviour == "endless-loop" { &HASTY } else { &LOADER }
}

#[test]
fn a_policy_that_fails_over_its_settings_is_not_taken() {
    for behaviour in ["endless-loop", "memory-bomb", "trap", "recursion"] {
        let settings = format!(r#"{{"behaviour": "{behaviour}", "when": "check"}}"#);
        let loaded = loader_of(behaviour).load(HOSTILE, &settings, &abilities());
        assert!(matches!(loaded, Err(LoadError::CheckFailed(_))), "{behaviour}: {loaded:?}");
    }
    let vast = LOADER.load(HOSTILE, r#"{"behaviour": "vast-settings"}"#, &abilities());
    assert!(matches!(vast, Err(LoadError::SettingsTooLarge { size_bytes: 65_537, max_bytes: 65_536 })), "{vast:?}");
}

/// The hostile policy whose `describe` behaves like this.
fn describing(behaviour: &str) -> Vec<u8> {
    let text = |behaviour: &str| format!("{:.<32}", format!("describe:{behaviour}")).into_bytes();
    let (usual, other) = (text("good"), text(behaviour));
    let mut component = HOSTILE.to_vec();
    let places: Vec<_> = (0..component.len() - 32).filter(|at| component[*at..at + 32] == usual).collect();
    assert_eq!((places.len(), other.len()), (1, 32), "{behaviour}");
    component[places[0]..places[0] + 32].copy_from_slice(&other);
    component
}

#[test]
fn a_policy_that_fails_to_describe_itself_is_not_taken() {
    let cases = [
        ("endless-loop", "describe failed"),
        ("memory-bomb", "describe failed"),
        ("trap", "describe failed"),
        ("recursion", "describe failed"),
        ("vast-schema", "describe failed"),
        ("no-name", "the name is empty"),
        ("long-name", "name has 101 bytes; at most 100 are allowed"),
        ("long-version", "version has 101 bytes"),
        ("long-schema", "settings-schema has 65548 bytes; at most 65536 are allowed"),
        ("deep-schema", "settings-schema is not JSON: recursion limit exceeded"),
        ("not-json", "settings-schema is not JSON"),
        ("not-a-schema", "expected an object"),
    ];
    for (behaviour, expected) in cases {
        match loader_of(behaviour).load(&describing(behaviour), "{}", &abilities()) {
            Err(error @ LoadError::Description(_)) => assert!(error.to_string().contains(expected), "{error}"),
            other => panic!("{behaviour}: {other:?}"),
        }
    }
}

#[test]
fn a_description_is_harmless_to_show() {
    let description =
        |component: &[u8]| LOADER.load(component, "{}", &abilities()).unwrap().generation.description().clone();
    let control = description(&describing("control"));
    assert_eq!(control.name, "a\\u{1b}[31mb");
    assert_eq!(control.settings_schema.as_deref(), Some("{\"title\": \"a\\u202eb\"}"));
    let good = description(HOSTILE);
    assert_eq!((good.name.as_str(), good.version.as_str(), good.settings_schema), ("hostile", "", None));
}

/// Asks a host once; gives the lines that were logged and what was counted.
fn asked(behaviour: &str) -> (Vec<String>, TenantStatistics) {
    asked_within(&ENGINE, behaviour, hostile(behaviour))
}

fn asked_within(
    engine: &PolicyEngine,
    behaviour: &str,
    generation: Arc<Generation>,
) -> (Vec<String>, TenantStatistics) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = mpsc::channel();
    let written = Arc::clone(&lines);
    let host = PolicyHost::start(
        engine,
        move |ticket: u32, outcome| drop(sender.send((ticket, outcome))),
        move |line| written.lock().unwrap().push(format!("{} {:?} {}", line.tenant, line.level, line.text)),
    )
    .unwrap();
    host.set_generation(&tenant("example"), generation);
    host.submit(7, arrival_for("example")).unwrap();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(60)).unwrap().0, 7, "{behaviour}");
    let statistics = host.statistics().pop().unwrap();
    drop(host);
    let lines = lines.lock().unwrap().clone();
    (lines, statistics)
}

#[test]
fn log_lines_are_bounded_cut_and_made_harmless() {
    let (lines, statistics) = asked("log-flood");
    assert_eq!(lines.len(), 16);
    assert_eq!(lines[15], "example Info line 15");
    assert_eq!(statistics.dropped_lines, 10_000 - 16);
    let (lines, _) = asked("log-long");
    assert_eq!(lines, [format!("example Warning {}", "x".repeat(512))]);
    let (lines, _) = asked("log-control");
    assert_eq!(lines, ["example Debug a\\u{1b}[31m\\u{d}\\u{a}b\\u{0}c\\u{202e}d"]);
}

#[test]
fn the_text_of_a_discard_is_cut_and_made_harmless() {
    let expected = Answer::Incoming(IncomingAnswer::Discard("\\u{1}".repeat(512)));
    assert_eq!(decide(&hostile("long-discard"), arrival_for("example")), Ok(expected));
}

#[test]
fn failures_are_counted_by_kind_and_said_in_the_tenants_log() {
    let counts = |statistics: &TenantStatistics| {
        let hook = statistics.hooks[0];
        assert_eq!((hook.hook.name(), hook.asked), ("on-incoming", 1));
        [hook.declined, hook.trapped, hook.timed_out, hook.out_of_memory, hook.overloaded, hook.impossible]
    };
    let cases = [
        ("good", 0, [0; 6]),
        ("err", 1, [1, 0, 0, 0, 0, 0]),
        ("trap", 1, [0, 1, 0, 0, 0, 0]),
        ("memory-bomb", 1, [0, 0, 0, 1, 0, 0]),
        ("long-err", 1, [0, 0, 0, 0, 0, 1]),
    ];
    for (behaviour, line_count, expected) in cases {
        let (lines, statistics) = asked(behaviour);
        assert_eq!((lines.len(), counts(&statistics)), (line_count, expected), "{behaviour}");
    }
    let hasty = engine(Duration::from_millis(20), 1);
    let loader = Loader::new(hasty.clone(), None).unwrap();
    let (lines, statistics) = asked_within(&hasty, "endless-loop", hostile_of(&loader, "endless-loop"));
    assert_eq!((lines.len(), counts(&statistics)), (1, [0, 0, 1, 0, 0, 0]));
    assert!(statistics.hooks[0].total_micros >= 20_000, "{statistics:?}");
}
