//! Tenants that come, change and go while the server runs.

use std::cell::Cell;
use std::process::Command;

use restante::configuration::{Tenant, TenantLimits};
use restante_client::{Client, ClientConfiguration, LargeMessage, PageMessage, Source};
use restante_deferral::commit::{Change, Transaction};
use restante_deferral::model::{CanonicalAddress, RecipientKey, TenantName, Timestamp};
use restante_sip::message::{Method, Name};
use restante_store::Ticket;
use restante_tests::{Person, Program, Recorder, Served, World, pattern, setting, until, until_equal};
use serde_json::Value;

const SCHOOL: &str = "domains = [\"school.example\"]\ntrust = [\"127.0.0.0/8\"]\n";
const TOML: &str = "application/toml";

async fn put(world: &World, name: &str, toml: &str) -> (u16, String) {
    let answer = world.administer("PUT", &format!("/tenants/{name}"), Some((TOML, toml))).await;
    (answer.status, answer.body)
}

/// How many messages the server says are stored for a tenant, which may be a moment behind the queue.
fn stored_of(world: &World, tenant: &str) -> u32 {
    world.shared().store.tenant_totals(&TenantName(tenant.into())).messages
}

async fn status_for(world: &World, to: &str) -> Option<u16> {
    let mut somebody = world.udp().await;
    let message = somebody.request("MESSAGE", to).text("a text");
    somebody.ask(&message).await.status()
}

#[test]
fn a_tenant_comes_changes_and_goes_while_anothers_messages_flow() {
    setting().administered().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let mut dora = world.person("sip:dora@school.example").await;
        bob.register().await;
        let (is_over, sent) = (Cell::new(false), Cell::new(0));
        let flow = async {
            while !is_over.get() {
                alice.send("sip:bob@example.org", &format!("{}", sent.get())).await;
                sent.set(sent.get() + 1);
            }
        };
        let changes = async {
            let some_more = async || {
                let before = sent.get();
                until("messages flow", || sent.get() > before + 3).await;
            };
            assert_eq!(status_for(world, dora.address()).await, Some(404));
            assert_eq!(put(world, "school", SCHOOL).await.0, 201);
            assert_eq!(status_for(world, dora.address()).await, Some(202));
            some_more().await;
            dora.register().await;
            assert_eq!(dora.texts(1).await, ["a text"]);
            // Another domain, and other settings of its policy.
            let changed = format!("{}[settings]\nfew = 0\n", SCHOOL.replace("[\"school", "[\"s.example\", \"school"));
            assert_eq!(put(world, "school", &changed).await.0, 200);
            assert_eq!(status_for(world, "sip:erik@s.example").await, Some(202));
            assert_eq!(status_for(world, dora.address()).await, Some(202));
            assert_eq!(dora.received().await.mode, restante_client::Mode::Push, "few = 0");
            some_more().await;
            // What she has may be in the store for a moment more.
            until_equal("messages of the school", 1, || stored_of(world, "school")).await;
            let removed = world.command(&["tenant", "remove", "school"]).await;
            assert_eq!(removed.stdout, "removed school; 1 message (6 bytes) kept\n", "{removed:?}");
            assert_eq!(status_for(world, dora.address()).await, Some(404));
            assert_eq!(status_for(world, "sip:erik@s.example").await, Some(404));
            some_more().await;
            is_over.set(true);
        };
        tokio::join!(flow, changes);
        let texts = bob.texts(sent.get()).await;
        assert!(texts.iter().enumerate().all(|(number, text)| *text == number.to_string()), "{texts:?}");
        assert_eq!(world.metric("restante_policy_fallbacks_total", &[]), 0);
    });
}

