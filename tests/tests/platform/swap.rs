//! Another policy takes the place of the active one, by command.

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use restante_client::Mode;
use restante_tests::{guest, in_time, setting};
use serde_json::Value;

use crate::commands::{command, done, settings, status};

#[test]
fn a_policy_is_activated_rolled_back_and_found_again_after_a_restart() {
    setting().administered().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        let before = status(world).await;
        assert_eq!((&before["active"]["number"], &before["active"]["origin"]), (&1.into(), &"configuration".into()));
        let since = before["active"]["since"].as_str().unwrap_or_default();
        assert!(since.len() == "2026-11-27T08:21:07Z".len() && since.ends_with('Z'), "{before}");

        let by_session = settings(world, r#"{"available": "session"}"#);
        let said = done(world, &["policy", "activate", "example", &guest("scripted"), "--settings", &by_session]).await;
        assert!(said.contains("is active: generation 2"), "{said}");
        alice.send(bob.address(), "by session").await;
        assert_eq!(bob.received().await.mode, Mode::Push, "the next decision is the new policy's");

        world.until_settled().await;
        world.restart().await;
        let after = status(world).await;
        assert_eq!((&after["active"]["number"], &after["active"]["origin"]), (&2.into(), &"upload".into()));
        assert_eq!(after["active"]["settings"]["available"], "session");
        bob.register().await;
        alice.send(bob.address(), "by session still").await;
        assert_eq!(bob.received().await.mode, Mode::Push);

        done(world, &["policy", "rollback", "example"]).await;
        alice.send(bob.address(), "in page mode").await;
        assert_eq!(bob.received().await.mode, Mode::Page);
        let back = status(world).await;
        assert_eq!((&back["active"]["number"], &back["previous"][0]["number"]), (&1.into(), &2.into()));
        done(world, &["policy", "rollback", "example"]).await;
        assert_eq!(status(world).await["active"]["number"], 2, "back and forth");
        world.until_settled().await;
    });
}

#[test]
fn what_is_refused_says_at_which_step_and_changes_nothing() {
    setting().administered().tell(async |world| {
        let text = world.directory().join("text.wasm");
        std::fs::write(&text, "no component").expect("a file");
        let truncated = world.directory().join("truncated.wasm");
        let whole = std::fs::read(guest("standard")).expect("the standard policy");
        std::fs::write(&truncated, &whole[..whole.len() / 2]).expect("a file");
        let odd = settings(world, r#"{"few": -1, "frobnicate": 1}"#);
        for (arguments, step, said) in [
            (vec![text.display().to_string()], "compile", "not WebAssembly"),
            (vec![truncated.display().to_string()], "compile", "cannot be compiled"),
            (vec![guest("standard"), "--settings".to_owned(), odd], "check-settings", "/few"),
        ] {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let finished = command(world, &[&["policy", "activate", "example"], arguments.as_slice()].concat()).await;
            assert!(!finished.status.success());
            assert!(finished.stderr.contains(step) && finished.stderr.contains(said), "{finished:?}");
        }
        let unknown = command(world, &["policy", "status", "nobody"]).await;
        assert!(unknown.stderr.contains("there is no tenant"), "{unknown:?}");
        let candidate = command(world, &["policy", "activate", "example"]).await;
        assert!(candidate.stderr.contains("there is no candidate"), "{candidate:?}");
        let rollback = command(world, &["policy", "rollback", "example"]).await;
        assert!(rollback.stderr.contains("no such generation"), "{rollback:?}");
        let after = status(world).await;
        assert_eq!((&after["active"]["number"], after["previous"].as_array().map(Vec::len)), (&1.into(), Some(0)));
    });
}

#[test]
fn a_candidate_looks_on_and_then_decides() {
    setting().administered().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        let by_session = settings(world, r#"{"available": "session", "keep_milliseconds": 604800000}"#);
        done(world, &["policy", "try", "example", &guest("scripted"), "--settings", &by_session]).await;
        for text in ["one", "two"] {
            alice.send(bob.address(), text).await;
            assert_eq!(bob.received().await.mode, Mode::Page, "the candidate decides nothing");
            // No question is about both.
            world.until_settled().await;
        }
        let candidate = |status: Value| status["candidate"].clone();
        let comparing = async {
            loop {
                let found = candidate(status(world).await);
                if found["compared"] == 4 {
                    return found;
                }
            }
        };
        let found = in_time("four comparisons", comparing).await;
        assert_eq!(found["agreed"], 2, "of what comes it thinks alike");

        world.restart().await;
        assert_eq!(candidate(status(world).await)["generation"]["number"], 2, "it looks on after a restart");
        bob.register().await;
        done(world, &["policy", "activate", "example"]).await;
        alice.send(bob.address(), "three").await;
        assert_eq!(bob.received().await.mode, Mode::Push);
        assert_eq!(candidate(status(world).await), Value::Null);

        done(world, &["policy", "try", "example", &guest("standard")]).await;
        done(world, &["policy", "drop", "example"]).await;
        assert_eq!(candidate(status(world).await), Value::Null);
        world.until_settled().await;
    });
}

