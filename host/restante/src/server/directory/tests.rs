//! Whose a name is, and who may change that.

use super::*;

fn directory() -> Directory {
    let mut configuration = Configuration::default();
    let tenant = configuration.tenants.get_mut("example").unwrap();
    tenant.numbers = vec!["+1555".to_owned()];
    tenant.aliases.insert("tel:+1-555-0001".to_owned(), "sip:bob@example.org".to_owned());
    let other = Tenant { domains: vec!["other.net".to_owned()], ..Tenant::example() };
    configuration.tenants.insert("other".to_owned(), other);
    Directory::new(&configuration, ReportKey::default(), Weak::new()).unwrap()
}

fn user(address: &str) -> RecipientKey {
    RecipientKey { tenant: TenantName("example".into()), address: CanonicalAddress(address.into()) }
}

fn bob() -> RecipientKey {
    user("sip:bob@example.org")
}

fn carol() -> RecipientKey {
    user("sip:carol@example.org")
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn set(names: &[&str]) -> Profile {
    Profile { aliases: texts(names), ..Profile::default() }
}

fn registered(names: &[&str]) -> Profile {
    Profile { registered: texts(names), ..set(names) }
}

fn who(directory: &Directory, name: &str) -> Option<String> {
    let (_, key) = directory.served(&Uri::parse(name).unwrap())?;
    Some(key.address.to_string())
}

#[test]
fn every_name_reaches_one_queue() {
    let directory = directory();
    directory.settle(&bob(), &set(&["sip:robert@example.org"]), None);
    for name in [
        "sip:bob@EXAMPLE.org;transport=tcp",
        "tel:+15550001",
        "sip:+15550001@elsewhere.net;user=phone",
        "sip:robert@example.org",
    ] {
        assert_eq!(who(&directory, name).as_deref(), Some("sip:bob@example.org"), "{name}");
    }
    assert_eq!(directory.names(&bob()), ["tel:+15550001", "sip:robert@example.org"]);
    assert_eq!(directory.owner_of(&user("sip:robert@example.org")), Some(bob()));
    assert_eq!(directory.owner_of(&bob()), None);
}

#[test]
fn others_are_not_served() {
    let directory = directory();
    for name in ["sip:bob@other.org", "tel:+4412345", "sip:example.org", "urn:x:y"] {
        assert!(directory.served(&Uri::parse(name).unwrap()).is_none(), "{name}");
    }
    let (tenant, key) = directory.served(&Uri::parse("tel:+1555777").unwrap()).unwrap();
    assert_eq!((&*tenant.name.0, &*key.address.0), ("example", "tel:+1555777"));
}

#[test]
fn a_name_is_known_when_its_profile_says_so_and_forgotten_when_it_does_not() {
    let directory = directory();
    let reservation = directory.reserve(&bob(), &texts(&["tel:+15552", "tel:+441"])).unwrap();
    assert_eq!(who(&directory, "tel:+15552").as_deref(), Some("tel:+15552"), "reserved is not known");
    let version = directory.version();
    let gained = directory.settle(&bob(), &set(&["tel:+15552", "tel:+441"]), Some(reservation));
    assert_eq!(gained, [user("tel:+15552"), user("tel:+441")]);
    assert_eq!(who(&directory, "tel:+441").as_deref(), Some("sip:bob@example.org"), "an operator may say so");
    assert!(directory.version() > version);
    assert!(directory.settle(&bob(), &set(&["tel:+15552", "tel:+441"]), None).is_empty());
    directory.settle(&bob(), &set(&["tel:+441"]), None);
    assert_eq!(who(&directory, "tel:+15552").as_deref(), Some("tel:+15552"));
    assert_eq!(directory.names(&bob()), ["tel:+15550001", "tel:+441"]);
}

#[test]
fn an_operator_cannot_take_what_is_somebody_elses() {
    let directory = directory();
    directory.settle(&bob(), &registered(&["tel:+15552"]), None);
    let refused = |names: &[&str]| directory.reserve(&carol(), &texts(names)).err().map(|taken| taken.to_string());
    for (name, expected) in [
        ("tel:+15550001", "tel:+15550001 is an alias of sip:bob@example.org in the configuration"),
        ("tel:+15552", "tel:+15552 is an alias of sip:bob@example.org: take it from there first"),
        ("sip:bob@example.org", "sip:bob@example.org is a user with aliases of its own: take those away first"),
        ("sip:x@other.net", "sip:x@other.net belongs to tenant other"),
    ] {
        assert_eq!(refused(&["tel:+15559", name]).as_deref(), Some(expected));
    }
    let free = directory.reserve(&bob(), &texts(&["tel:+15559"])).expect("what was refused is not reserved");
    assert_eq!(refused(&["tel:+15559"]).as_deref(), Some("tel:+15559 is being changed by somebody else: try again"));
    drop(free);
    assert_eq!(refused(&["tel:+15559", "sip:carol@example.org"]), None);
}

#[test]
fn a_core_moves_what_it_told_and_nothing_else() {
    let directory = directory();
    directory.settle(&bob(), &registered(&["tel:+15552"]), None);
    directory.settle(&user("sip:dave@example.org"), &set(&["tel:+15553"]), None);
    let told = ["tel:+15550001", "tel:+15552", "tel:+15553", "tel:+15554", "tel:+441", "sip:x@other.net"];
    let reservation = directory.reserve_registered(&carol(), &texts(&told));
    assert_eq!(reservation.names(), ["tel:+15552", "tel:+15554"]);
    assert_eq!(reservation.displaced(), [(bob(), "tel:+15552".to_owned())]);
    let gained = directory.settle(&carol(), &registered(&["tel:+15552", "tel:+15554"]), Some(reservation));
    assert_eq!(gained.len(), 2);
    assert_eq!(who(&directory, "tel:+15552").as_deref(), Some("sip:carol@example.org"));
    assert_eq!(directory.names(&bob()), ["tel:+15550001"]);
    assert!(directory.reserve_registered(&carol(), &texts(&told)).names().is_empty(), "a refresh needs nothing");
    // A user that had names of its own becomes a name itself when all of them go with it.
    let both = texts(&["sip:carol@example.org", "tel:+15552", "tel:+15554"]);
    let erin = user("sip:erin@example.org");
    assert_eq!(directory.reserve_registered(&erin, &both[..2]).names(), ["tel:+15552"]);
    assert_eq!(directory.reserve_registered(&erin, &both).names(), both);
}

#[test]
fn profiles_that_disagree_with_the_configuration_or_each_other_give_way() {
    let directory = directory();
    directory.load(vec![
        (carol(), registered(&["tel:+15552", "tel:+15550001", "sip:bob@example.org"])),
        (user("sip:dave@example.org"), set(&["tel:+15552"])),
        (user("sip:erin@example.org"), registered(&["tel:+15552"])),
        // The configuration made it another name of bob's since.
        (user("tel:+15550001"), set(&["sip:rob@example.org"])),
        (bob(), set(&["sip:robert@example.org"])),
    ]);
    for (name, expected) in [
        ("tel:+15552", "sip:dave@example.org"),
        ("tel:+15550001", "sip:bob@example.org"),
        ("sip:bob@example.org", "sip:bob@example.org"),
        ("sip:rob@example.org", "sip:bob@example.org"),
        ("sip:robert@example.org", "sip:bob@example.org"),
    ] {
        assert_eq!(who(&directory, name).as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn what_the_configuration_cannot_mean_is_said_with_its_place() {
    for (aliases, expected) in [
        ([("tel:x", "sip:bob@example.org"), ("tel:+1", "sip:a@b")], "tenants.example.aliases: \"tel:x\" is no"),
        ([("tel:+1", "sip:a@b.org"), ("tel:+1-", "sip:c@d.org")], "\"tel:+1-\" belongs to \"sip:a@b.org\""),
        ([("tel:+1", "sip:a@b.org"), ("tel:+2", "tel:+1")], "\"tel:+1\" is an alias itself: give \"tel:+2\""),
    ] {
        let mut configuration = Configuration::default();
        let tenant = configuration.tenants.get_mut("example").unwrap();
        tenant.aliases = aliases.into_iter().map(|(alias, of)| (alias.to_owned(), of.to_owned())).collect();
        let error = Directory::new(&configuration, ReportKey::default(), Weak::new()).err().expect("refused");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_hundred_thousand_names_are_learnt_by_two_at_once() {
    let directory = directory();
    let number = |index: u32| format!("tel:+1555{index:07}");
    std::thread::scope(|scope| {
        for part in 0..2 {
            let directory = &directory;
            scope.spawn(move || {
                for index in (part..100_000).step_by(2) {
                    let owner = user(&format!("sip:user{index}@example.org"));
                    let name = number(index);
                    let reservation = directory.reserve_registered(&owner, std::slice::from_ref(&name));
                    assert_eq!(directory.settle(&owner, &registered(&[&name]), Some(reservation)).len(), 1);
                    assert_eq!(directory.owner_of(&user(&name)), Some(owner));
                }
            });
        }
    });
    assert_eq!(who(&directory, &number(77_777)).as_deref(), Some("sip:user77777@example.org"));
}
