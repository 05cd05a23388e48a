//! Every story of the demonstration, its clients and its server told apart by Kamailio.

use std::sync::Arc;

use restante::demo::{Options, run_story, stories};
use restante_tests::binary;

use crate::kamailio::{Configuration, IN_FRONT, REGISTRAR};

const LARGE_BYTES: u64 = 2_000_000;
/// It has a core of its own, which brings a request back: see `loops`.
const WITH_ITS_OWN_CORE: &str = "outbound-proxy";

#[test]
fn all_stories_are_told_with_kamailio_as_registrar() {
    tell_all(Configuration::of(REGISTRAR));
}

#[test]
fn all_stories_are_told_with_kamailio_in_front() {
    tell_all(Configuration::of(IN_FRONT));
}

/// With messages queued, with a file stored, after a notification and before what is fetched, while the time of a message runs
/// out and before its sender heard of it.
#[test]
fn no_story_loses_anything_when_kamailio_as_registrar_and_the_server_are_killed_in_the_middle() {
    tell_all(Configuration::of(REGISTRAR).map(Configuration::interrupted));
}

#[test]
fn no_story_loses_anything_when_kamailio_in_front_and_the_server_are_killed_in_the_middle() {
    tell_all(Configuration::of(IN_FRONT).map(Configuration::interrupted));
}

fn tell_all(configuration: Option<Configuration>) {
    let Some(configuration) = configuration else { return };
    let name = configuration.name();
    let front = Arc::new(configuration);
    let options = Options { large_bytes: LARGE_BYTES, front: Some(front), ..Options::new(binary()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for story in stories().iter().filter(|story| story.name != WITH_ITS_OWN_CORE) {
        let report = runtime.block_on(run_story(story.name, &options)).expect("a story");
        assert!(report.is_success(), "{name}, {}: {:#?}", story.name, report.failures);
        assert_eq!((report.sums.lost, report.sums.wrong), (0, 0), "{name}, {}", story.name);
        eprintln!("{name}, {}: {:?}", story.name, report.sums);
    }
}