#[test]
fn what_is_stored_for_a_tenant_outlives_it_and_comes_back_with_it() {
    // Nothing goes out between the registration and the end of the tenant.
    let place = setting().administered().configure(|it| it.limits.registration_delay_milliseconds = 20_000);
    place.tell(async |world| {
        let mut dora = world.person("sip:dora@school.example").await;
        assert_eq!(put(world, "school", SCHOOL).await.0, 201);
        for _ in 0..3 {
            assert_eq!(status_for(world, dora.address()).await, Some(202));
        }
        dora.register().await;
        let removed = world.administer("DELETE", "/tenants/school", None).await;
        assert_eq!(removed.body, "{\"stored_messages\":3,\"stored_bytes\":18}", "{removed:?}");
        for is_restarted in [false, true] {
            if is_restarted {
                world.restart().await;
            }
            let listed = world.json(&["queue", "list", "--tenant", "school"]).await;
            assert_eq!(listed["messages"].as_array().map(Vec::len), Some(3), "{listed}");
            assert_eq!(status_for(world, dora.address()).await, Some(404));
            let metrics = world.administration("/metrics").await.body;
            assert_eq!(restante_tests::metric_in(&metrics, "restante_messages_waiting", &[]), 3, "it takes room still");
        }
        let unknown = world.command(&["queue", "discard", "--to", "sip:dora@school.example"]).await;
        assert!(unknown.stderr.contains("is not a user of any tenant"), "{unknown:?}");
        let first = world.queue()[0].id.0.to_string();
        assert_eq!(world.json(&["queue", "discard", &first]).await["messages"], 1);
        world.until_waiting(2).await;

        assert_eq!(put(world, "school", SCHOOL).await.0, 201);
        assert_eq!(dora.texts(2).await, ["a text", "a text"], "she is still registered");
        world.until_settled().await;

        dora.unregister().await;
        assert_eq!(status_for(world, dora.address()).await, Some(202));
        assert_eq!(world.administer("DELETE", "/tenants/school", None).await.status, 200);
        let of_hers = ["queue", "discard", "--to", "sip:dora@school.example", "--tenant", "school"];
        assert_eq!(world.command(&of_hers).await.stdout, "1 message discarded\n");
        world.until_waiting(0).await;
    });
}

#[test]
fn alarms_of_a_tenant_that_is_gone_do_not_stand_before_others() {
    setting().tell(async |world| {
        let recipient = RecipientKey {
            tenant: TenantName("gone".into()),
            address: CanonicalAddress("sip:dora@school.example".into()),
        };
        let store = world.shared().store.clone();
        let wake = Change::WakeAt { recipient: recipient.clone(), at: Some(Timestamp(1)) };
        store
            .write(Ticket { shard: 0, token: 0 }, Transaction { changes: vec![wake], settles: true })
            .expect("an order");
        let alarms = |at: u64| store.due(Timestamp(at), 10).expect("alarms");
        until("it is there", || alarms(u64::MAX / 2).contains(&recipient)).await;
        until("it is postponed", || alarms(1_000).is_empty()).await;
        assert!(alarms(u64::MAX / 2).contains(&recipient), "and not forgotten");
    });
}

#[test]
fn what_waits_under_a_tenants_old_name_is_discarded_and_nothing_of_its_new_one() {
    setting().administered().tell(async |world| {
        let dora = "sip:dora@school.example";
        assert_eq!(put(world, "school", SCHOOL).await.0, 201);
        assert_eq!(status_for(world, dora).await, Some(202));
        assert_eq!(world.administer("DELETE", "/tenants/school", None).await.status, 200);
        assert_eq!(put(world, "academy", SCHOOL).await.0, 201);
        for _ in 0..2 {
            assert_eq!(status_for(world, dora).await, Some(202));
        }
        let of = async |world: &World, command: &[&str], tenant: &str| {
            world.json(&[command, &["--to", dora, "--tenant", tenant]].concat()).await["messages"].clone()
        };
        for (tenant, count) in [("school", 1), ("academy", 2), ("nobody", 0)] {
            let listed = of(world, &["queue", "list"], tenant).await;
            assert_eq!(listed.as_array().map(Vec::len), Some(count), "{tenant}: {listed}");
        }
        assert_eq!(of(world, &["queue", "discard"], "school").await, 1);
        world.until_waiting(2).await;
        assert!(world.queue().iter().all(|it| &*it.message.recipient.tenant.0 == "academy"));
        assert_eq!(of(world, &["queue", "discard"], "academy").await, 2);
        world.until_waiting(0).await;
    });
}

