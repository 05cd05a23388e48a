//! The stories, in the order in which they are told.

mod crash;
mod expiry;
mod large_file;
mod never_fetches;
mod outbound_proxy;
mod page_push;
mod pull_fetch;
mod pull_few;
mod session_push;

use super::Story;

const ALICE: &str = "sip:alice@example.org";
const BOB: &str = "sip:bob@example.org";

const STORIES: [Story; 9] = [
    page_push::STORY,
    session_push::STORY,
    large_file::STORY,
    pull_fetch::STORY,
    pull_few::STORY,
    never_fetches::STORY,
    expiry::STORY,
    outbound_proxy::STORY,
    crash::STORY,
];

/// All stories.
#[must_use]
pub fn stories() -> &'static [Story] {
    &STORIES
}
