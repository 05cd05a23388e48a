//! Policies that fail, and what their tenants want then; and candidates that look on.

use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use restante_deferral::decision::{Answer, IncomingAnswer, Question, Undecided};
use restante_policy::{
    FailurePolicies, FailurePolicy, Generation, Hook, Loader, Observation, Party, PolicyHost, Shadow,
    TenantPolicyLimits,
};

use crate::support::{ENGINE, arrival_for, availability, context, engine, hostile, hostile_of, standard, tenant};

/// How long a policy that keeps failing is spared first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How often a busy machine may take longer.
const ATTEMPTS: usize = 20;

type Outcome = Result<Answer, Undecided>;

struct Host {
    host: PolicyHost<()>,
    outcomes: mpsc::Receiver<Outcome>,
}

impl Host {
    fn new(active: Arc<Generation>, previous: Option<Arc<Generation>>) -> Host {
        let (sender, outcomes) = mpsc::channel();
        let host = PolicyHost::start(&ENGINE, move |(), outcome| drop(sender.send(outcome)), |_| {}).unwrap();
        host.set_generations(&tenant("example"), active, previous);
        Host { host, outcomes }
    }

    fn ask(&self, question: Question) -> Outcome {
        self.host.submit((), question).unwrap();
        self.outcomes.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    fn asked_by_outsider(&self) -> Outcome {
        self.host.submit_for_outsider((), arrival_for("example")).unwrap();
        self.outcomes.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    fn arrival(&self) -> Outcome {
        self.ask(arrival_for("example"))
    }
}

fn is_kept(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(Answer::Incoming(IncomingAnswer::Keep(_))))
}

/// What is seen in less time than a policy is spared first: on a busy machine perhaps not at the first attempt.
fn within_a_pause<T>(look: impl Fn() -> T) -> T {
    for _ in 0..ATTEMPTS {
        let began = Instant::now();
        let seen = look();
        if began.elapsed() < FIRST_PAUSE {
            return seen;
        }
    }
    panic!("it always takes longer than {FIRST_PAUSE:?}");
}

#[test]
fn a_policy_that_keeps_failing_is_spared_until_it_gets_another_generation() {
    let (host, outcomes, statistics) = within_a_pause(|| {
        let host = Host::new(hostile("trap"), None);
        let outcomes: Vec<Outcome> = (0..8).map(|_| host.arrival()).collect();
        let statistics = host.host.statistics().remove(0);
        (host, outcomes, statistics)
    });
    let (trapped, spared) = outcomes.split_at(5);
    assert!(trapped.iter().all(|it| *it == Err(Undecided::Trapped)), "{trapped:?}");
    assert!(spared.iter().all(|it| *it == Err(Undecided::Suspended)), "{spared:?}");
    let statistics = &statistics.hooks[0];
    assert_eq!((statistics.trapped, statistics.suspended, statistics.is_suspended), (5, 3, true));
    assert!(
        host.ask(Question::Available(context(), availability(1))) != Err(Undecided::Suspended),
        "each hook has its own breaker"
    );
    host.host.set_generation(&tenant("example"), hostile("good"));
    assert!(is_kept(&host.arrival()));
}

#[test]
fn what_fails_at_outsiders_questions_is_spared_those_and_no_others() {
    let host = Host::new(hostile("good"), None);
    let suspended = || {
        let hook = &host.host.statistics()[0].hooks[0];
        (hook.is_suspended, hook.is_suspended_for_outsiders)
    };
    let (asked, are_suspended, of_the_server) = within_a_pause(|| {
        host.host.set_generation(&tenant("example"), hostile("trap"));
        let asked: Vec<Outcome> = (0..8).map(|_| host.asked_by_outsider()).collect();
        (asked, suspended(), host.arrival())
    });
    assert_eq!(asked[4..6], [Err(Undecided::Trapped), Err(Undecided::Suspended)]);
    assert_eq!(are_suspended, (false, true));
    assert_eq!(of_the_server, Err(Undecided::Trapped), "the server's own is asked");
    let (asked, are_suspended, of_outsiders) = within_a_pause(|| {
        host.host.set_generation(&tenant("example"), hostile("trap"));
        let asked: Vec<Outcome> = (0..5).map(|_| host.arrival()).collect();
        (asked, suspended(), host.asked_by_outsider())
    });
    assert_eq!((asked, are_suspended), (vec![Err(Undecided::Trapped); 5], (true, true)));
    assert_eq!(of_outsiders, Err(Undecided::Suspended), "what the server spares it, it spares it outsiders");
    host.host.set_generation(&tenant("example"), hostile("good"));
    for _ in 0..3 {
        assert!(is_kept(&host.asked_by_outsider()));
        host.host.note_unusable(&tenant("example"), Hook::Incoming, Party::Outsider, "not a refusal");
    }
    assert!(is_kept(&host.arrival()), "what outsiders cannot carry out says nothing of the server");
}

#[test]
fn more_at_once_than_there_is_room_for_is_no_failure_of_the_policy() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let patient = engine(Duration::from_secs(3), cores);
    let loader = Loader::new(patient, None).unwrap();
    let generation = hostile_of(&loader, "endless-loop");
    let slots = cores + cores + 8;
    // On a busy machine perhaps not all of them have begun when the first one ends.
    let were_too_many = (0..ATTEMPTS).any(|_| {
        let together = Barrier::new(slots + 3);
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let ask = || {
                together.wait();
                restante_policy::decide(&generation, arrival_for("example"))
            };
            let asked: Vec<_> = (0..slots + 3).map(|_| scope.spawn(ask)).collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let count = |why| outcomes.iter().filter(|outcome| **outcome == Err(why)).count();
        assert!(count(Undecided::TimedOut) >= slots, "{outcomes:?}");
        assert_eq!(count(Undecided::TimedOut) + count(Undecided::Overloaded), slots + 3, "{outcomes:?}");
        count(Undecided::Overloaded) > 0
    });
    assert!(were_too_many, "there is room for all");
}

