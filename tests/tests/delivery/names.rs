//! All names of a user reach one queue, whenever and however they become known.

use restante_client::{Mode, Selection};
use restante_tests::{Setting, World, setting, until};
use restante_transport::Protocol;

const NUMBER: &str = "tel:+15550001";

fn with_numbers() -> Setting {
    setting().tenant(|tenant| tenant.numbers.push("+1555".to_owned()))
}

/// How often policies were asked what goes out.
fn asked_when_available(world: &World) -> u64 {
    let statistics = world.shared().policies().map(|policies| policies.host().statistics()).unwrap_or_default();
    statistics.iter().map(|tenant| tenant.hooks[1].asked).sum()
}

/// A core says that Bob is registered there, under these names too; what the answer names.
async fn registers_bob(world: &World, names: &[&str]) -> Vec<String> {
    let mut core = world.udp().await;
    let request = core.request("REGISTER", "sip:example.org").set("To", "<sip:bob@example.org>");
    let request = request.set("From", &format!("<sip:scscf@{}>;tag=1", core.local()));
    let mut request = request.with("Contact", &format!("<sip:{}>;expires=600", world.proxy().sip_address()));
    for name in names {
        request = request.with("P-Associated-URI", &format!("<{name}>"));
    }
    let answer = core.ask(&request).await;
    assert_eq!(answer.status(), Some(200));
    answer.list(restante_sip::message::Name::PAssociatedUri).map(str::to_owned).collect()
}

#[test]
fn what_waited_under_a_number_comes_when_a_core_says_whose_it_is() {
    // What waits under the number is taken in before the first goes out, also where another shard or the disk stands
    // still for a while.
    let patient = with_numbers().configure(|it| it.limits.registration_delay_milliseconds = 5_000);
    patient.behind_proxy(Protocol::Udp).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(NUMBER, "one").await;
        alice.send(bob.address(), "two").await;
        alice.send("sip:+1-555-0001@example.org;user=phone", "three").await;
        let told = registers_bob(world, &[NUMBER]).await;
        assert_eq!(told, ["<sip:bob@example.org>", "<tel:+15550001>"]);
        assert_eq!(bob.texts(3).await, ["one", "two", "three"]);
        world.until_settled().await;
        world.restart().await;
        alice.send(NUMBER, "four").await;
        assert_eq!(bob.texts(1).await, ["four"]);
        world.until_settled().await;
    });
}

#[test]
fn a_pull_finds_what_waited_under_a_number_that_an_operator_named() {
    with_numbers().settings("delivery = \"hold\"").tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(NUMBER, "one").await;
        alice.send(bob.address(), "two").await;
        bob.register().await;
        until("the policy was asked about what waits for Bob", || asked_when_available(world) >= 1).await;
        let names = vec![NUMBER.to_owned()];
        let user = world.recipient(bob.address());
        let reservation = world.shared().directory.reserve(&user, &names).unwrap();
        let change = restante_deferral::model::ProfileChange {
            aliases: restante_deferral::model::AliasChange::Set(names),
            ..Default::default()
        };
        world.shared().change_profile(&user, change, Some(reservation)).await.unwrap();
        until("one queue", || world.queue().iter().all(|it| it.message.recipient == user)).await;
        // What moved is in the store before its owner hears of it.
        until("the policy was asked about what moved, too", || asked_when_available(world) >= 2).await;
        let fetched = bob.client.fetch(Selection::All).await.unwrap();
        let texts: Vec<&str> = fetched.messages.iter().filter_map(|message| message.text()).collect();
        assert_eq!(texts, ["one", "two"]);
        assert!(fetched.messages.iter().all(|message| message.mode == Mode::Fetch));
        world.until_settled().await;
    });
}

#[test]
fn what_waited_under_a_number_comes_when_the_configuration_names_it() {
    with_numbers().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(NUMBER, "one").await;
        bob.register().await;
        world
            .restart_with(|configuration| {
                let tenant = configuration.tenants.get_mut("example").unwrap();
                tenant.aliases.insert(NUMBER.to_owned(), "sip:bob@example.org".to_owned());
            })
            .await;
        // The registration is kept, so nothing more is needed.
        assert_eq!(bob.texts(1).await, ["one"]);
        world.until_settled().await;
    });
}
