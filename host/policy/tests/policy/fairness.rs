//! Many tenants on few threads.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use restante_deferral::decision::{Answer, Undecided};
use restante_policy::{Loader, PolicyEngine, PolicyHost, PolicyLimits};

use crate::support::{ENGINE, arrival_for, engine, hostile, hostile_of, tenant};

type Outcome = (&'static str, Result<Answer, Undecided>);

fn host_with(engine: &PolicyEngine) -> (PolicyHost<&'static str>, mpsc::Receiver<Outcome>) {
    let (sender, receiver) = mpsc::channel();
    let host = PolicyHost::start(engine, move |ticket, outcome| drop(sender.send((ticket, outcome))), |_| {}).unwrap();
    (host, receiver)
}

#[test]
fn a_tenant_that_burns_its_time_does_not_delay_another() {
    // Two threads, whatever the machine has: one is then all that the burner gets.
    let engine = engine(Duration::from_millis(100), 2);
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
        match outcomes.recv_timeout(Duration::from_secs(10)).unwrap() {
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
    // Half a second of the burner's at most is in the way, on one of two threads.
    assert!(started_at.elapsed() < Duration::from_millis(2_500), "{:?}", started_at.elapsed());
    assert!(burnt < 25, "{burnt}");
}

#[test]
fn what_waits_is_bounded_per_tenant_and_the_ticket_comes_back() {
    let limits = PolicyLimits { threads: 1, max_waiting_per_tenant: 3, ..PolicyLimits::default() };
    let engine = PolicyEngine::new(limits).unwrap();
    let loader = Loader::new(engine.clone(), None).unwrap();
    let busy = hostile_of(&loader, "endless-loop");
    let (host, outcomes) = host_with(&engine);
    host.set_generation(&tenant("example"), busy);
    let refused = (0..50).filter(|_| host.submit("x", arrival_for("example")) == Err("x")).count();
    assert!((40..=47).contains(&refused), "{refused}");
    for _ in refused..50 {
        let (_, outcome) = outcomes.recv_timeout(Duration::from_secs(10)).unwrap();
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
    assert_eq!(outcomes.recv_timeout(Duration::from_secs(10)).unwrap(), ("late", Err(Undecided::Overloaded)));
}

#[test]
fn a_generation_is_replaced_while_questions_come() {
    let (host, outcomes) = host_with(&ENGINE);
    let next = || outcomes.recv_timeout(Duration::from_secs(10)).unwrap().1;
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