/// Nobody is told that a thread is gone, and whoever asked would wait for ever.
#[test]
fn a_thread_that_panics_ends_the_process() {
    const CHILD: &str = "RESTANTE_POLICY_PANICKING_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let host = PolicyHost::start(&ENGINE, |(), _| panic!("the sink"), |_| {}).unwrap();
        host.submit((), arrival_for("example")).unwrap();
        std::thread::park_timeout(Duration::from_secs(20));
        return;
    }
    let ended = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["failing::a_thread_that_panics_ends_the_process", "--exact"])
        .env(CHILD, "")
        .output()
        .unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(6), "{ended:?}");
}

#[test]
fn what_happens_instead_is_the_tenants_word_per_hook() {
    let good = standard("{}").unwrap().generation;
    for (policy, previous, expected) in [
        (FailurePolicy::Default, Some(good.clone()), "trapped"),
        (FailurePolicy::Previous, Some(good.clone()), "kept"),
        (FailurePolicy::Previous, Some(hostile("err")), "trapped"),
        (FailurePolicy::Previous, None, "trapped"),
        (FailurePolicy::Refuse, Some(good), "refused with 480"),
    ] {
        let host = Host::new(hostile("trap"), previous);
        host.host.set_failure_policies(&tenant("example"), FailurePolicies::default().with(Hook::Incoming, policy));
        let found = match host.arrival() {
            Ok(Answer::Incoming(IncomingAnswer::Keep(_))) => "kept".to_owned(),
            Ok(Answer::Incoming(IncomingAnswer::Reject(it))) => format!("refused with {}", it.status),
            Err(Undecided::Trapped) => "trapped".to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(found, expected, "{policy:?}");
        let other_hook = host.ask(Question::Available(context(), availability(1)));
        assert_eq!(other_hook, Err(Undecided::Trapped), "the built-in answer for a hook of which nothing was said");
    }
}

#[test]
fn an_answer_that_cannot_be_carried_out_is_told_to_the_author_and_a_failure() {
    let (host, outcome) = within_a_pause(|| {
        let host = Host::new(hostile("good"), None);
        for _ in 0..4 {
            assert!(is_kept(&host.arrival()));
            host.host.note_unusable(&tenant("example"), Hook::Incoming, Party::Server, "not a refusal");
        }
        let outcome = host.arrival();
        (host, outcome)
    });
    assert_eq!(outcome, Err(Undecided::Suspended));
    let lines = host.host.log_lines(&tenant("example"), 0);
    assert_eq!(lines[0].text, "on-incoming: the answer cannot be carried out: not a refusal");
    assert_eq!(host.host.log_lines(&tenant("example"), lines[0].number).len(), lines.len() - 1);
    assert!(host.host.statistics()[0].hooks[0].impossible >= 2);
}

#[test]
fn a_candidate_is_compared_and_changes_nothing() {
    let host = Host::new(standard("{}").unwrap().generation, None);
    let candidate = standard(r#"{"few": 1}"#).unwrap().generation;
    let shadow = Arc::new(Shadow::new(candidate, 1000));
    host.host.observe(&tenant("example"), Observation { shadow: Some(shadow.clone()), recorder: None });
    let mut answers = Vec::new();
    for _ in 0..3 {
        assert!(is_kept(&host.arrival()));
        answers.push(host.ask(Question::Available(context(), availability(2))));
    }
    let expected =
        restante_policy::decide(&standard("{}").unwrap().generation, Question::Available(context(), availability(2)));
    assert!(answers.iter().all(|answer| *answer == expected), "what was done is what the active one said");
    wait_for(|| shadow.counts().asked == 6);
    let comparison = shadow.comparison();
    assert_eq!((comparison.total().identical, comparison.total().changed), (3, 3));
    let groups = comparison.groups();
    assert_eq!((groups.len(), groups[0].hook, groups[0].count), (1, Hook::Available, 3));
    let example = &groups[0].examples[0];
    assert_eq!(example.question, Question::Available(context(), availability(2)));
    assert_eq!(example.before, expected);
    assert_ne!(example.after, expected);
}

#[test]
fn a_candidate_sees_its_share_and_may_hang_without_harm() {
    let host = Host::new(hostile("good"), None);
    let shadow = Arc::new(Shadow::new(hostile("endless-loop"), 100));
    host.host.observe(&tenant("example"), Observation { shadow: Some(shadow.clone()), recorder: None });
    for _ in 0..20 {
        assert!(is_kept(&host.arrival()));
    }
    wait_for(|| shadow.counts().asked == 2);
    assert_eq!(shadow.counts().skipped, 18);
    assert_eq!(shadow.comparison().groups()[0].examples[0].after, Err(Undecided::TimedOut));
    host.host.observe(&tenant("example"), Observation::default());
    assert!(is_kept(&host.arrival()));
    assert_eq!(shadow.counts().skipped + shadow.counts().asked, 20, "it is not asked any more");
}

#[test]
fn a_candidate_has_the_bounds_that_it_would_have_when_active() {
    let host = Host::new(hostile("good"), None);
    let limits = TenantPolicyLimits { max_memory_bytes: 64 << 10, ..ENGINE.limits().of_a_tenant() };
    host.host.configure(&tenant("example"), limits);
    let shadow = Arc::new(Shadow::new(hostile("good"), 1000));
    host.host.observe(&tenant("example"), Observation { shadow: Some(shadow.clone()), recorder: None });
    assert_eq!(host.arrival(), Err(Undecided::OutOfMemory), "its memory alone is larger");
    wait_for(|| shadow.counts().asked == 1);
    assert_eq!(shadow.comparison().total().identical, 1, "{:?}", shadow.comparison());
}

/// What a thread of its own does is waited for, not slept for.
fn wait_for(done: impl Fn() -> bool) {
    let started_at = Instant::now();
    while !done() {
        // The thread gives way to everything else on the machine.
        assert!(started_at.elapsed() < Duration::from_secs(120), "it never happened");
        std::thread::yield_now();
    }
}
