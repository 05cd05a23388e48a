//! Policies that no compiler makes: those of `plugin/hostile/by-hand/policy.wat`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use restante_deferral::decision::Undecided;
use restante_policy::record::typical_question;
use restante_policy::{Generation, Hook, LoadError, Loader, decide};

use crate::support::{HASTY, LOADER, abilities, by_hand, engine, hostile};

fn loaded(loader: &Loader, name: &str) -> Result<Arc<Generation>, LoadError> {
    loader.load(&by_hand(name), "{}", &abilities()).map(|loaded| loaded.generation)
}

/// Asks about every hook; what each time took.
fn each_hook(generation: &Generation, expected: Undecided, name: &str) -> Vec<Duration> {
    let asked = Hook::ALL.map(|hook| {
        let question = typical_question(hook).unwrap();
        let began = Instant::now();
        assert_eq!(decide(generation, question), Err(expected), "{name}, {}", hook.name());
        began.elapsed()
    });
    asked.to_vec()
}

#[test]
fn the_harmless_one_answers() {
    let generation = loaded(&LOADER, "harmless").unwrap();
    assert_eq!(generation.description().name, "by-hand");
    for hook in Hook::ALL {
        assert!(decide(&generation, typical_question(hook).unwrap()).is_ok(), "{}", hook.name());
    }
}

#[test]
fn what_begins_with_too_much_or_never_ends_at_once_is_not_taken() {
    for (name, expected) in [
        ("vast-memory", "exceeds the limit"),
        ("too-much-memory", "exceeds the limit"),
        ("vast-table", "exceeds the limit"),
        ("loop-in-start", "describe failed: wasm trap: interrupt"),
        ("loop-in-allocation", "failed while it checked its settings: wasm trap: interrupt"),
    ] {
        let began = Instant::now();
        let error = loaded(&HASTY, name).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{name}: {:?}", began.elapsed());
    }
}

#[test]
fn loops_outside_of_hooks_are_ended_at_the_deadline() {
    let deadline = Duration::from_millis(5);
    let loader = Loader::new(engine(deadline, 1), None).unwrap();
    for name in ["slow-start", "loop-in-late-allocation", "loop-after-answer", "endless-log"] {
        let generation = match loaded(&loader, name) {
            Ok(generation) => generation,
            // On a machine that is too busy for it.
            Err(error) if name == "slow-start" && error.to_string().contains("interrupt") => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        let once = each_hook(&generation, Undecided::TimedOut, name);
        // A busy machine may be late, and hardly with the same one twice.
        let again = each_hook(&generation, Undecided::TimedOut, name);
        for (once, again) in once.into_iter().zip(again) {
            let took = once.min(again);
            assert!(took >= deadline && took < Duration::from_secs(2), "{name}: {once:?} {again:?}");
        }
    }
}

#[test]
fn whatever_it_does_has_its_verdict_and_leaves_nothing_behind() {
    for (name, expected) in [
        ("table-bomb", Undecided::Trapped),
        ("not-a-number", Undecided::Trapped),
        ("negative", Undecided::Trapped),
        ("wild-allocation", Undecided::Impossible),
        ("wild-log-line", Undecided::Impossible),
        ("unknown-log-level", Undecided::Impossible),
        ("answer-outside", Undecided::Impossible),
        ("answer-askew", Undecided::Impossible),
        ("answer-unknown-case", Undecided::Impossible),
        ("answer-long-text", Undecided::Impossible),
        ("answer-not-text", Undecided::Impossible),
    ] {
        let generation = loaded(&LOADER, name).unwrap();
        each_hook(&generation, expected, name);
        let good = decide(&hostile("good"), typical_question(Hook::Incoming).unwrap());
        assert!(good.is_ok(), "after {name}: {good:?}");
    }
}

#[test]
fn an_answer_with_a_list_longer_than_memory_is_not_read() {
    let generation = loaded(&LOADER, "answer-long-list").unwrap();
    for hook in [Hook::Failure, Hook::Expiry] {
        assert_eq!(decide(&generation, typical_question(hook).unwrap()), Err(Undecided::Impossible));
    }
}

#[test]
fn a_guest_that_overwrites_its_own_question_harms_itself_alone() {
    let generation = loaded(&LOADER, "one-place-for-all").unwrap();
    for hook in Hook::ALL {
        assert!(decide(&generation, typical_question(hook).unwrap()).is_ok(), "{}", hook.name());
    }
}