#[test]
fn what_cannot_be_is_refused_with_what_was_expected_and_changes_nothing() {
    let place = setting().administered().tenant(|it| it.numbers = vec!["+1555".to_owned()]);
    place.tell(async |world| {
        assert_eq!(put(world, "school", SCHOOL).await.0, 201);
        let cases = [
            ("other", "domains = \"x\"\n", 400, "line 1, column 11"),
            ("other", "domains = [\"x.example\"]\nfoo = 1\n", 400, "unknown field `foo`, expected one of"),
            ("other", "domains = []\n", 400, "expected at least one domain"),
            ("other", "domains = [\"x.example\"]\npolicy = \"/etc/passwd\"\n", 400, "expected \\\"standard\\\""),
            (
                "other",
                "domains = [\"x.example\"]\n[settings]\nfew = \"x\"\n",
                400,
                "line 3, column 7: tenants.other.settings.few",
            ),
            ("other", "domains = [\"x.example\"]\n[limits]\nmax_sessions = 0\n", 400, "from 1 to"),
            ("other", "domains = [\"School.Example\"]\n", 409, "already belongs to tenants.school"),
            ("other", "domains = [\"x.example\"]\nnumbers = [\"+1555\"]\n", 409, "already belongs to tenants.example"),
            (
                "other",
                "domains = [\"x.example\"]\n[aliases]\n\"sip:a@example.org\" = \"sip:b@x.example\"\n",
                409,
                "belongs to tenant example",
            ),
            ("example", SCHOOL, 409, "is in the configuration: expected another name"),
            ("a%20b", SCHOOL, 400, "letters, digits, - and _"),
        ];
        for (name, toml, status, expected) in cases {
            let (said, body) = put(world, name, toml).await;
            assert!(said == status && body.contains(expected), "{toml}: {said} {body}");
        }
        let json = "{\"domains\": [\"x.example\"], \"limits\": {\"max_sessions\": true}}";
        let answer = world.administer("PUT", "/tenants/other", Some(("application/json", json))).await;
        assert!(answer.status == 400 && answer.body.contains("column"), "{answer:?}");
        let answer = world.administer("PUT", "/tenants/other", Some(("text/plain", SCHOOL))).await;
        assert!(answer.status == 415 && answer.body.contains("expected application/toml"), "{answer:?}");
        for (path, status) in [("/tenants/nobody", 404), ("/tenants/example", 409)] {
            assert_eq!(world.administer("DELETE", path, None).await.status, status, "{path}");
        }
        assert_eq!(world.administer("GET", "/tenants/nobody", None).await.status, 404);
        let answer = world.administer("POST", "/reload", None).await;
        assert!(answer.status == 409 && answer.body.contains("--config FILE"), "{answer:?}");

        let listed = world.json(&["tenant", "list"]).await;
        let names: Vec<&Value> = listed["tenants"].as_array().expect("tenants").iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["example", "school"]);
        assert_eq!(status_for(world, "sip:dora@school.example").await, Some(202));
    });
}

#[test]
fn a_tenant_that_returns_is_held_to_what_a_new_one_is() {
    setting().administered().tell(async |world| {
        assert_eq!(put(world, "school", SCHOOL).await.0, 201);
        assert_eq!(world.administer("DELETE", "/tenants/school", None).await.status, 200);
        let (status, body) = put(world, "school", &format!("{SCHOOL}[settings]\nfew = \"x\"\n")).await;
        assert!(status == 400 && body.contains("tenants.school.settings.few"), "{status} {body}");
        assert_eq!(status_for(world, "sip:dora@school.example").await, Some(404));
        assert_eq!(put(world, "school", SCHOOL).await.0, 201);
        assert_eq!(status_for(world, "sip:dora@school.example").await, Some(202));
    });
}

#[test]
fn a_policy_that_the_disk_refuses_changes_nothing() {
    setting().administered().tell(async |world| {
        assert_eq!(put(world, "school", SCHOOL).await.0, 201);
        let state = world.configuration().data.join("policies/tenants/school.json");
        std::fs::remove_file(&state).expect("a state");
        std::fs::create_dir(&state).expect("a directory in its place");
        let changed = format!("{SCHOOL}[settings]\nfew = 7\n");
        let (status, body) = put(world, "school", &changed).await;
        assert!(status == 500 && body.contains("could not be saved"), "{status} {body}");
        let shown = world.json(&["tenant", "show", "school"]).await;
        assert_eq!(shown["configuration"]["settings"]["few"], Value::Null, "{shown}");
        let policy = world.json(&["policy", "status", "school"]).await;
        assert_eq!(policy["active"]["settings"]["few"], Value::Null, "{policy}");
        std::fs::remove_dir(&state).expect("it is empty");
        assert_eq!(put(world, "school", &changed).await.0, 200);
        let policy = world.json(&["policy", "status", "school"]).await;
        assert_eq!(policy["active"]["settings"]["few"], 7, "{policy}");
    });
}

