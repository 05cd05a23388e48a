use std::sync::{Arc, Weak};
use std::time::Duration;

use restante_deferral::model::{CanonicalAddress, TenantName};
use restante_deferral::participating_function::ReportKey;
use restante_sip::authentication::{Algorithm, CountError};
use restante_store::UserCredentials;

use super::*;
use crate::configuration::{AuthenticationMethod, Configuration};
use crate::server::directory::Directory;

const NOW: Timestamp = Timestamp(1_000_000);
const LIFETIME: u64 = 300_000;

struct Gate {
    authentication: Authentication,
    tenant: Arc<TenantEntry>,
    directory: Directory,
    began: Instant,
}

impl Gate {
    /// Of a tenant of which Bob is a user with a password.
    fn new(change: impl FnOnce(&mut Configuration)) -> Gate {
        let mut configuration = Configuration::default();
        change(&mut configuration);
        let tenant = configuration.tenants.get_mut("example").unwrap();
        tenant.authentication = AuthenticationMethod::Digest;
        let directory = Directory::new(&configuration, ReportKey::default(), Weak::new()).unwrap();
        let began = Instant::now();
        let authentication = Authentication::new(&[9; 32], 5, &configuration.limits, began);
        let hash = HashOfA1::new(Algorithm::Sha256, "bob", "example.org", "secret");
        let credentials = UserCredentials {
            username: "bob".to_owned(),
            realm: "example.org".to_owned(),
            hashes: vec![("SHA-256".to_owned(), hash.bytes().to_vec())],
        };
        authentication.users.set(&bob(), Some(&credentials)).unwrap();
        let tenant = directory.tenant(&TenantName("example".into())).unwrap();
        Gate { authentication, tenant, directory, began }
    }

    /// As the clock of the machine says it, which only goes on.
    fn at(&self, now: Timestamp) -> Instant {
        self.began + Duration::from_millis(now.0)
    }

    fn ask(&self, authorization: Option<&str>, now: Timestamp) -> Result<RecipientKey, Unauthenticated> {
        self.ask_of("example", authorization, now)
    }

    fn ask_of(
        &self,
        tenant: &str,
        authorization: Option<&str>,
        now: Timestamp,
    ) -> Result<RecipientKey, Unauthenticated> {
        let request = request(authorization);
        let source = "192.0.2.1".parse().unwrap();
        let tenant = self.directory.tenant(&TenantName(tenant.into())).unwrap();
        self.authentication.check(&request, Asked { tenant: &tenant, source, now: self.at(now) })
    }

    fn nonce(&self, now: Timestamp) -> String {
        let Err(Unauthenticated::Challenged { challenges, .. }) = self.ask(None, now) else { panic!("no challenge") };
        Challenge::parse_list(&challenges[0]).unwrap().remove(0).nonce
    }

