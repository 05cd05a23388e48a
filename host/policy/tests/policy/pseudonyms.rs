//! Pseudonyms hide who it was and nothing else that a policy looks at.

use std::collections::BTreeMap;

use proptest::prelude::*;
use restante_deferral::decision::{Answer, IncomingAnswer, Question, Rejection};
use restante_deferral::model::TenantName;
use restante_policy::Hook;
use restante_policy::record::{Pseudonymiser, typical_question, write_question};
use serde_json::{Value, json};

use crate::any::{Dice, dice};

fn pseudonymiser(tenant: &str) -> Pseudonymiser {
    Pseudonymiser::for_tenant(&[7; 64], &TenantName(tenant.into()))
}

/// Identities of every form, each with the words that must not be seen any more.
fn identities() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    let word = "[a-z]{6}[0-9]{0,2}";
    let one = (0..9_u8, word, word, "[1-9][0-9]{9}", "[0-9a-f]{8}").prop_map(|(form, user, host, number, hex)| {
        let domain = format!("{host}.example");
        match form {
            0 => (format!("sip:{user}@{domain}"), vec![user, host]),
            1 => (format!("sips:{user}@{domain}:5061;transport=tcp"), vec![user, host]),
            2 => (format!("tel:+{number}"), vec![number]),
            3 => (format!("sip:+{number}@{domain};user=phone"), vec![number, host]),
            4 => (format!("urn:uuid:{hex}-7dec-11d0-a765-00a0c91e6bf6"), vec![hex]),
            5 => (format!("{user}@{domain}"), vec![user, host]),
            6 => (format!("\"{user}\" <sip:{host}@{domain}>;tag=1"), vec![user, host]),
            7 => (format!("urn:gsma:imei:{number}-0"), vec![number]),
            _ => (format!("<tel:+{number}>, <sip:{user}%40x@{domain}>"), vec![number, user, host]),
        }
    });
    proptest::collection::vec(one, 1..6)
}

/// Every text in a value, keys included, in the order of their places.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(entries) => entries.iter().for_each(|(key, value)| {
            found.push(key.clone());
            texts(value, found);
        }),
        _ => {}
    }
}

fn whole(question: &Question) -> Value {
    let (context, input) = write_question(question);
    json!([context, input])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn no_identity_is_left_and_equality_is_what_it_was(said in dice(), identities in identities()) {
        let addresses = identities.iter().map(|(address, _)| address.clone()).collect();
        let question = Dice::with_addresses(said, addresses).question();
        let shown = pseudonymiser("example").question(&question);
        let (before, after) = (whole(&question), whole(&shown));
        let text = after.to_string();
        for (address, words) in &identities {
            prop_assert!(!text.contains(address), "{address} in {text}");
            for word in words {
                prop_assert!(!text.contains(word), "{word} of {address} in {text}");
            }
        }
        let (mut was, mut is) = (Vec::new(), Vec::new());
        texts(&before, &mut was);
        texts(&after, &mut is);
        prop_assert_eq!(was.len(), is.len());
        let (mut forth, mut back) = (BTreeMap::new(), BTreeMap::new());
        for (was, is) in was.iter().zip(&is) {
            // In a place for identities anything is one; elsewhere only what looks like one. Same text, same place, same name.
            let kind = is.starts_with("x-");
            prop_assert_eq!(forth.entry((was, kind)).or_insert(is), &is, "{} has two pseudonyms", was);
            prop_assert_eq!(back.entry(is).or_insert(was), &was, "{} is two", is);
            for scheme in ["sip:", "sips:", "tel:", "urn:uuid:"] {
                if was.starts_with(scheme) {
                    prop_assert!(is.starts_with(scheme), "{} for {}", is, was);
                }
            }
        }
        prop_assert_eq!(shown, pseudonymiser("example").question(&question), "the same every time");
    }

    #[test]
    fn settings_lose_identities_too(identities in identities()) {
        let settings: Value = identities
            .iter()
            .enumerate()
            .map(|(at, (address, _))| json!({address: [at, address], "few": 3, "note": format!("for {address}.")}))
            .collect();
        let shown = pseudonymiser("example").settings(&settings).to_string();
        for word in identities.iter().flat_map(|(_, words)| words) {
            prop_assert!(!shown.contains(word.as_str()), "{word} in {shown}");
        }
        prop_assert!(shown.contains("\"few\":3"));
    }
}

#[test]
fn what_a_policy_looks_at_stays() {
    let question = typical_question(Hook::Available).unwrap();
    let Question::Available(context, availability) = pseudonymiser("example").question(&question) else { panic!() };
    let domain = |address: &str| address.split('@').nth(1).unwrap().to_owned();
    let senders: Vec<_> = availability.messages.iter().map(|message| message.sender.clone()).collect();
    assert_eq!(domain(&senders[0]), domain(&context.recipient.address.0), "of one domain");
    assert_ne!(domain(&senders[0]), domain(&senders[1]), "of two");
    assert!(context.recipient.aliases[0].strip_prefix("tel:+").is_some_and(|it| it.parse::<u64>().is_ok()));
    assert_eq!(context.recipient.subscriber_class.as_deref(), Some("gold"));
    assert!(availability.contacts[0].instance.as_deref().is_some_and(|it| it.starts_with("urn:uuid:")));
    let other = pseudonymiser("other").question(&question);
    assert_ne!(other, Question::Available(context, availability), "each tenant has a key of its own");
}

#[test]
fn tags_lose_what_is_a_persons_and_nothing_else() {
    let tags = [
        ("audio", true),
        ("+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"", true),
        ("methods=\"MESSAGE,INVITE\"", true),
        ("description=\"<Bob's phone>\"", false),
        ("+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\"", false),
        ("+g.example.owner=\"sip:bob@example.org\"", false),
        ("+g.example.owner=bob%40example.org", false),
    ];
    let Question::Available(context, mut availability) = typical_question(Hook::Available).unwrap() else { panic!() };
    availability.contacts[0].tags = tags.iter().map(|(tag, _)| (*tag).to_owned()).collect();
    let shown = pseudonymiser("example").question(&Question::Available(context, availability));
    let Question::Available(_, availability) = shown else { panic!() };
    for ((tag, stays), shown) in tags.iter().zip(&availability.contacts[0].tags) {
        assert_eq!(tag == shown, *stays, "{tag} became {shown}");
        assert_eq!(tag.split('=').next(), shown.split('=').next(), "the name stays");
        assert!(!shown.to_lowercase().contains("bob"), "{shown}");
    }
}

#[test]
fn an_answer_names_the_pseudonym() {
    let reject = |reason: &str| {
        Answer::Incoming(IncomingAnswer::Reject(Rejection {
            status: 403,
            reason: reason.to_owned(),
            retry_after_seconds: None,
        }))
    };
    let question = typical_question(Hook::Incoming).unwrap();
    let Question::Incoming(_, shown) = pseudonymiser("example").question(&question) else { panic!() };
    let said = pseudonymiser("example").answer(&reject("no more from <sip:alice@example.org>, please"));
    assert_eq!(said, reject(&format!("no more from <{}>, please", shown.sender.address)));
}
