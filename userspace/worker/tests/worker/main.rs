//! A worker and its managers over real links with real certificates; and real tasks, which need root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod fakes;
mod manager;
mod real_tasks;
mod sessions;

use std::time::Duration;

/// Longest that any condition may take.
const DEADLINE: Duration = Duration::from_secs(30);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it takes too long")
}
