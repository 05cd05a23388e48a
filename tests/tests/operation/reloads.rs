//! What becomes of a tenant's policy when its configuration is read again, and when the server starts with another one.

use restante_tests::{Program, guest, http_request, setting};
use serde_json::Value;

fn active_generation(program: &Program) -> u64 {
    let shown = program.ask(&["policy", "status", "example", "--json"]);
    let status: Value = serde_json::from_str(&shown.stdout).unwrap_or_else(|error| panic!("{error}: {shown:?}"));
    status["active"]["number"].as_u64().expect("a number")
}

#[tokio::test]
async fn a_reload_that_the_active_policy_cannot_go_on_under_is_refused_and_a_start_goes_back() {
    let program = Program::new("[tenants.example]\ndomains = [\"example.org\"]\n");
    let base = std::fs::read_to_string(program.configuration_file()).expect("the configuration");
    let served = program.serve().await;
    let activated = program.ask(&["policy", "activate", "example", &guest("scripted")]);
    assert!(activated.status.success(), "{activated:?}");
    // The generation before needs no signature.
    program.configure(&format!("{base}signers = [\"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\"]\n"));
    let said = program.ask(&["tenant", "reload"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stderr.contains("tenants.example") && said.stderr.contains("signed policies only"), "{said:?}");
    assert_eq!(active_generation(&program), 2);
    served.kill();
    // Who starts has nobody to ask, and something has to decide.
    let served = program.serve().await;
    assert!(served.log().iter().any(|line| line.contains("a generation cannot be restored")), "{:#?}", served.log());
    assert_eq!(active_generation(&program), 1);
    served.kill();
    program.configure(&base);
    let served = program.serve().await;
    assert_eq!(active_generation(&program), 1, "it was kept");
    drop(served);
}

#[tokio::test]
async fn a_reload_says_which_policies_are_others_and_the_log_why() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("policy.wasm");
    std::fs::copy(guest("standard"), &file).expect("a policy");
    let program = Program::new(&format!("[tenants.example]\ndomains = [\"example.org\"]\npolicy = {file:?}\n"));
    let mut served = program.serve().await;
    // By the reload or by whoever watches the file, whichever comes first.
    let beside = place.path().join("new");
    std::fs::copy(guest("scripted"), &beside).expect("a policy");
    std::fs::rename(&beside, &file).expect("a rename");
    let said = program.ask(&["tenant", "reload"]);
    let line = served.line_with("policy generation activated").await;
    assert!(line.contains("scripted") && line.contains('2'), "{line}");
    // Who watches the file may be done before the reload begins, or while it runs.
    let is_told = said.stdout == "example: policy generation 2 is active\n";
    let was_before = !line.contains("the configuration names it") && said.stdout == "no tenant changed\n";
    assert!(is_told || was_before, "{said:?} {line}");
    let metrics = http_request(&program.data().join("admin.sock"), "GET", "/metrics", None).await.body;
    assert!(metrics.contains("restante_reloads_total{outcome=\"taken\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_configured_policy_that_cannot_be_used_is_refused_where_it_is_new_and_else_said_in_the_log() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name).display().to_string();
    for (guest_name, name) in [("standard", "v1.wasm"), ("scripted", "v2.wasm")] {
        std::fs::copy(guest(guest_name), path(name)).expect("a policy");
    }
    std::fs::write(path("v2.wasm.sig"), "short").expect("a file");
    let program =
        Program::new(&format!("[tenants.example]\ndomains = [\"example.org\"]\npolicy = {:?}\n", path("v1.wasm")));
    let base = std::fs::read_to_string(program.configuration_file()).expect("the configuration");
    let mut served = program.serve().await;
    program.configure(&base.replace("v1.wasm", "v2.wasm"));
    let said = program.ask(&["tenant", "reload"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stderr.contains("v2.wasm.sig: expected an ed25519 signature"), "{said:?}");

    program.configure(&base);
    std::fs::write(path("v1.wasm.sig"), "short").expect("a file");
    let said = program.ask(&["tenant", "reload"]);
    assert!(said.status.success(), "it decides already: {said:?}");
    served.line_with("the configured policy cannot be read").await;
    served.kill();
    let served = program.serve().await;
    assert!(
        served.log().iter().any(|line| line.contains("the configured policy cannot be activated")),
        "{:#?}",
        served.log()
    );
    assert_eq!(active_generation(&program), 1);
    drop(served);
}

#[test]
fn what_was_activated_for_a_tenant_that_was_removed_is_said_when_its_name_returns_and_can_be_forgotten() {
    setting().administered().tell(async |world| {
        let file = world.directory().join("school.toml").display().to_string();
        std::fs::write(&file, "[tenants.school]\ndomains = [\"school.example\"]\n").expect("a file");
        let add = async || world.command(&["tenant", "add", &file]).await.stdout;
        assert_eq!(add().await, "added school\n");
        let activated = world.command(&["policy", "activate", "school", &guest("scripted")]).await;
        assert!(activated.status.success(), "{activated:?}");
        let row = async || {
            let listed = world.command(&["tenant", "list"]).await.stdout;
            listed.lines().find(|line| line.starts_with("school")).unwrap_or_default().to_owned()
        };
        assert!(row().await.contains("scripted 2, by command"), "{}", row().await);
        assert!(world.command(&["tenant", "remove", "school"]).await.status.success());
        let returned = add().await;
        assert!(
            returned.contains("school: generation 2 is active again, scripted, which was activated by command"),
            "{returned}"
        );
        assert!(world.command(&["tenant", "remove", "school"]).await.status.success());
        // It is gone already.
        let purged = world.command(&["tenant", "remove", "school", "--purge"]).await;
        assert!(purged.status.success(), "{purged:?}");
        assert_eq!(add().await, "added school\n");
        assert!(row().await.contains("standard 1 "), "{}", row().await);
        let of_file = world.command(&["tenant", "remove", "example", "--purge"]).await;
        assert!(
            !of_file.status.success() && of_file.stderr.contains("expected that it is removed there"),
            "{of_file:?}"
        );
    });
}
