//! SIPp as the clients: many messages, and passwords.

use std::path::Path;

use restante_client::ClientEvent;
use restante_tests::PATIENCE;
use tokio::time::timeout;

use crate::behind::{Behind, behind};
use crate::kamailio::{Configuration, IN_FRONT, REGISTRAR, database};
use crate::scenario::Sipp;

const MESSAGES: usize = 300;
const STORED: &str = "restante_messages_stored_total";

fn start(world: &Behind, directory: &Path, scenario: &str, arguments: &[&str]) -> Sipp {
    Sipp::start(world.kamailio.clients(), directory, &format!("proxies/{scenario}"), arguments)
}

#[test]
fn hundreds_of_messages_survive_the_end_of_both() {
    for name in [REGISTRAR, IN_FRONT] {
        behind(Configuration::of(name), "", async |world| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let count = MESSAGES.to_string();
            let mut sipp = start(world, directory.path(), "messages.xml", &["-m", &count, "-r", "50"]);
            world.until_waiting("a third of the messages", |waiting| waiting >= MESSAGES / 3).await;
            world.kill_restante();
            world.start_restante().await;
            world.until_waiting("half of the messages", |waiting| waiting >= MESSAGES / 2).await;
            world.restart_kamailio();
            assert!(sipp.succeeds().await, "{}", sipp.complaints());
            assert_eq!(world.queue().await.len(), MESSAGES, "{name}: each accepted once");
            let mut bob = world.person("bob").await;
            bob.register().await;
            let mut came = std::collections::HashMap::<String, usize>::new();
            for number in 0..MESSAGES {
                let Ok(texts) = timeout(PATIENCE / 2, bob.texts(1)).await else {
                    panic!("{name}: {number} messages came; {}", world.state().await);
                };
                texts.into_iter().for_each(|text| *came.entry(text).or_default() += 1);
            }
            world.until_waiting("nothing", |waiting| waiting == 0).await;
            let further = bob.unread().into_iter().filter(|event| matches!(event, ClientEvent::Received(_))).count();
            let lost = (1..=MESSAGES).filter(|number| !came.contains_key(&format!("message {number}"))).count();
            let repeated = further + MESSAGES - came.len();
            eprintln!("{name}: SIPp sent {MESSAGES}, lost {lost}, repeated {repeated}");
            assert_eq!((lost, repeated), (0, 0), "{name}");
        });
    }
}

#[test]
fn only_who_knows_the_password_registers_and_sends() {
    for name in [REGISTRAR, IN_FRONT] {
        let users = tempfile::tempdir().expect("a temporary directory");
        let with_users = |it: Configuration| {
            let define = database(users.path(), &[("bob", "secret")]);
            it.undefine("WITHOUT_AUTHENTICATION").define(&define)
        };
        let configuration = Configuration::of(name).map(with_users);
        behind(configuration, "", async |world| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let as_bob = |world: &Behind, password: &str| {
                start(world, directory.path(), "password.xml", &["-m", "1", "-au", "bob", "-ap", password])
            };
            let mut wrong = as_bob(world, "guessed");
            assert!(!wrong.succeeds().await, "{name}: {}", wrong.complaints());
            assert_eq!(world.metric(STORED, &[]).await, 0, "{name}");
            let mut right = as_bob(world, "secret");
            assert!(right.succeeds().await, "{name}: {}", right.complaints());
            assert_eq!(world.metric(STORED, &[]).await, 1, "{name}");
            assert_eq!(world.queue().await[0]["from"], "sip:bob@example.org", "{name}");
        });
    }
}
