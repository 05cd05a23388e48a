//! Decisions for somebody outside, who carries them out himself: `POST /tenants/NAME/decide/HOOK`.

use std::process::Command;
use std::sync::mpsc::channel;

use restante_policy::Hook;
use restante_policy::record::typical_question_json;
use restante_tests::{HttpAnswer, PATIENCE, World, run, setting};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const JSON: &str = "application/json";

async fn asked(world: &World, hook: &str, question: &Value) -> HttpAnswer {
    let path = format!("/tenants/example/decide/{hook}");
    world.administer("POST", &path, Some((JSON, &question.to_string()))).await
}

fn read(answer: &HttpAnswer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn typical(hook: Hook) -> Value {
    serde_json::from_str(typical_question_json(hook)).expect("a question")
}

fn hostile(behaviour: &str) -> restante_tests::Setting {
    let settings = format!("behaviour = {behaviour:?}");
    setting().administered().settings(&settings).tenant(|tenant| {
        tenant.policy = restante_policy::hostile::PATH.to_owned();
    })
}

#[test]
fn what_policy_run_says_is_what_the_server_says() {
    setting().administered().tell(async |world| {
        for hook in Hook::ALL {
            let question = typical(hook);
            let file = world.directory().join("question.json");
            std::fs::write(&file, question.to_string()).expect("a file");
            let input = file.display().to_string();
            let ran =
                tokio::task::spawn_blocking(move || run(&["policy", "run", "standard", "--input", &input, "--json"]));
            let ran: Value = serde_json::from_str(&ran.await.expect("it runs").stdout).expect("JSON");
            let answer = asked(world, hook.name(), &question).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let answer = read(&answer);
            assert_eq!((&answer["hook"], &answer["answer"]), (&ran["hook"], &ran["answer"]), "{}", hook.name());
            let series = format!("restante_policy_decisions_total{{tenant=\"example\",hook=\"{}\"}} 1\n", hook.name());
            let metrics = world.administration("/metrics").await.body;
            assert!(metrics.contains(&series), "{series} in {metrics}");
        }
    });
}

#[test]
fn the_tenants_own_settings_decide_and_the_rest_may_be_left_out() {
    setting().administered().settings("few = 1\ndelivery = \"pull\"").tell(async |world| {
        let mut question = typical(Hook::Available);
        question["settings"] = json!({ "delivery": "push" });
        question["context"]["recipient"]["delivery"] = Value::Null;
        for name in ["tenant", "now"] {
            question["context"].as_object_mut().expect("a context").remove(name);
        }
        let answer = asked(world, "on-available", &question).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains("notify"), "{}", answer.body);
    });
}

#[test]
fn what_is_wrong_with_a_question_is_said_with_its_place() {
    setting().administered().tell(async |world| {
        let good = typical(Hook::Incoming);
        let with = |place: &str, value: Value| {
            let mut question = good.clone();
            *question.pointer_mut(place).expect("a place") = value;
            question.to_string()
        };
        let path = "/tenants/example/decide/on-incoming";
        let cases = [
            (path, JSON, "{\"hook\":".to_owned(), 400, "line 1"),
            (path, JSON, "[]".to_owned(), 400, "JSON object"),
            (path, JSON, with("/hook", "on-pull".into()), 400, "hook"),
            (path, JSON, with("/context/tenant", "other".into()), 400, "context.tenant"),
            (path, JSON, with("/input/sender/verification", "hearsay".into()), 400, "input.sender.verification"),
            (path, JSON, with("/context/recipient", json!({})), 400, "context.recipient"),
            (path, "text/plain", good.to_string(), 415, "Content-Type"),
            ("/tenants/example/decide/on-whim", JSON, good.to_string(), 404, "on-whim"),
        ];
        for (path, kind, body, status, text) in cases {
            let answer = world.administer("POST", path, Some((kind, &body))).await;
            assert_eq!(answer.status, status, "{body}: {answer:?}");
            assert!(answer.body.contains(text), "{body}: {answer:?}");
        }
        let mut elsewhere = good.clone();
        elsewhere["context"]["tenant"] = "nobody".into();
        let body = elsewhere.to_string();
        let answer = world.administer("POST", "/tenants/nobody/decide/on-incoming", Some((JSON, &body))).await;
        assert_eq!(answer.status, 404, "{answer:?}");
    });
}

