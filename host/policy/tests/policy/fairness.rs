//! Many tenants on few threads.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use restante_deferral::decision::{Answer, Undecided};
use restante_policy::{LoadError, Loader, PolicyEngine, PolicyHost, PolicyLimits, TenantPolicyLimits};

use crate::support::{ENGINE, HOSTILE, abilities, arrival_for, hostile, hostile_of, tenant};

/// How long anything that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often such a machine may be late with what has its time.
const ATTEMPTS: usize = 5;

type Outcome = (&'static str, Result<Answer, Undecided>);

fn host_with(engine: &PolicyEngine) -> (PolicyHost<&'static str>, mpsc::Receiver<Outcome>) {
    let (sender, receiver) = mpsc::channel();
    let host = PolicyHost::start(engine, move |ticket, outcome| drop(sender.send((ticket, outcome))), |_| {}).unwrap();
    (host, receiver)
}

#[test]
fn a_tenant_that_burns_its_time_does_not_delay_another() {
    // Two threads, whatever the machine has: one is then all that the burner gets.
    let limits =
        PolicyLimits { deadline: Duration::from_secs(3), threads: 2, max_wait: PATIENCE, ..Default::default() };
    let engine = PolicyEngine::new(limits).unwrap();
    let loader = Loader::new(engine.clone(), None).unwrap();
    let (host, outcomes) = host_with(&engine);
    host.set_generation(&tenant("burner"), hostile_of(&loader, "endless-loop"));
    host.set_generation(&tenant("quiet"), hostile_of(&loader, "good"));
    for _ in 0..60 {
        host.submit("burner", arrival_for("burner")).unwrap();
    }
    let started_at = Instant::now();
    for _ in 0..50 {
        host.submit("quiet", arrival_for("quiet")).unwrap();
    }
    let mut quiet = 0;
    let mut burnt = 0;
    while quiet < 50 {
        match outcomes.recv_timeout(PATIENCE).unwrap() {
            ("quiet", outcome) => {
                assert!(outcome.is_ok());
                quiet += 1;
            }
            (_, outcome) => {
                // After some it is spared, see the breaker.
                assert!(matches!(outcome, Err(Undecided::TimedOut | Undecided::Suspended)), "{outcome:?}");
                burnt += usize::from(outcome == Err(Undecided::TimedOut));
            }
        }
    }
    // With both threads the burner would take nine seconds to fail five times, after which it is spared.
    assert!(started_at.elapsed() < Duration::from_secs(8), "{:?}", started_at.elapsed());
    assert!(burnt < 25, "{burnt}");
}

#[test]
fn what_waits_is_bounded_per_tenant_and_the_ticket_comes_back() {
    // All are submitted before the first has burnt its second.
    let (deadline, max_wait) = (Duration::from_secs(1), PATIENCE);
    let limits = PolicyLimits { deadline, max_wait, threads: 1, max_waiting_per_tenant: 3, ..PolicyLimits::default() };
    let engine = PolicyEngine::new(limits).unwrap();
    let loader = Loader::new(engine.clone(), None).unwrap();
    let busy = hostile_of(&loader, "endless-loop");
    let (host, outcomes) = host_with(&engine);
    host.set_generation(&tenant("example"), busy);
    let refused = (0..50).filter(|_| host.submit("x", arrival_for("example")) == Err("x")).count();
    assert!((40..=47).contains(&refused), "{refused}");
    for _ in refused..50 {
        let (_, outcome) = outcomes.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(outcome, Err(Undecided::TimedOut | Undecided::Suspended)), "{outcome:?}");
    }
    assert_eq!(host.statistics()[0].hooks[0].overloaded, refused as u64);
    assert_eq!(host.statistics()[0].hooks[0].asked, 50);
}

#[test]
fn a_question_that_waited_too_long_is_not_asked() {
    let limits = PolicyLimits { threads: 1, max_wait: Duration::ZERO, ..PolicyLimits::default() };
    let engine = PolicyEngine::new(limits).unwrap();
    let loader = Loader::new(engine.clone(), None).unwrap();
    let good = hostile_of(&loader, "good");
    let (host, outcomes) = host_with(&engine);
    host.set_generation(&tenant("example"), good);
    host.submit("late", arrival_for("example")).unwrap();
    assert_eq!(outcomes.recv_timeout(PATIENCE).unwrap(), ("late", Err(Undecided::Overloaded)));
}

#[test]
fn a_generation_is_replaced_while_questions_come() {
    let (host, outcomes) = host_with(&ENGINE);
    let next = || outcomes.recv_timeout(PATIENCE).unwrap().1;
    host.submit("x", arrival_for("example")).unwrap();
    assert_eq!(next(), Err(Undecided::Declined), "a tenant without a policy");
    for (behaviour, decides) in [("good", true), ("err", false), ("good", true)] {
        host.set_generation(&tenant("example"), hostile(behaviour));
        host.submit("x", arrival_for("example")).unwrap();
        assert_eq!(next().is_ok(), decides, "{behaviour}");
    }
    host.remove(&tenant("example"));
    host.submit("x", arrival_for("example")).unwrap();
    assert_eq!(next(), Err(Undecided::Declined));
    assert!(host.statistics().is_empty());
}

