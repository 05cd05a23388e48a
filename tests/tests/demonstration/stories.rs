//! Every story of `restante demo` ends well, and shows what it says it shows.

use restante::demo::{Options, Report, run_story, stories};
use restante_tests::binary;

/// Two hundred chunks are no other story than three hundred.
const LARGE_BYTES: u64 = 2_000_000;

async fn told(name: &str) -> Report {
    let options = Options { large_bytes: LARGE_BYTES, ..Options::new(binary()) };
    let report = run_story(name, &options).await.unwrap();
    assert!(report.is_success(), "{:#?}\n{}", report.failures, report.diagram().join("\n"));
    report
}

fn count(labels: &[&str], beginning: &str) -> usize {
    labels.iter().filter(|label| label.starts_with(beginning)).count()
}

/// Each label once: what a busy machine answers late is sent again.
fn kinds<'a>(labels: &[&'a str]) -> Vec<&'a str> {
    let mut kinds = Vec::new();
    for label in labels {
        if !kinds.contains(label) {
            kinds.push(*label);
        }
    }
    kinds
}

#[test]
fn every_story_is_tested_here() {
    let names: Vec<&str> = stories().iter().map(|story| story.name).collect();
    let expected = [
        "page-push",
        "session-push",
        "large-file",
        "pull-fetch",
        "pull-few",
        "never-fetches",
        "expiry",
        "outbound-proxy",
        "crash",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_story_that_is_not_there_is_an_error_that_names_those_that_are() {
    let error = run_story("nonsense", &Options::new(binary())).await.unwrap_err();
    assert!(error.to_string().contains("page-push"), "{error}");
}

#[tokio::test]
async fn page_push() {
    let report = told("page-push").await;
    let to_bob = report.messages("Restante", "Bob");
    assert_eq!(kinds(&to_bob), ["200 OK (REGISTER)", "MESSAGE", "202 Accepted (MESSAGE)"]);
    assert_eq!(count(&kinds(&report.messages("Restante", "Alice")), "MESSAGE"), 1, "the notification");
}

#[tokio::test]
async fn session_push() {
    let report = told("session-push").await;
    let sent = report.messages("Restante", "Bob");
    let once = kinds(&sent);
    assert_eq!((count(&once, "INVITE"), count(&sent, "MSRP SEND"), count(&once, "BYE")), (1, 5, 1), "{sent:?}");
    assert_eq!(count(&report.messages("Bob", "Restante"), "BYE"), 0);
}

#[tokio::test]
async fn large_file() {
    let report = told("large-file").await;
    for (from, to) in [("Alice", "Restante"), ("Restante", "Bob")] {
        let sent = report.messages(from, to);
        assert_eq!(sent.iter().filter(|label| label.contains("more SENDs")).count(), 1, "{sent:?}");
    }
    assert_eq!(report.accounts[0].sent.size, LARGE_BYTES);
}

#[tokio::test]
async fn pull_fetch() {
    let report = told("pull-fetch").await;
    let asked = report.messages("Bob", "Restante");
    assert_eq!(count(&kinds(&asked), "INVITE sip:deferred@example.org"), 2, "with a list and without: {asked:?}");
    assert_eq!(count(&report.messages("Restante", "Bob"), "MSRP SEND"), 3);
}

#[tokio::test]
async fn pull_few() {
    let report = told("pull-few").await;
    let to_bob = report.messages("Restante", "Bob");
    assert_eq!((kinds(&to_bob), report.sums.delivered), (vec!["200 OK (REGISTER)", "MESSAGE"], 2));
    assert!(count(&to_bob, "MESSAGE") >= 2, "one by one: {to_bob:?}");
}

#[tokio::test]
async fn never_fetches() {
    let report = told("never-fetches").await;
    assert_eq!(count(&report.messages("Bob", "Restante"), "INVITE"), 0);
}

#[tokio::test]
async fn expiry() {
    let report = told("expiry").await;
    assert_eq!((report.sums.sent, report.sums.delivered, report.sums.expired), (2, 1, 1));
}

#[tokio::test]
async fn outbound_proxy() {
    let report = told("outbound-proxy").await;
    // The story itself sees that one was looped back and one went to Bob.
    let sent = report.messages("Restante", "SIP core");
    assert!(count(&sent, "MESSAGE tel:+15550123") >= 2, "once more after the loop: {sent:?}");
    assert_eq!(kinds(&report.messages("SIP core", "Bob")), ["MESSAGE"]);
}

#[tokio::test]
async fn crash() {
    let report = told("crash").await;
    assert_eq!((report.sums.sent, report.sums.delivered), (2, 2));
}