#[test]
fn tenants_are_listed_shown_and_added_from_files() {
    setting().administered().tell(async |world| {
        let file = world.directory().join("tenants.toml");
        let path = file.display().to_string();
        let add = async |text: &str| {
            std::fs::write(&file, text).expect("a file");
            world.command(&["tenant", "add", &path]).await
        };
        let text = "[tenants.school]\ndomains = [\"school.example\"]\n[tenants.school.settings]\nfew = 7\n\
                    [tenants.firm]\ndomains = [\"firm.example\"]\nnumbers = [\"+4930\"]\n\
                    [tenants.firm.limits]\nmax_sessions = 5\n";
        assert_eq!(add(text).await.stdout, "added firm\nadded school\n");
        assert_eq!(add(text).await.stdout, "changed firm\nchanged school\n");
        let broken = add("[tenants.x]\ndomains = [\"x.example\"]\n[tenants.x.limits]\nsessions = 5\n").await;
        assert_eq!(broken.status.code(), Some(1));
        assert!(broken.stderr.contains(&path) && broken.stderr.contains("line 4, column 1"), "{broken:?}");
        let list = world.command(&["tenant", "list"]).await.stdout;
        let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0][..3], ["tenant", "from", "domains"]);
        assert_eq!(rows[1][..3], ["example", "file", "example.org"]);
        assert_eq!(rows[2][..4], ["firm", "added", "firm.example,", "+4930"]);
        let shown = world.json(&["tenant", "show", "firm"]).await;
        assert_eq!((&shown["configuration"]["limits"]["max_sessions"], &shown["source"]), (&5.into(), &"added".into()));
        let shown = world.command(&["tenant", "show", "school"]).await.stdout;
        assert!(shown.contains("tenant:    school (added)") && shown.contains("few = 7"), "{shown}");
        world.restart().await;
        let shown = world.json(&["tenant", "show", "school"]).await;
        assert_eq!(shown["configuration"]["settings"]["few"], 7, "it is kept");
        assert_eq!(status_for(world, "sip:somebody@firm.example").await, Some(403), "it trusts nobody");
    });
}

#[test]
fn a_kept_tenant_that_cannot_be_any_more_is_left_out_and_the_others_serve() {
    setting().administered().tell(async |world| {
        for name in ["good", "shadowed", "claimed"] {
            assert_eq!(put(world, name, &SCHOOL.replace("school", name)).await.0, 201);
        }
        let kept = world.configuration().data.join("tenants");
        std::fs::write(kept.join("damaged.toml"), "domains = [").expect("a file");
        world
            .restart_with(|it| {
                let tenant = |domain: &str| Tenant { domains: vec![domain.to_owned()], ..Tenant::example() };
                it.tenants.insert("shadowed".to_owned(), tenant("of-file.example"));
                it.tenants.insert("other".to_owned(), tenant("claimed.example"));
            })
            .await;
        let listed = world.json(&["tenant", "list"]).await;
        let tenants = listed["tenants"].as_array().expect("tenants").clone();
        let of = |source: &str| -> Vec<String> {
            let of_source = tenants.iter().filter(|it| it["source"] == source);
            of_source.map(|it| it["name"].as_str().unwrap_or("").to_owned()).collect()
        };
        assert_eq!(of("added"), ["good"]);
        assert_eq!(of("file"), ["example", "other", "shadowed"]);
        assert_eq!(status_for(world, "sip:dora@good.example").await, Some(202));
        assert_eq!(status_for(world, "sip:dora@shadowed.example").await, Some(404));
        assert!(kept.join("claimed.toml").exists(), "nothing is thrown away");
    });
}

async fn person(program: &Program, address: &str) -> Person {
    let wire = std::sync::Arc::<Recorder>::default();
    let (client, events) =
        Client::start(ClientConfiguration::new(address, program.sip())).await.expect("sockets for a client");
    Person::new(client, events, wire)
}

fn hang_up(served: &Served) {
    let done = Command::new("kill").args(["-HUP", &served.id().to_string()]).status().expect("kill(1) runs");
    assert!(done.success());
}