#[test]
fn each_tenant_has_the_time_and_the_memory_that_its_limits_say() {
    let (host, outcomes) = host_with(&ENGINE);
    let usual = ENGINE.limits().of_a_tenant();
    let ask = |ticket: &'static str| {
        host.submit(ticket, arrival_for(ticket)).unwrap();
        outcomes.recv_timeout(PATIENCE).unwrap()
    };
    host.set_generation(&tenant("burner"), hostile("endless-loop"));
    // The engine's own deadline is five seconds.
    host.configure(&tenant("burner"), TenantPolicyLimits { deadline: Duration::from_millis(10), ..usual });
    let started_at = Instant::now();
    assert_eq!(ask("burner"), ("burner", Err(Undecided::TimedOut)));
    assert!(started_at.elapsed() < Duration::from_millis(4_500), "{:?}", started_at.elapsed());

    // A tenant may be told its limits before it has a policy.
    host.configure(&tenant("small"), TenantPolicyLimits { max_memory_bytes: 64 << 10, ..usual });
    host.set_generation(&tenant("small"), hostile("good"));
    assert_eq!(ask("small"), ("small", Err(Undecided::OutOfMemory)), "its memory alone is larger");
    host.configure(&tenant("small"), usual);
    assert!(ask("small").1.is_ok());
}

#[test]
fn so_many_decisions_of_a_tenant_run_at_once_as_its_limits_say() {
    // Four of them take a second together or four after each other, whoever else is busy here.
    let (deadline, max_wait) = (Duration::from_secs(1), PATIENCE);
    let limits = PolicyLimits { deadline, threads: 4, max_wait, ..PolicyLimits::default() };
    let engine = PolicyEngine::new(limits).unwrap();
    let loader = Loader::new(engine.clone(), None).unwrap();
    let policy = hostile_of(&loader, "endless-loop");
    let took = |at_once: usize| {
        let (host, outcomes) = host_with(&engine);
        host.set_generation(&tenant("burner"), policy.clone());
        let usual = engine.limits().of_a_tenant();
        assert_eq!(usual.max_decisions_at_once, 2);
        host.configure(&tenant("burner"), TenantPolicyLimits { max_decisions_at_once: at_once, ..usual });
        let started_at = Instant::now();
        for _ in 0..4 {
            host.submit("burner", arrival_for("burner")).unwrap();
        }
        for _ in 0..4 {
            assert_eq!(outcomes.recv_timeout(PATIENCE).unwrap().1, Err(Undecided::TimedOut));
        }
        started_at.elapsed()
    };
    let one_by_one = took(1);
    assert!(one_by_one >= Duration::from_secs(4), "{one_by_one:?}");
    let is_together = (0..ATTEMPTS).any(|_| took(4) < Duration::from_millis(3_600));
    assert!(is_together, "four at once take as long as one after the other");
}

#[test]
fn settings_that_are_checked_at_once_leave_room_for_decisions() {
    let limits = PolicyLimits { check_deadline: Duration::from_millis(100), threads: 2, ..PolicyLimits::default() };
    let (deadline, max_wait) = (Duration::from_secs(5), PATIENCE);
    let engine = PolicyEngine::new(PolicyLimits { deadline, max_wait, ..limits }).unwrap();
    let loader = Loader::new(engine.clone(), None).unwrap();
    let (host, outcomes) = host_with(&engine);
    host.set_generation(&tenant("quiet"), hostile_of(&loader, "good"));
    let cores = std::thread::available_parallelism().unwrap().get();
    let compiled = loader.compile(HOSTILE).unwrap();
    let check = || loader.settle(&compiled, r#"{"behaviour": "endless-loop", "when": "check"}"#, &abilities());
    std::thread::scope(|scope| {
        // More than there are slots.
        let checks: Vec<_> = (0..2 * (cores + 10)).map(|_| scope.spawn(check)).collect();
        let mut decided = 0;
        while !checks.iter().all(|check| check.is_finished()) {
            host.submit("quiet", arrival_for("quiet")).unwrap();
            let (_, outcome) = outcomes.recv_timeout(PATIENCE).unwrap();
            assert!(outcome.is_ok(), "{outcome:?}");
            decided += 1;
        }
        assert!(decided > 0);
        for check in checks {
            let loaded = check.join().unwrap();
            assert!(matches!(&loaded, Err(LoadError::CheckFailed(why)) if why.contains("interrupt")), "{loaded:?}");
        }
    });
}
