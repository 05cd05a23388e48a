//! What a tenant's policy goes through when several change it at once, and what is on disk then.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use restante_policy::record::typical_host;
use restante_policy::{PolicyEngine, PolicyLimits};
use serde_json::json;
use tempfile::TempDir;

use super::library::digest_of;
use super::*;

/// Time for what may have to wait for the end of what it is in the middle of.
const MEANWHILE: Duration = Duration::from_millis(300);

type AtStep = Box<dyn Fn(Step) + Send + Sync>;
type Other = Arc<Mutex<Option<JoinHandle<()>>>>;

/// A tenant whose configuration names a file, and what happens at the steps of an activation.
struct Place {
    directory: TempDir,
    policies: Arc<Policies>,
    at_step: Arc<OnceLock<AtStep>>,
}

impl Place {
    /// The file is the standard policy.
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let at_step = Arc::<OnceLock<AtStep>>::default();
        let place = Place { policies: Place::policies(directory.path(), &at_step), directory, at_step };
        std::fs::write(place.file(), restante_policy::standard::COMPONENT).unwrap();
        place.policies.apply(place.configured()).unwrap();
        place
    }

    /// A server that knows what is on disk and nothing else.
    fn policies(directory: &Path, at_step: &Arc<OnceLock<AtStep>>) -> Arc<Policies> {
        let told = Arc::clone(at_step);
        // Checks go by the wall, and a busy machine may give them no time.
        let limits = PolicyLimits { threads: 1, check_deadline: Duration::from_secs(10), ..PolicyLimits::default() };
        let engine = PolicyEngine::new(limits.clone()).unwrap();
        let parts = Parts {
            loader: Loader::new(engine.clone(), None).unwrap(),
            meter: Meter::new(limits.clone(), None).unwrap(),
            library: Library::open(&directory.join("policies")).unwrap(),
            pseudonym_secret: [7; 64],
            max_component_bytes: limits.max_component_bytes,
            clock: Arc::new(|| Timestamp(1)),
            watcher: Arc::new(move |step| {
                if let Some(at_step) = told.get() {
                    at_step(step);
                }
            }),
        };
        let host = PolicyHost::start(&engine, |_: Asker, _| {}, |_| {}).unwrap();
        Arc::new(Policies::new(host, parts))
    }

    /// The next start of a server, with this configuration.
    fn started_with(&mut self, configured: TenantPolicy) {
        self.policies = Place::policies(self.directory.path(), &self.at_step);
        let ready = self.policies.ready(configured, Occasion::Start).unwrap();
        self.policies.keep_ready(&ready).unwrap();
        self.policies.take(ready).unwrap();
    }

    fn standard(&self) -> TenantPolicy {
        TenantPolicy { policy: restante_policy::standard::NAME.to_owned(), ..self.configured() }
    }

    /// As if what decides, or this digest, had been the standard policy of an earlier program.
    fn was_standard(&self, identity: String) {
        let mut state = self.kept();
        state.configured = Some((identity, json!({})));
        self.policies.parts.library.keep_state(&tenant().0, &state).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("policy.wasm")
    }

    fn configured(&self) -> TenantPolicy {
        TenantPolicy {
            name: tenant(),
            policy: self.file().display().to_string(),
            settings: json!({}),
            abilities: typical_host(),
            signers: Signers::default(),
            failure: FailurePolicies::default(),
            limits: PolicyLimits::default().of_a_tenant(),
        }
    }

    fn current(&self) -> Current {
        self.policies.managed(&tenant()).unwrap().current()
    }

    fn kept(&self) -> TenantState {
        self.policies.parts.library.state(&tenant().0).unwrap().unwrap()
    }

    fn at_step(&self, act: impl Fn(Step) + Send + Sync + 'static) {
        assert!(self.at_step.set(Box::new(act)).is_ok());
    }

    /// Once, when this step is passed, something else happens on another thread: until it is over, or waits.
    fn meanwhile(&self, at: Step, act: impl Fn() + Send + Sync + 'static) -> Other {
        let other = Other::default();
        let (begun, is_begun, act) = (Arc::clone(&other), AtomicBool::new(false), Arc::new(act));
        self.at_step(move |step| {
            if step != at || is_begun.swap(true, Ordering::Relaxed) {
                return;
            }
            let act = Arc::clone(&act);
            let thread = spawn(move || act());
            let since = Instant::now();
            while !thread.is_finished() && since.elapsed() < MEANWHILE {
                std::thread::yield_now();
            }
            *begun.lock().unwrap() = Some(thread);
        });
        other
    }
}

fn tenant() -> TenantName {
    TenantName("example".into())
}

fn hostile() -> Vec<u8> {
    std::fs::read(Path::new(restante_policy::hostile::PATH)).unwrap()
}

