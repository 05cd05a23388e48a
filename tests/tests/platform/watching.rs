//! The file that a tenant's configuration names is replaced under the running server.

use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine as _;
use restante_client::Mode;
use restante_tests::{Person, World, guest, in_time, metric_in, setting, until};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

async fn comes_in(world: &World, alice: &Person, bob: &mut Person, expected: Mode) {
    alice.send(bob.address(), "text").await;
    assert_eq!(bob.received().await.mode, expected);
    world.until_settled().await;
}

/// How often the tenant's policy changed.
fn generation(world: &World) -> u64 {
    let policies = world.shared().policies().expect("policies");
    policies.status(&world.recipient("sip:bob@example.org").tenant).expect("a status").active.number
}

/// Whole at once, as a deployment does.
fn replace(path: &Path, by: &str) {
    let beside = path.with_extension("new");
    std::fs::copy(by, &beside).expect("a copy");
    std::fs::rename(&beside, path).expect("a rename");
}

#[test]
fn a_file_that_is_replaced_or_behind_a_link_that_turns_is_activated() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().to_owned();
    for release in ["1", "2"] {
        std::fs::create_dir(root.join(release)).expect("a directory");
    }
    std::fs::copy(guest("standard"), root.join("1/policy.wasm")).expect("a policy");
    std::fs::copy(guest("scripted"), root.join("2/policy.wasm")).expect("a policy");
    symlink("1", root.join("current")).expect("a link");
    let file = root.join("current/policy.wasm");
    let policy = file.display().to_string();
    setting().tenant(move |tenant| tenant.policy = policy).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        comes_in(world, &alice, &mut bob, Mode::Page).await;

        symlink("2", root.join("next")).expect("a link");
        std::fs::rename(root.join("next"), root.join("current")).expect("the link turns");
        until("the link is followed", || generation(world) == 2).await;
        comes_in(world, &alice, &mut bob, Mode::Page).await;

        std::fs::write(&file, "broken").expect("a broken file");
        std::fs::write(root.join("2/other"), "not the policy").expect("another file");
        comes_in(world, &alice, &mut bob, Mode::Page).await;
        replace(&file, &guest("standard"));
        until("the file is taken", || generation(world) == 3).await;
        comes_in(world, &alice, &mut bob, Mode::Page).await;
    });
}

#[test]
fn a_component_that_is_signed_anew_decides_with_its_new_signature() {
    // Pairs made for this test.
    let pairs = [43, 44].map(|seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a key"));
    let key = |pair: &Ed25519KeyPair| base64::engine::general_purpose::STANDARD.encode(pair.public_key());
    let keys = pairs.each_ref().map(key);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("policy.wasm");
    std::fs::copy(guest("scripted"), &file).expect("a policy");
    let component = std::fs::read(&file).expect("the policy");
    let sign = |pair: &Ed25519KeyPair| {
        std::fs::write(directory.path().join("policy.wasm.sig"), pair.sign(&component)).expect("a signature");
    };
    let policy = file.display().to_string();
    setting().tenant(move |tenant| tenant.policy = policy).tell(async |world| {
        assert_eq!(generation(world), 1, "nobody has to sign");
        sign(&pairs[0]);
        let both = keys.to_vec();
        world.restart_with(|it| it.tenants.get_mut("example").expect("a tenant").signers = both).await;
        assert_eq!(generation(world), 2, "taken at the start");
        sign(&pairs[1]);
        until("the new signature is taken", || generation(world) == 3).await;
        let second = keys[1..].to_vec();
        world.restart_with(|it| it.tenants.get_mut("example").expect("a tenant").signers = second).await;
        assert_eq!(generation(world), 3, "it is kept with the new signature");
    });
}

#[test]
fn what_came_to_decide_and_what_was_refused_is_said_and_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("policy.wasm");
    std::fs::copy(guest("standard"), &file).expect("a policy");
    let policy = file.display().to_string();
    setting().administered().tenant(move |tenant| tenant.policy = policy).tell(async |world| {
        let counted = async |name: &str, labels: &[&str]| {
            metric_in(&world.administration("/metrics").await.body, &format!("restante_policy_{name}"), labels)
        };
        assert_eq!(counted("generation", &["tenant=\"example\""]).await, 1);
        replace(&file, &guest("scripted"));
        until("the file is taken", || generation(world) == 2).await;
        assert_eq!(counted("generation", &["tenant=\"example\""]).await, 2);
        // It is counted a moment after it decides.
        let counting = async { while counted("activations_total", &["outcome=\"activated\""]).await != 1 {} };
        in_time("one activation", counting).await;
        std::fs::write(&file, "broken").expect("a broken file");
        let policies = world.shared().policies().expect("policies");
        until("the file is refused", || policies.activations()[0].refused >= 1).await;
        let refused = counted("activations_total", &["outcome=\"refused\""]).await;
        let none = world.command(&["policy", "rollback", "example", "7"]).await;
        assert!(!none.status.success(), "{none:?}");
        assert!(counted("activations_total", &["outcome=\"refused\""]).await > refused);
    });
}