#[test]
fn a_policy_that_does_not_decide_is_said_with_the_reason() {
    for (behaviour, status, undecided) in [
        ("endless-loop", 504, "timed-out"),
        ("trap", 503, "trapped"),
        ("memory-bomb", 503, "out-of-memory"),
        ("err", 503, "declined"),
        ("impossible", 503, "impossible"),
        ("unknown-target", 503, "impossible"),
    ] {
        let patience_milliseconds = if behaviour == "endless-loop" { 200 } else { 10_000 };
        let place = hostile(behaviour).configure(move |it| it.limits.max_decision_milliseconds = patience_milliseconds);
        place.tell(async |world| {
            let answer = asked(world, "on-incoming", &typical(Hook::Incoming)).await;
            assert_eq!(answer.status, status, "{behaviour}: {answer:?}");
            let said = read(&answer);
            assert_eq!(said["undecided"], undecided, "{behaviour}: {answer:?}");
            assert!(said["why"].as_str().is_some_and(|why| !why.is_empty()), "{behaviour}: {answer:?}");
            let metrics = world.administration("/metrics").await.body;
            let counted = format!("hook=\"on-incoming\",reason=\"{undecided}\"}} 1\n");
            assert!(metrics.contains(&counted), "{behaviour}: {metrics}");
        });
    }
}

#[test]
fn a_policy_that_keeps_failing_is_spared_for_outsiders_too() {
    hostile("trap").tell(async |world| {
        let mut said = Vec::new();
        for _ in 0..20 {
            said.push(read(&asked(world, "on-incoming", &typical(Hook::Incoming)).await)["undecided"].clone());
        }
        // It is tried again after a second, which on a busy machine may have passed.
        assert!(said[5..].iter().any(|undecided| undecided == "suspended"), "{said:?}");
    });
}

#[test]
fn what_fails_at_outsiders_questions_is_asked_the_servers_own() {
    hostile("trap").tell(async |world| {
        for _ in 0..20 {
            asked(world, "on-incoming", &typical(Hook::Incoming)).await;
        }
        let alice = world.person("alice").await;
        alice.send("sip:bob@example.org", "kept by the fallback").await;
        let fallbacks = |reason: &str| world.metric("restante_policy_fallbacks_total", &["on-incoming", reason]);
        assert_eq!((fallbacks("trapped"), fallbacks("suspended")), (1, 0));
    });
}

#[test]
fn questions_are_answered_while_the_disk_keeps_an_upload_waiting() {
    setting().administered().tell(async |world| {
        let component = "a component";
        let digest: String = Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect();
        let file = world.configuration().data.join(format!("policies/components/{digest}.unfinished"));
        // Who opens it to write waits for somebody who reads.
        assert!(Command::new("mkfifo").arg(&file).status().expect("mkfifo(1) runs").success());
        let ((answered, are_answered), (telling, told)) = (channel(), channel());
        std::thread::spawn(move || {
            // Not for ever: it may be the server's own thread that waits.
            let _ = telling.send(are_answered.recv_timeout(PATIENCE / 2).is_ok());
            std::fs::read(file)
        });
        let question = typical(Hook::Incoming);
        let questions = async {
            for _ in 0..50 {
                assert_eq!(asked(world, "on-incoming", &question).await.status, 200);
            }
            answered.send(()).expect("who reads");
        };
        tokio::join!(world.administer("POST", "/components", Some(("application/wasm", component))), questions);
        assert!(told.recv().expect("who reads"), "the questions waited for the disk");
    });
}
