//! The process ends at any step of an activation.

use restante_tests::{Program, Served, guest};
use serde_json::Value;

/// What ends the program, and what decides after that.
const STEPS: [(&str, u64); 9] = [
    ("component", 1),
    ("signature", 1),
    ("compile", 1),
    ("world", 1),
    ("check-settings", 1),
    ("cases", 1),
    ("write", 1),
    ("keep", 2),
    ("switch", 2),
];

fn status(program: &Program) -> Value {
    let finished = program.ask(&["policy", "status", "example", "--json"]);
    assert!(finished.status.success(), "{finished:?}");
    serde_json::from_str(&finished.stdout).expect("JSON")
}

#[tokio::test]
async fn a_working_generation_is_found_wherever_an_activation_was_cut_off() {
    for (step, expected) in STEPS {
        let program = Program::new("");
        let first: Served = program.serve().await;
        drop(first);
        let mut served = program.serve_with(&["--abort-after", step]).await;
        let cut_off = program.ask(&["policy", "activate", "example", &guest("scripted")]);
        assert!(!cut_off.status.success(), "{step}: {cut_off:?}");
        assert!(!served.ended().await.success(), "{step}");
        let served = program.serve().await;
        assert_eq!(status(&program)["active"]["number"], expected, "cut off after {step}");
        let again = program.ask(&["policy", "activate", "example", &guest("scripted")]);
        assert!(again.status.success(), "{step}: {again:?}");
        drop(served);
    }
}
