//! Every story of the demonstration, its clients and its server told apart by Kamailio.

use std::sync::Arc;

use restante::demo::{Options, run_story, stories};
use restante_tests::binary;

use crate::kamailio::Configuration;

const LARGE_BYTES: u64 = 2_000_000;
/// It has a core of its own, which brings a request back: see `loops`.
const WITH_ITS_OWN_CORE: &str = "outbound-proxy";

#[test]
fn all_stories_are_told_with_kamailio_as_registrar() {
    tell_all("kamailio-registrar");
}

#[test]
fn all_stories_are_told_with_kamailio_in_front() {
    tell_all("kamailio-in-front");
}

fn tell_all(name: &'static str) {
    let Some(configuration) = Configuration::of(name) else { return };
    let front = Arc::new(configuration);
    let options = Options { large_bytes: LARGE_BYTES, front: Some(front), ..Options::new(binary()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for story in stories().iter().filter(|story| story.name != WITH_ITS_OWN_CORE) {
        let report = runtime.block_on(run_story(story.name, &options)).expect("a story");
        assert!(report.is_success(), "{name}, {}: {:#?}", story.name, report.failures);
        eprintln!("{name}, {}: {:?}", story.name, report.sums);
    }
}