#[test]
fn a_tenant_that_demands_signatures_takes_what_its_signers_signed() {
    // A pair made for this test.
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[42; 32]).expect("a key");
    let public = ring::signature::KeyPair::public_key(&pair).as_ref().to_vec();
    let key = base64(&public);
    setting().administered().tenant(move |tenant| tenant.signers = vec![key]).tell(async |world| {
        let component = guest("scripted");
        let unsigned = command(world, &["policy", "activate", "example", &component]).await;
        assert!(
            unsigned.stderr.contains("signature") && unsigned.stderr.contains("signed policies only"),
            "{unsigned:?}"
        );
        let signature = world.directory().join("scripted.sig");
        let bytes = std::fs::read(&component).expect("the component");
        for (signed, taken) in [(&b"something else"[..], false), (&bytes, true)] {
            std::fs::write(&signature, pair.sign(signed).as_ref()).expect("a signature");
            let path = signature.display().to_string();
            let finished = command(world, &["policy", "activate", "example", &component, "--signature", &path]).await;
            assert_eq!(finished.status.success(), taken, "{finished:?}");
        }
        assert_eq!(status(world).await["active"]["signed"], true);
        world.restart().await;
        assert_eq!(status(world).await["active"]["number"], 2, "its signature is kept with it");
    });
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn what_the_guest_logs_is_shown_harmless() {
    setting().administered().tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        let odd = settings(world, r#"{"behaviour": "log-control"}"#);
        done(world, &["policy", "activate", "example", &guest("hostile"), "--settings", &odd]).await;
        alice.send(bob.address(), "one").await;
        let shown = done(world, &["policy", "log", "example"]).await;
        assert!(shown.contains("debug") && shown.contains("a\\u{1b}[31m"), "{shown}");
        assert!(!shown.contains('\u{1b}'));
        let line = done(world, &["policy", "log", "example", "--json"]).await;
        let line: Value = serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
        let at = line["at"].as_str().unwrap_or_default();
        assert!(at.len() == "2026-11-27T08:21:07.368Z".len() && at.ends_with('Z'), "{line}");
    });
}

#[test]
fn compiled_code_that_was_put_into_the_cache_by_hand_is_not_run() {
    setting().administered().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let cache = world.configuration().data.join("policy-cache");
        let entries = || -> HashSet<PathBuf> {
            std::fs::read_dir(&cache).expect("a cache").map(|it| it.expect("an entry").path()).collect()
        };
        let of_standard = entries();
        let by_session = settings(world, r#"{"available": "session"}"#);
        done(world, &["policy", "activate", "example", &guest("scripted"), "--settings", &by_session]).await;
        let of_scripted: Vec<PathBuf> = entries().difference(&of_standard).cloned().collect();
        assert!(!of_standard.is_empty() && !of_scripted.is_empty(), "{of_standard:?} {of_scripted:?}");
        let place = world.directory().join("by-hand");
        for (forged, content) in [
            ("another policy's", std::fs::read(of_standard.iter().next().expect("one"))),
            ("made up", Ok(vec![0x7f; 100_000])),
        ] {
            for entry in &of_scripted {
                // A new file each, as an attacker would: this process has the old one mapped.
                std::fs::write(&place, content.as_ref().expect("an entry")).expect("a file");
                std::fs::set_permissions(&place, Permissions::from_mode(0o600)).expect("a mode");
                std::fs::rename(&place, entry).expect("an entry replaced");
            }
            world.until_settled().await;
            world.restart().await;
            bob.register().await;
            alice.send(bob.address(), forged).await;
            assert_eq!(bob.received().await.mode, Mode::Push, "{forged}: the scripted policy decides");
            assert_eq!(status(world).await["active"]["number"], 2, "{forged}");
            assert_eq!(entries().len(), of_standard.len() + of_scripted.len(), "{forged}: replaced by what is true");
        }
        world.until_settled().await;
    });
}
