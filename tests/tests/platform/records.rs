//! Decisions are recorded, decided again, and held against as cases; what a candidate would change is seen before.

use restante_tests::{World, guest, in_time, setting, until};
use serde_json::Value;

use crate::commands::{command, done, settings, status};

/// How many decisions were recorded.
async fn recorded(world: &World) -> u64 {
    status(world).await["recording"]["recorded"].as_u64().unwrap_or(0)
}

async fn until_recorded(world: &World, count: u64) {
    let recording = async { while recorded(world).await < count {} };
    in_time(&format!("{count} records"), recording).await;
}

/// `restante policy get`, into a file.
async fn get_records(world: &World, name: &str) -> (String, String) {
    let text = done(world, &["policy", "record", "get", "example"]).await;
    let path = world.directory().join(name);
    std::fs::write(&path, &text).expect("records");
    (path.display().to_string(), text)
}

#[test]
fn what_was_recorded_is_decided_again_to_the_same_answers_and_shadow_shows_what_another_policy_changes() {
    setting().administered().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let quota = settings(world, r#"{"recipient_quota": {"messages": 2}, "few": 1}"#);
        done(world, &["policy", "try", "example", "standard", "--settings", &quota]).await;
        done(world, &["policy", "record", "on", "example"]).await;
        for text in ["one", "two", "three"] {
            alice.send(bob.address(), text).await;
        }
        bob.register().await;
        assert_eq!(bob.texts(3).await, ["one", "two", "three"]);
        world.until_settled().await;
        until_recorded(world, 4).await;
        // A decision is compared after it was recorded.
        let comparing = async { while status(world).await["candidate"]["compared"].as_u64().unwrap_or(0) < 4 {} };
        in_time("four comparisons", comparing).await;
        let (records, text) = get_records(world, "records.jsonl").await;
        for name in ["alice", "bob", "example.org"] {
            assert!(!text.contains(name), "{name} is in {text}");
        }

        let same = command(world, &["policy", "replay", &records, "--policy", "standard", "--json"]).await;
        assert!(same.status.success(), "{same:?}");
        let same: Value = serde_json::from_str(&same.stdout).expect("JSON");
        assert_eq!((&same["total"]["changed"], &same["total"]["not_comparable"]), (&0.into(), &0.into()));
        assert_eq!(same["cost"]["recorded"], same["cost"]["now"], "to the instruction");

        let changed =
            command(world, &["policy", "replay", &records, "--policy", "standard", "--settings", &quota, "--json"])
                .await;
        assert_eq!(changed.status.code(), Some(1), "{changed:?}");
        let changed: Value = serde_json::from_str(&changed.stdout).expect("JSON");
        let shadow: Value =
            serde_json::from_str(&done(world, &["policy", "shadow", "example", "--json"]).await).expect("JSON");
        let groups = |report: &Value| -> Vec<(String, String, u64)> {
            let groups = report["groups"].as_array().expect("groups").iter();
            let text = |group: &Value, key: &str| group[key].as_str().unwrap_or_default().to_owned();
            groups.map(|it| (text(it, "hook"), text(it, "change"), it["count"].as_u64().unwrap_or(0))).collect()
        };
        assert_eq!(groups(&shadow), groups(&changed), "shadow had shown it");
        assert!(groups(&shadow).iter().any(|(hook, change, _)| hook == "on-incoming" && change.contains("reject 403")));
        let shown = done(world, &["policy", "shadow", "example"]).await;
        assert!(shown.contains("sip:bob@example.org") && shown.contains("reject 403"), "{shown}");
    });
}

