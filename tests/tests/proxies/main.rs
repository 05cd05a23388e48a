//! Behind proxies that are none of ours, with the configurations of `docs/integration` as they stand there. What has to be
//! fetched first: `tests/proxies/install.sh`.

mod behind;
mod decisions;
mod deferring;
mod kamailio;
mod loops;
mod restarts;
mod sipp;
mod stories;
mod telling;
