//! What sessions cost that are idle, with a stream each that their clients hold open.

use std::time::{Duration, Instant};

use contracts::registry::Entry;
use integration_tests::{Stack, caller::Caller, streams::Streams, walk};

use crate::usage::{Cpu, resident};

const STREAMS: usize = 10_000;
/// Streams that were open before, so that what is allocated once is not counted.
const WARM_UP: usize = 500;
const REVISIONS: u32 = 500;

/// The figures.
pub(crate) struct Idle {
    /// KB for each, with its part of the HTTP/2 connection that 100 share.
    pub(crate) memory: f64,
    /// Milliseconds of CPU time for each revision, beside those that it costs without any streams.
    pub(crate) revision: f64,
}

pub(crate) async fn measure() -> Idle {
    let stack = Stack::builder()
        .variable("RUST_LOG", "info")
        .flag("--max-requests-per-minute", "1000000000")
        .flag("--max-writes-per-minute", "1000000000")
        .flag("--max-sessions-per-minute", "1000000000")
        .flag("--max-streams", "100000")
        .start()
        .await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin.gateway("many").await;
    // Nothing of it is assigned.
    let entry = walk::remote("http://127.0.0.1:9/mcp");
    let entry = admin.create_entry("unseen", entry).await.expect("an admin may");
    let open = |count| Streams::open(stack.http(), "/mcp/many", alice.token(), 0..count);
    drop(open(WARM_UP).await);
    revisions(&stack, &admin, &entry).await;
    let (alone, _) = revisions(&stack, &admin, &entry).await;

    let before = resident(stack.pid());
    let streams = open(STREAMS).await;
    let memory = (resident(stack.pid()) - before) * 1024.0 / STREAMS as f64;
    let (with_streams, during) = revisions(&stack, &admin, &entry).await;
    // Comments keep the streams alive, with or without revisions.
    let begin = Cpu::of(&[stack.pid()]);
    tokio::time::sleep(during).await;
    let comments = (Cpu::of(&[stack.pid()]) - begin).total();
    drop(streams);
    let added = with_streams.as_secs_f64() - comments.as_secs_f64() - alone.as_secs_f64();
    Idle {
        memory,
        revision: added * 1e3 / f64::from(REVISIONS),
    }
}

/// Makes revisions that concern no stream; the CPU time that they took, and how long.
async fn revisions(stack: &Stack, admin: &Caller, entry: &Entry) -> (Duration, Duration) {
    let (before, begin) = (Cpu::of(&[stack.pid()]), Instant::now());
    for number in 0..REVISIONS {
        let described = Entry {
            description: format!("Text {number}"),
            etag: String::new(),
            ..entry.clone()
        };
        admin
            .update_entry(described, &["description"])
            .await
            .expect("an admin may");
    }
    ((Cpu::of(&[stack.pid()]) - before).total(), begin.elapsed())
}
