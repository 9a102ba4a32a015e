//! Threads that read answers on connections of others, and threads whose runtimes end.

use std::thread;

use pretty_assertions::assert_eq;
use tokio::{runtime, sync::mpsc};

use super::*;

/// Runs this on the current thread, as one that serves connections does.
fn in_runtime(work: impl Future<Output = ()>) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work);
}

/// A stream whose reply has come is read to its end in the background.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_returns_to_its_thread_from_the_one_that_reads_its_answer() {
    let (uri, connections, _) = server(CHUNKED, usize::MAX).await;
    let pool = pool(HttpPath::Own);
    let (give, mut given) = mpsc::channel::<Body>(1);
    let (tell, mut read) = mpsc::channel(1);
    let reading = async move {
        while let Some(body) = given.recv().await {
            assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
            tell.send(()).await.unwrap();
        }
    };
    let posting = async move {
        for _ in 0..100 {
            give.send(post(&pool, &uri).await.unwrap().into_body()).await.unwrap();
            read.recv().await.unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| in_runtime(reading));
        scope.spawn(|| in_runtime(posting));
    });
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// A connection ends with the runtime that has opened it, and so does the task that closes those which nobody uses.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_whose_runtime_has_ended_is_not_used() {
    let (uri, connections, closed) = server(FIXED, usize::MAX).await;
    let pool = pool(HttpPath::Own);
    let work = || {
        for used in 1..=3 {
            in_runtime(async {
                for _ in 0..2 {
                    let body = post(&pool, &uri).await.unwrap().into_body();
                    assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
                }
            });
            assert_eq!(connections.load(Ordering::SeqCst), used);
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
    });
    drop(pool);
    closed.notified().await;
}
