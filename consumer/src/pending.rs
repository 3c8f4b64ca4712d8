//! Something that is under way beside a loop: kept across rounds, and waited for together with other things.

use std::pin::Pin;

/// A future under way, if there is one.
pub(crate) type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// Waits for what is under way; for ever where nothing is.
///
/// # Cancel safety
/// What is under way stays so.
pub(crate) async fn done<T>(pending: &mut Pending<T>) -> T {
    match pending {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}
