//! What is activated while somebody else is at work.

use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use restante_policy::{PolicyEngine, PolicyLimits, standard};

use super::*;

/// The standard policy with a custom section of its own behind it: another digest.
fn component(mark: u8) -> Vec<u8> {
    [standard::COMPONENT, &[0, 3, 1, b'n', mark]].concat()
}

fn policies(directory: &std::path::Path, watcher: Watcher) -> Policies {
    let limits = PolicyLimits { threads: 1, ..PolicyLimits::default() };
    let engine = PolicyEngine::new(limits.clone()).unwrap();
    let host = PolicyHost::start(&engine, |_, _| {}, |_| {}).unwrap();
    let parts = Parts {
        loader: Loader::new(engine, None).unwrap(),
        meter: Meter::new(limits.clone(), None).unwrap(),
        library: Library::open(directory).unwrap(),
        pseudonym_secret: [0; 64],
        max_component_bytes: limits.max_component_bytes,
        clock: Arc::new(|| Timestamp(1)),
        watcher,
    };
    Policies::new(host, parts)
}

#[test]
fn a_component_that_is_being_kept_is_not_swept_by_who_uploads_others() {
    let directory = tempfile::tempdir().unwrap();
    let known: Arc<OnceLock<Arc<Policies>>> = Arc::default();
    let uploading = Arc::new(Mutex::new(Vec::new()));
    let watcher: Watcher = {
        let (known, uploading) = (known.clone(), uploading.clone());
        Arc::new(move |step| {
            let (Step::Write, Some(policies)) = (step, known.get().cloned()) else { return };
            let (done, is_done) = channel();
            let upload = move || {
                for number in 0..40 {
                    policies
                        .upload(format!("another for {:?}: {number}", std::thread::current().id()).as_bytes())
                        .unwrap();
                }
                let _ = done.send(());
            };
            uploading.lock().unwrap().push(std::thread::spawn(upload));
            // They may come to it only after what is going on.
            let _ = is_done.recv_timeout(Duration::from_secs(1));
        })
    };
    let policies = Arc::new(policies(directory.path(), watcher));
    let tenant = TenantName("example".into());
    policies
        .apply(TenantPolicy {
            name: tenant.clone(),
            policy: STANDARD.to_owned(),
            settings: serde_json::json!({}),
            abilities: HostAbilities { max_page_bytes: 1_300, max_message_bytes: 1 << 20, hand_over_targets: vec![] },
            signers: Signers::default(),
            failure: FailurePolicies::default(),
            limits: PolicyLimits::default().of_a_tenant(),
        })
        .unwrap();
    let proposal = |digest| Proposal { digest, settings: None, signature: None };
    let _ = known.set(policies.clone());
    let is_there = |digest: &str| {
        let threads: Vec<_> = uploading.lock().unwrap().drain(..).collect();
        assert!(!threads.is_empty());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        policies.parts.library.component(digest).is_ok()
    };
    let candidate = policies.upload(&component(1)).unwrap();
    policies.try_out(&tenant, proposal(candidate.clone()), 10).unwrap();
    assert!(is_there(&candidate), "it is named");
    let active = policies.upload(&component(2)).unwrap();
    policies.activate(&tenant, proposal(active.clone())).unwrap();
    assert!(is_there(&active), "it is named");
}
