//! Servers wait for slots in turn.

use futures::{StreamExt as _, future};

use super::*;

/// Each status is reported, and its report comes back as another look at the same spec. On one thread, a server whose status says that it is
/// being started is in the queue.
#[tokio::test]
async fn another_look_at_a_spec_keeps_its_place_in_the_queue() {
    let local = Local::new().await;
    let mut occupied = local.occupy_starts().await;
    for owner in ["first", "second"] {
        local.runtime.apply(owner, local.spec(Kind::Runs)).await;
        suite::until(&local, owner, "it is queued", |s| s.reason == "STARTING").await;
    }
    let again = ServerSpec {
        generation: 2,
        ..local.spec(Kind::Runs)
    };
    local.runtime.apply("first", again).await;
    suite::until(&local, "first", "it is looked at", |s| s.generation == 2).await;
    let observed = local.runtime.observe();
    drop(occupied.split(1));
    let runs = |observed: &Observed| observed.status.as_ref().is_some_and(|s| s.state == State::Running);
    let first = observed.filter(|observed| future::ready(runs(observed))).next().await;
    assert_eq!(first.unwrap().owner, "first");
    local.runtime.release().await;
}
