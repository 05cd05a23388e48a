//! The file that a tenant's configuration names is replaced under the running server.

use std::os::unix::fs::symlink;
use std::path::Path;

use restante_client::Mode;
use restante_tests::{Person, World, guest, setting, until};

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