    /// Why it is not taken; none: it is.
    fn why(&self, authorization: &str, now: Timestamp) -> Option<Why> {
        match self.ask(Some(authorization), now) {
            Ok(_) => None,
            Err(Unauthenticated::Challenged { why, .. }) => Some(why),
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn request(authorization: Option<&str>) -> SipMessage {
    let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    let text = format!("MESSAGE sip:carol@example.org SIP/2.0\r\n{authorization}\r\n");
    SipMessage::parse(text.into_bytes().into(), &Default::default()).unwrap()
}

fn bob() -> RecipientKey {
    RecipientKey { tenant: TenantName("example".into()), address: CanonicalAddress("sip:bob@example.org".into()) }
}

fn answer(nonce: &str, password: &str, count: u32) -> String {
    let protection =
        Protection { quality: QualityOfProtection::Auth, cnonce: "c".to_owned(), nonce_count: format!("{count:08x}") };
    let uri = "sip:carol@example.org";
    let hash = HashOfA1::new(Algorithm::Sha256, "bob", "example.org", password);
    let subject = Subject { method: "MESSAGE", uri, nonce, is_session: false, body: &[] };
    let credentials = Credentials {
        username: "bob".to_owned(),
        is_user_hash: false,
        realm: "example.org".to_owned(),
        nonce: nonce.to_owned(),
        uri: uri.to_owned(),
        response: response(&hash, &subject, Some(&protection)),
        algorithm: Some("SHA-256".to_owned()),
        opaque: None,
        protection: Some(protection),
    };
    credentials.to_string()
}

#[test]
fn a_nonce_serves_its_time_and_each_count_once() {
    let gate = Gate::new(|_| {});
    let nonce = gate.nonce(NOW);
    let last = Timestamp(NOW.0 + LIFETIME);
    assert_eq!(gate.ask(Some(&answer(&nonce, "secret", 1)), NOW), Ok(bob()));
    assert_eq!(gate.why(&answer(&nonce, "secret", 1), NOW), Some(Why::Repeated));
    assert_eq!(gate.why(&answer(&nonce, "secret", 2), last), None);
    let late = Timestamp(last.0 + 1);
    assert_eq!(gate.why(&answer(&nonce, "secret", 3), late), Some(Why::Stale));
    assert_eq!(gate.why(&answer(&nonce, "guess", 3), late), Some(Why::Stale), "says nothing of a password");
    assert_eq!(gate.why(&answer("made up", "secret", 1), NOW), Some(Why::Stale));
    assert_eq!(gate.why(&answer(&nonce, "guess", 3), NOW), Some(Why::Wrong));
    assert_eq!(gate.why(&answer(&nonce, "secret", 3), NOW), None, "a wrong answer uses up nothing");
}

#[test]
fn a_full_memory_costs_a_round_trip_and_admits_nothing_twice() {
    let gate = Gate::new(|it| it.limits.max_nonces = 1);
    let nonces: Vec<String> = (0..3 * SLICES).map(|_| gate.nonce(NOW)).collect();
    for nonce in &nonces {
        assert_eq!(gate.why(&answer(nonce, "secret", 1), NOW), None);
    }
    for nonce in &nonces {
        assert_eq!(gate.why(&answer(nonce, "secret", 1), NOW), Some(Why::Repeated));
    }
    let first = &nonces[0];
    assert_eq!(gate.why(&answer(first, "secret", 2), NOW), Some(Why::Repeated), "it was forgotten");
    assert_eq!(CountError::Forgotten.to_string(), "the nonce is older than those that are remembered");
    assert_eq!(gate.why(&answer(&gate.nonce(NOW), "secret", 1), NOW), None);
}

#[test]
fn failures_are_charged_to_whoever_got_the_nonce() {
    let gate = Gate::new(|it| it.limits.max_failed_authentications = 2);
    for count in 1..=2 {
        assert_eq!(gate.why(&answer("made up", "guess", count), NOW), Some(Why::Stale), "to nobody");
    }
    let nonce = gate.nonce(NOW);
    for count in 1..=2 {
        assert_eq!(gate.why(&answer(&nonce, "guess", count), NOW), Some(Why::Wrong));
    }
    let slow = Err(Unauthenticated::SlowDown { retry_after_seconds: 300 });
    assert_eq!(gate.ask(None, NOW), slow);
    assert_eq!(gate.ask(Some(&answer(&nonce, "secret", 3)), NOW), slow);
    let later = Timestamp(NOW.0 + 300_000);
    assert_eq!(gate.why(&answer(&gate.nonce(later), "secret", 1), later), None);
}

#[test]
fn what_is_asked_of_two_tenants_of_one_realm_is_one_guess_and_none_if_one_of_them_knows_it() {
    let gate = Gate::new(|it| {
        it.limits.max_failed_authentications = 4;
        let mut other = it.tenants["example"].clone();
        other.domains = vec!["other.example".to_owned()];
        other.authentication = AuthenticationMethod::Digest;
        other.digest.realm = Some("example.org".to_owned());
        it.tenants.insert("other".to_owned(), other);
    });
    let nonce = gate.nonce(NOW);
    let asked = |password: &str, count: u32| {
        let shown = answer(&nonce, password, count);
        ["other", "example"].map(|tenant| match gate.ask_of(tenant, Some(&shown), NOW) {
            Err(Unauthenticated::Challenged { why, .. }) => Some(why),
            Err(other) => panic!("{other:?}"),
            Ok(_) => None,
        })
    };
    for count in 1..=10 {
        assert_eq!(asked("secret", count), [Some(Why::Wrong), None]);
    }
    assert_eq!(asked("guess", 11), [Some(Why::Wrong); 2]);
    assert_eq!(asked("guess", 11), [Some(Why::Wrong); 2], "the same once more tells nothing new");
    assert_eq!(asked("guess", 12), [Some(Why::Wrong); 2]);
    assert_eq!(asked("secret", 13), [Some(Why::Wrong), None], "two guesses so far");
    for count in 14..=15 {
        assert!(gate.ask(None, NOW).is_err_and(|it| matches!(it, Unauthenticated::Challenged { .. })));
        assert_eq!(gate.why(&answer(&nonce, "guess", count), NOW), Some(Why::Wrong));
    }
    assert!(matches!(gate.ask(None, NOW), Err(Unauthenticated::SlowDown { .. })));
}

#[test]
fn a_password_is_for_its_realm_and_the_latest_counts() {
    let gate = Gate::new(|it| {
        it.tenants.get_mut("example").unwrap().digest.realm = Some("another realm".to_owned());
    });
    assert!(
        matches!(gate.ask(None, NOW), Err(Unauthenticated::Challenged { challenges, .. }) if challenges[0].contains("realm=\"another realm\""))
    );
    let nonce = gate.nonce(NOW);
    assert_eq!(gate.why(&answer(&nonce, "secret", 1), NOW), Some(Why::NoCredentials));
    let gate = Gate::new(|_| {});
    gate.authentication.users.set(&bob(), None).unwrap();
    assert_eq!(gate.why(&answer(&gate.nonce(NOW), "secret", 1), NOW), Some(Why::Wrong));
}

#[test]
fn an_old_nonce_is_renewed_before_it_is_too_old_and_only_for_who_knows_the_password() {
    let gate = Gate::new(|it| it.tenants.get_mut("example").unwrap().digest.authentication_info = true);
    let nonce = gate.nonce(NOW);
    let unchecked = |authorization: &str, now: Timestamp| {
        let info = gate.authentication.info(&request(Some(authorization)), &gate.tenant, gate.at(now))?;
        Some(AuthenticationInfo::parse(&info).unwrap())
    };
    let info = |authorization: &str, now: Timestamp| {
        gate.why(authorization, now);
        unchecked(authorization, now)
    };
    assert_eq!(unchecked(&answer(&nonce, "secret", 9), NOW), None, "it was taken for something else");
    assert_eq!(info(&answer(&nonce, "secret", 1), NOW).unwrap().next_nonce, None);
    let half = Timestamp(NOW.0 + LIFETIME / 2 + 1);
    let next = info(&answer(&nonce, "secret", 2), half).unwrap().next_nonce.unwrap();
    assert_eq!(gate.why(&answer(&next, "secret", 1), Timestamp(half.0 + LIFETIME)), None);
    assert_eq!(info(&answer(&nonce, "guess", 3), half), None);
    assert_eq!(info(&answer("made up", "secret", 3), half), None);
    let silent = Gate::new(|_| {});
    let authorization = answer(&silent.nonce(NOW), "secret", 1);
    assert_eq!(silent.why(&authorization, NOW), None);
    let info = silent.authentication.info(&request(Some(&authorization)), &silent.tenant, silent.at(NOW));
    assert_eq!(info, None);
}