#[test]
fn a_policy_that_fails_the_tenants_cases_is_not_activated() {
    setting().administered().tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        done(world, &["policy", "record", "on", "example", "--plain-addresses"]).await;
        alice.send(bob.address(), "one").await;
        until_recorded(world, 1).await;
        let (records, text) = get_records(world, "cases.jsonl").await;
        assert!(text.contains("sip:bob@example.org"), "as was asked: {text}");
        done(world, &["policy", "record", "off", "example"]).await;
        done(world, &["policy", "cases", "example", &records]).await;

        let refused = command(world, &["policy", "activate", "example", &guest("scripted")]).await;
        assert!(!refused.status.success() && refused.stderr.contains("cases: 1 of 1 failed"), "{refused:?}");
        assert_eq!(status(world).await["active"]["number"], 1);
        let few = settings(world, r#"{"few": 2}"#);
        done(world, &["policy", "activate", "example", "standard", "--settings", &few]).await;
        let broken = world.directory().join("broken.jsonl");
        std::fs::write(&broken, "{\"hook\": \"on-tuesday\"}\n").expect("cases");
        let refused = command(world, &["policy", "cases", "example", &broken.display().to_string()]).await;
        assert!(!refused.status.success(), "{refused:?}");
        let removed = done(world, &["policy", "cases", "example", "--remove"]).await;
        assert_eq!(removed, "example: the cases are removed\n");
        done(world, &["policy", "activate", "example", &guest("scripted")]).await;
    });
}

#[test]
fn records_stay_within_their_bound_and_outlive_a_restart() {
    setting().administered().tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        done(world, &["policy", "record", "on", "example", "--max-bytes", "65536"]).await;
        let files = |world: &World| {
            let directory = world.configuration().data.join("policies/records/example");
            let entries = std::fs::read_dir(directory).expect("records");
            // A file that takes the place of another may be gone again.
            entries.filter_map(|it| Some(it.ok()?.metadata().ok()?.len())).collect::<Vec<_>>()
        };
        for number in 0..80 {
            alice.send(bob.address(), &format!("text {number}")).await;
        }
        until("all is recorded or left out", || files(world).len() == 2).await;
        assert!(files(world).iter().all(|length| *length <= 32_768), "{:?}", files(world));
        world.restart().await;
        assert_eq!(status(world).await["recording"]["settings"]["max_bytes"], 65_536);
        alice.send(bob.address(), "after").await;
        until_recorded(world, 1).await;
        let sampled = done(world, &["policy", "record", "on", "example", "--sample", "0"]).await;
        assert_eq!(sampled, "example: decisions are recorded from now on\n");
    });
}

#[test]
fn what_was_recorded_is_fetched_whatever_its_length_and_removed() {
    setting().administered().tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        done(world, &["policy", "record", "on", "example", "--max-bytes", "200000000"]).await;
        let directory = world.configuration().data.join("policies/records/example");
        // More than an answer that is held in memory may have, and a line that a full disk cut.
        let line = format!("{}\n", "x".repeat((1 << 20) - 1));
        let full = line.repeat(65);
        std::fs::write(directory.join("records.1.jsonl"), &full).expect("records");
        std::fs::write(directory.join("records.jsonl"), "torn").expect("records");
        assert_eq!(done(world, &["policy", "record", "get", "example"]).await.len(), full.len());
        alice.send(bob.address(), "one").await;
        until_recorded(world, 1).await;
        let all = done(world, &["policy", "record", "get", "example"]).await;
        let record: Value = serde_json::from_str(&all[full.len()..]).expect("one whole record");
        assert_eq!(record["hook"], "on-incoming");
        let shown = done(world, &["policy", "status", "example"]).await;
        assert!(
            shown.contains("1000 of 1000 decisions are recorded, with pseudonyms: 1 were, 0 were left out."),
            "{shown}"
        );

        done(world, &["policy", "record", "delete", "example"]).await;
        assert_eq!(done(world, &["policy", "record", "get", "example"]).await, "");
        alice.send(bob.address(), "two").await;
        until_recorded(world, 2).await;
        assert_eq!(done(world, &["policy", "record", "get", "example"]).await.lines().count(), 1, "it goes on");
    });
}

#[test]
fn recording_that_would_record_nothing_is_refused() {
    setting().administered().tell(async |world| {
        let refused = command(world, &["policy", "record", "on", "example", "--sample", "0.0004"]).await;
        assert!(!refused.status.success() && refused.stderr.contains("from 0.001 to 1"), "{refused:?}");
        std::fs::write(world.configuration().data.join("policies/records/example"), "in the way").expect("a file");
        let refused = command(world, &["policy", "record", "on", "example"]).await;
        assert!(!refused.status.success() && refused.stderr.contains("exists"), "{refused:?}");
        assert_eq!(status(world).await["recording"], Value::Null);
    });
}
