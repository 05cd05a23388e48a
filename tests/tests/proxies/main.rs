//! Behind proxies that are none of ours, with the configurations of `docs/integration` as they stand there; and SIPp, which
//! is in the same packages, as the other end. What has to be fetched first: `tests/proxies/install.sh`.

mod behind;
mod calls;
mod conformance;
mod decisions;
mod deferring;
mod kamailio;
mod loops;
mod private_fields;
mod restarts;
mod scenario;
mod sipp;
mod stories;
mod telling;
mod third_party;