fn proposal(component: &[u8]) -> Proposal {
    Proposal { digest: digest_of(component), settings: None, signature: None }
}

fn end(other: &Other) {
    other.lock().unwrap().take().unwrap().join().unwrap();
}

#[test]
fn a_file_that_is_looked_at_does_not_undo_a_configuration_that_comes_meanwhile() {
    let place = Place::new();
    let mut later = place.configured();
    later.limits.max_decisions_at_once += 1;
    let (policies, reloaded) = (Arc::clone(&place.policies), later.clone());
    let reload = place.meanwhile(Step::CheckSettings, move || _ = policies.apply(reloaded.clone()).unwrap());
    std::fs::write(place.file(), hostile()).unwrap();
    place.policies.file_changed(&tenant()).unwrap();
    end(&reload);
    let current = place.current();
    assert_eq!(current.configured, later);
    assert_eq!(current.state.active.digest, digest_of(&hostile()), "the file is taken all the same");
    assert_eq!(place.kept(), current.state);
}

#[test]
fn a_file_that_is_looked_at_does_not_bring_a_tenant_back_that_is_removed_meanwhile() {
    let place = Place::new();
    let policies = Arc::clone(&place.policies);
    let removal = place.meanwhile(Step::CheckSettings, move || policies.remove(&tenant()));
    std::fs::write(place.file(), hostile()).unwrap();
    let _ = place.policies.file_changed(&tenant());
    end(&removal);
    assert!(place.policies.tenants().is_empty());
    assert!(place.policies.host().statistics_of(&tenant()).is_none());
}

#[test]
fn what_is_activated_between_the_parts_of_a_change_stays_until_the_change_is_made_anew() {
    let place = Place::new();
    let changed = TenantPolicy { settings: json!({ "few": 7 }), ..place.configured() };
    let ready = place.policies.ready(changed, Occasion::Change).unwrap();
    place.policies.upload(&hostile()).unwrap();
    place.policies.activate(&tenant(), proposal(&hostile())).unwrap();
    place.policies.keep_ready(&ready).unwrap();
    assert_eq!(place.kept().active.digest, digest_of(&hostile()), "a restart now finds what decides");
    place.policies.take(ready).unwrap();
    let kept = place.kept();
    assert_eq!((kept.active.number, &kept.active.settings), (3, &json!({ "few": 7 })));
    assert_eq!(kept, place.current().state);
}

#[test]
fn nothing_is_swept_between_a_component_and_the_state_that_names_it() {
    let place = Place::new();
    place.policies.upload(&hostile()).unwrap();
    let (policies, steps) = (Arc::clone(&place.policies), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&steps);
    place.at_step(move |step| {
        if policies.components.try_lock().is_err() {
            seen.lock().unwrap().push(step);
        }
    });
    place.policies.activate(&tenant(), proposal(&hostile())).unwrap();
    assert_eq!(*steps.lock().unwrap(), [Step::Write, Step::Keep]);
}

#[test]
fn a_change_that_what_decides_refuses_changes_nothing_on_disk_or_in_memory() {
    let place = Place::new();
    place.policies.upload(&hostile()).unwrap();
    place.policies.activate(&tenant(), proposal(&hostile())).unwrap();
    let before = place.kept();
    let signers = Signers::parse(&["BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=".to_owned()]).unwrap();
    // The generation before it would do: the policy of this program needs no signature.
    let refused = place.policies.ready(TenantPolicy { signers, ..place.configured() }, Occasion::Change).err();
    assert!(refused.unwrap().to_string().contains("signed policies only"));
    assert_eq!(place.kept(), before);
    assert_eq!((place.current().configured, place.current().state), (place.configured(), before));
}

#[test]
fn what_was_activated_by_command_stays_when_the_program_has_another_standard_policy() {
    let mut place = Place::new();
    place.started_with(place.standard());
    place.policies.upload(&hostile()).unwrap();
    place.policies.activate(&tenant(), proposal(&hostile())).unwrap();
    place.was_standard(format!("standard:{}", "0".repeat(64)));
    for _ in 0..2 {
        place.started_with(place.standard());
        let kept = place.kept();
        assert_eq!(
            (kept.active.digest.as_str(), kept.active.origin),
            (&*digest_of(&hostile()), library::Origin::Upload)
        );
    }
    // Nor does the next one depose it when it was gone back to.
    place.policies.roll_back(&tenant(), None).unwrap();
    let number = place.kept().active.number;
    place.started_with(place.standard());
    assert_eq!(place.kept().active.number, number);
    // Other settings are something else.
    place.started_with(TenantPolicy { settings: json!({ "few": 7 }), ..place.standard() });
    assert_eq!(place.kept().active.origin, library::Origin::Configuration);
    assert!(place.kept().active.number > number);
}

