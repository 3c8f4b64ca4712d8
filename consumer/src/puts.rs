//! How many puts this process has under way: each is a connection with its buffers, and a thousand partitions may want
//! to store at one moment.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// More wait for their turn.
const PUTS: usize = 64;

/// The puts of all partitions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Puts(Arc<Semaphore>);

impl Default for Puts {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PUTS)))
    }
}

impl Puts {
    /// Waits for a turn, in the order of asking; it ends when the permit is dropped.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the line.
    pub async fn turn(&self) -> SemaphorePermit<'_> {
        self.0.acquire().await.expect("the semaphore is never closed")
    }
}
