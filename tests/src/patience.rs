//! Waiting for what must happen.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often something is looked at that does not tell of itself.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What comes of it, in time.
///
/// # Panics
/// It does not.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Looks until it is so.
///
/// # Panics
/// It never is.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    until_equal(what, true, &mut is_so).await;
}

/// Looks until it is this.
///
/// # Panics
/// It never is; tells what it was instead.
pub async fn until_equal<T: PartialEq + Debug>(what: &str, expected: T, mut look: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}: {seen:?} instead of {expected:?}");
        sleep(LOOK_EVERY).await;
    }
}
