//! Waiting for what must come, instead of sleeping for as long as it usually takes.

use std::time::Duration;

/// What has not come by then never comes. It is no measurement: a busy machine has all this time.
pub const LIMIT: Duration = Duration::from_secs(120);
/// How often to look.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`LIMIT`]; `what` says what never came.
pub async fn until(what: &str, condition: impl AsyncFnMut() -> bool) {
    within(LIMIT, what, condition).await;
}

/// The same, where a busy machine needs more than that, as for starting a Java program.
///
/// # Panics
/// When `condition` does not hold within `limit`.
pub async fn within(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let met = tokio::time::timeout(limit, async {
        while !condition().await {
            tokio::time::sleep(PAUSE).await;
        }
    });
    assert!(met.await.is_ok(), "not within {limit:?}: {what}");
}