#[tokio::test]
async fn the_file_is_read_again_at_sighup_and_on_command() {
    let example = "[tenants.example]\ndomains = [\"example.org\"]\ntrust = [\"127.0.0.0/8\"]\n";
    let program = Program::patient(example);
    let base = std::fs::read_to_string(program.configuration_file()).expect("the configuration");
    let mut served = program.serve().await;
    let alice = person(&program, "sip:alice@example.org").await;
    let status = async |to: &str| alice.try_send(PageMessage::text(to, "text")).await.answer.status;
    assert_eq!((status("sip:bob@example.org").await, status("sip:dora@school.example").await), (202, 404));

    program.configure(&format!("{base}[tenants.school]\n{SCHOOL}"));
    hang_up(&served);
    served.line_with("configuration reloaded").await;
    assert_eq!((status("sip:bob@example.org").await, status("sip:dora@school.example").await), (202, 202));

    // A file with an error changes nothing, and says where the error is.
    program.configure(&format!("{base}[tenants.school]\ndomains = [\"moved.example\"]\nbroken\n"));
    hang_up(&served);
    served.line_with("nothing changed").await;
    let said = program.ask(&["tenant", "reload"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(said.stderr.contains("restante.toml") && said.stderr.contains("line 16"), "{said:?}");
    // So does one with a policy that refuses its settings, and one that takes a kept tenant's domain.
    program.configure(&format!("{base}[tenants.school]\n{SCHOOL}[tenants.school.settings]\nfew = \"x\"\n"));
    let said = program.ask(&["tenant", "reload"]);
    assert!(said.stderr.contains("tenants.school.settings.few"), "{said:?}");
    assert_eq!((status("sip:bob@example.org").await, status("sip:dora@school.example").await), (202, 202));

    // What needs a restart is said; a tenant that is not in the file any more is gone.
    let with_limit = base.replace("[limits]\n", "[limits]\nmax_contacts = 3\n");
    program.configure(&format!("{with_limit}[tenants.firm]\n{}", SCHOOL.replace("school", "firm")));
    let said = program.ask(&["tenant", "reload"]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let expected = "added firm\nremoved school\nwarning: [limits] is not what the server runs with: it takes effect at the \
                    next start\n";
    assert_eq!(said.stdout, expected);
    assert_eq!((status("sip:dora@school.example").await, status("sip:dora@firm.example").await), (404, 202));
    assert_eq!(program.ask(&["tenant", "reload"]).stdout.lines().next(), Some("no tenant changed"));

    // Of those that were added at run time the file may take neither name nor domain.
    let added = program.configuration_file().with_file_name("added.toml");
    std::fs::write(&added, format!("[tenants.school]\n{SCHOOL}")).expect("a file");
    assert_eq!(program.ask(&["tenant", "add", &added.display().to_string()]).stdout, "added school\n");
    program.configure(&format!("{base}[tenants.school]\n{}", SCHOOL.replace("school", "else")));
    let said = program.ask(&["tenant", "reload"]);
    assert!(said.stderr.contains("tenants.school was added at run time"), "{said:?}");
    program.configure(&format!("{base}[tenants.thief]\n{SCHOOL}"));
    let said = program.ask(&["tenant", "reload"]);
    assert!(said.stderr.contains("already belongs to tenants.school"), "{said:?}");

    // What was added is there again after a kill, with what is stored for it.
    assert_eq!(status("sip:dora@school.example").await, 202);
    program.configure(&base);
    served.kill();
    let served = program.serve().await;
    let mut dora = person(&program, "sip:dora@school.example").await;
    dora.register().await;
    assert_eq!(dora.texts(2).await, ["text", "text"], "one of its life in the file, one of its own");
    drop(served);
}

fn limited(limits: TenantLimits) -> restante_tests::Setting {
    setting().administered().tenant(move |tenant| tenant.limits = limits).configure(|it| {
        let other = Tenant { domains: vec!["other.example".to_owned()], ..Tenant::example() };
        it.tenants.insert("other".to_owned(), other);
    })
}

#[test]
fn a_tenant_stores_no_more_than_it_may_also_after_a_restart() {
    let limits =
        TenantLimits { max_stored_messages: Some(3), max_stored_bytes: Some(100_000), ..TenantLimits::default() };
    limited(limits).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        for _ in 0..2 {
            alice.send(bob.address(), "text").await;
        }
        let large = async |size: usize| {
            let body = Source::Bytes(pattern(size));
            let message = LargeMessage::new("sip:bob@example.org", "application/octet-stream", body);
            alice.client.send_large(message).await.expect("an answer")
        };
        // How large it is, is known when it has come.
        let refused = large(200_000).await;
        assert!(!refused.accepted && refused.detail.contains("413"), "{refused:?}");
        assert!(large(70_000).await.accepted);
        let full = async |world: &World| {
            let mut somebody = world.udp().await;
            let answer = somebody.ask(&somebody.request("MESSAGE", "sip:carol@example.org").text("x")).await;
            (answer.status(), answer.header(Name::RetryAfter).map(str::to_owned))
        };
        assert_eq!(full(world).await, (Some(480), Some("60".to_owned())));
        assert_eq!(status_for(world, "sip:bob@other.example").await, Some(202), "another tenant's room is its own");
        assert!(world.metric("restante_tenant_limits_total", &["limit=\"stored\"", "tenant=\"example\""]) >= 2);
        world.restart().await;
        assert_eq!(full(world).await.0, Some(480));
        assert_eq!(large(10).await.answer.status, 480);
        bob.register().await;
        bob.texts(2).await;
        until_equal("messages of the tenant", 0, || stored_of(world, "example")).await;
        assert_eq!(full(world).await.0, Some(202), "there is room again");
    });
}

#[test]
fn a_tenant_has_no_more_sessions_than_it_may_and_deliveries_wait_for_one() {
    let limits = TenantLimits { max_sessions: Some(1), ..TenantLimits::default() };
    limited(limits).settings("few = 0").tell(async |world| {
        let alice = world.person("alice").await;
        let (bob, mut carol) = (world.person("bob").await, world.person("carol").await);
        alice.send(bob.address(), "for bob").await;
        // A device that says nothing holds the tenant's only session.
        let mut device = world.udp().await;
        let register = device.request("REGISTER", "sip:example.org");
        let register = register.set("From", "<sip:bob@example.org>;tag=1").set("To", "<sip:bob@example.org>");
        let register = register.set("Contact", &format!("<sip:bob@{}>", device.local()));
        assert_eq!(device.ask(&register).await.status(), Some(200));
        let invite = device.expect("an INVITE", |it| it.method() == Some(Method::Invite)).await;
        alice.send(carol.address(), "for carol").await;
        carol.register().await;
        until("carol's delivery waits", || world.metric("restante_tenant_limits_total", &["limit=\"sessions\""]) > 0)
            .await;
        let sent = alice.client.send_large(LargeMessage::new(
            carol.address(),
            "application/octet-stream",
            Source::Bytes(pattern(70_000)),
        ));
        assert_eq!(sent.await.expect("an answer").answer.status, 480, "nor does an INVITE find one");
        let other = alice.client.send_large(LargeMessage::new(
            "sip:dora@other.example",
            "application/octet-stream",
            Source::Bytes(pattern(70_000)),
        ));
        assert!(other.await.expect("an answer").accepted, "another tenant has its own");
        let shown = world.json(&["tenant", "show", "example"]).await;
        assert_eq!((&shown["sessions"], &shown["deliveries_in_flight"]), (&1.into(), &1.into()));
        assert!(carol.unread().is_empty());
        device.respond(&invite, 486).await;
        assert_eq!(carol.texts(1).await, ["for carol"]);
        until_equal("messages of the tenant", 1, || {
            world.queue().iter().filter(|it| &*it.message.recipient.tenant.0 == "example").count()
        })
        .await;
    });
}

#[test]
fn a_tenants_policy_has_the_time_that_the_tenant_says() {
    let place = setting().administered().settings("behaviour = \"endless-loop\"").tenant(|tenant| {
        tenant.policy = restante_policy::hostile::PATH.to_owned();
        tenant.limits.max_decision_milliseconds = Some(50);
    });
    // With the server's own bound nobody would be answered in time.
    let place = place.configure(|it| it.limits.max_decision_milliseconds = 90_000);
    place.tell(async |world| {
        assert_eq!(status_for(world, "sip:bob@example.org").await, Some(202));
        assert_eq!(world.metric("restante_policy_fallbacks_total", &["timed-out"]), 1);
    });
}
