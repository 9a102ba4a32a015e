//! Ten thousand clients hold a stream open: a revision reaches those who see other tools, and nobody else.

use std::collections::HashMap;

use integration_tests::{Stack, streams::Streams, upstream::recording::RecordingUpstream, walk};

const ALL: usize = 10_000;
/// How many of them are at a gateway of their own.
const FEW: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_reaches_those_whose_tools_it_changes() {
    // One caller opens them all.
    let stack = Stack::builder()
        .variable("RUST_LOG", "info")
        .flag("--max-requests-per-minute", "1000000")
        .flag("--max-sessions-per-minute", "1000000")
        .flag("--max-streams", "100000")
        .start()
        .await;
    let upstream = RecordingUpstream::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let entry = admin.publish("good", walk::remote(&upstream.url())).await;
    alice.install("good", None, &[]).await;
    admin.gateway("many").await;
    admin.gateway("few").await;
    let open = |path, streams| Streams::open(stack.http(), path, alice.token(), streams);
    let mut few = open("/mcp/few", 0..FEW).await;
    let mut many = open("/mcp/many", FEW..ALL).await;

    // It concerns nobody.
    let described = contracts::registry::Entry {
        description: "Another text".to_owned(),
        etag: String::new(),
        ..entry
    };
    admin
        .update_entry(described, &["description"])
        .await
        .expect("an admin may");
    admin.assign("few", "good", "echo").await;
    assert_eq!(told(&mut few, 0..FEW).await, once(0..FEW));
    admin.assign("many", "good", "echo").await;
    assert_eq!(told(&mut many, FEW..ALL).await, once(FEW..ALL));
    // What came too early is followed by what was due then.
    drop(stack);
    assert_eq!(few.next().await, None);
    assert_eq!(many.next().await, None);
}

/// How often each stream was told that its list has changed, once all of these were.
async fn told(streams: &mut Streams, all: std::ops::Range<usize>) -> HashMap<usize, usize> {
    let mut told = HashMap::new();
    while told.len() < all.len() {
        let came = streams.next().await.expect("the streams are open");
        assert!(came.text.contains("notifications/tools/list_changed"), "{came:?}");
        *told.entry(came.stream).or_default() += 1;
    }
    told
}

fn once(all: std::ops::Range<usize>) -> HashMap<usize, usize> {
    all.map(|stream| (stream, 1)).collect()
}