#[test]
fn another_standard_policy_of_the_program_takes_the_place_of_the_one_before() {
    let standard = digest_of(restante_policy::standard::COMPONENT);
    let mut place = Place::new();
    std::fs::write(place.file(), hostile()).unwrap();
    place.policies.file_changed(&tenant()).unwrap();
    place.was_standard(format!("standard:{}", digest_of(&hostile())));
    let number = place.kept().active.number;
    place.started_with(place.standard());
    let kept = place.kept();
    assert_eq!((kept.active.digest.as_str(), kept.active.number), (standard.as_str(), number + 1));
    assert_eq!(kept.configured, Some((format!("standard:{standard}"), json!({}))));
}

#[test]
fn a_state_of_the_first_programs_says_no_less_of_the_standard_policy() {
    let standard = digest_of(restante_policy::standard::COMPONENT);
    let mut place = Place::new();
    place.policies.upload(&hostile()).unwrap();
    place.policies.activate(&tenant(), proposal(&hostile())).unwrap();
    // Of this program, and of one whose standard policy was other bytes.
    let mut state = place.kept();
    for earlier in [standard, "0".repeat(64)] {
        state.previous[0].digest.clone_from(&earlier);
        state.configured = Some((earlier, json!({})));
        place.policies.parts.library.keep_state(&tenant().0, &state).unwrap();
        place.started_with(place.standard());
        assert_eq!(place.kept().active.digest, digest_of(&hostile()));
    }
}

#[test]
fn a_state_that_cannot_be_read_is_set_aside_at_a_start_and_stands_in_nobodys_way() {
    let mut place = Place::new();
    place.policies.upload(&hostile()).unwrap();
    place.policies.activate(&tenant(), proposal(&hostile())).unwrap();
    let tenants = place.directory.path().join("policies/tenants");
    std::fs::write(tenants.join("example.json"), "{").unwrap();
    std::fs::write(tenants.join("other.json"), "").unwrap();
    place.policies.upload(b"a component of somebody else").unwrap();
    let configured = place.configured();
    place.started_with(configured);
    let kept = place.kept();
    assert_eq!(kept.active.digest, digest_of(restante_policy::standard::COMPONENT), "what is configured");
    assert_eq!((kept.active.number, kept.active.origin), (1, library::Origin::Configuration));
    assert_eq!(std::fs::read_to_string(tenants.join("example.json-unreadable")).unwrap(), "{");
    // What the tenants of another program have is not touched.
    let newer =
        std::fs::read_to_string(tenants.join("example.json")).unwrap().replace("\"format\": 1", "\"format\": 2");
    std::fs::write(tenants.join("example.json"), &newer).unwrap();
    let policies = Place::policies(place.directory.path(), &place.at_step);
    let refused = policies.ready(place.configured(), Occasion::Start).err().unwrap().to_string();
    assert!(refused.contains("example.json: format 2; this program knows 1"), "{refused}");
}

#[test]
fn who_looked_on_does_not_come_back_with_a_tenant_that_was_removed() {
    let place = Place::new();
    let (policies, hostile) = (&place.policies, hostile());
    policies.upload(&hostile).unwrap();
    policies.activate(&tenant(), proposal(&hostile)).unwrap();
    let recording = library::Recording { sample_permille: 1000, max_bytes: 1 << 20, plain_addresses: true };
    let looked_on = |state: &TenantState| (state.candidate.is_some(), state.recording.is_some());
    for is_told in [true, false] {
        policies.try_out(&tenant(), proposal(&hostile), 1000).unwrap();
        policies.set_recording(&tenant(), Some(recording)).unwrap();
        let before = place.kept();
        assert_eq!(looked_on(&before), (true, true));
        policies.remove(&tenant());
        assert_eq!(looked_on(&place.kept()), (false, false));
        if !is_told {
            // It was gone when a server started, which did not see it go.
            policies.parts.library.keep_state(&tenant().0, &before).unwrap();
        }
        policies.apply(place.configured()).unwrap();
        let current = place.current();
        assert_eq!(current.state.active.digest, digest_of(&hostile), "what decided comes back");
        assert_eq!(looked_on(&current.state), (false, false));
        assert!(current.candidate.is_none() && current.recorder.is_none());
        assert_eq!(place.kept(), current.state);
    }
    let records = policies.parts.library.records(&tenant().0);
    assert!(records.exists());
    policies.parts.library.keep_cases(&tenant().0, Some(b"cases")).unwrap();
    policies.remove(&tenant());
    policies.forget(&tenant()).unwrap();
    assert!(!records.exists());
    assert_eq!(policies.parts.library.cases(&tenant().0).unwrap(), None);
    policies.apply(place.configured()).unwrap();
    assert_eq!((place.kept().active.number, place.kept().active.origin), (1, library::Origin::Configuration));
}
