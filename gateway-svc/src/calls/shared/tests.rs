//! Clients that read slower than a server speaks, in time that passes only in the test.

use std::{sync::Arc, time::Duration};

use pretty_assertions::assert_eq;
use service_kit::{Clock, Workload, egress::EgressPolicy, http1::HttpPath, pipe::pipe};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Hub;
use crate::{
    calls::listeners::Listeners,
    snapshot::Store,
    upstream::{Client, Heard, Limits, List, OpenSession, Updated, Upstreams},
    vend::Vendor,
};

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_delays_no_other() {
    let listeners = Arc::new(Listeners::default());
    let (unanswering, _nobody) = pipe(Workload::Gateway);
    let hub = Hub::new(
        Upstreams::new(
            EgressPolicy::new(Vec::new()),
            Limits::default(),
            HttpPath::default(),
            Clock::System,
        ),
        Arc::clone(&listeners),
        Store::new(Duration::from_secs(60), Clock::System),
        Arc::new(Vendor::new(unanswering, Clock::System)),
        Arc::new(|_| {}),
        CancellationToken::new(),
    );
    let [stuck, other] = [1, 2].map(|id| Client::Session([id; 12]));
    let [mut stucks, mut others] = [&stuck, &other].map(|client| listeners.join(client, Arc::new(|_| true)));
    let target = OpenSession::for_tests(&stuck).target;
    let place = target.key().place();
    let subject = "users/alice".into();
    for client in [&stuck, &other] {
        hub.places.join(client, &target, true);
        assert_eq!(hub.places.subscribe(client, &subject, &target, "x:/"), Ok(true));
    }
    let since = Instant::now();
    for _ in 0..100 {
        hub.tell(&place, Heard::Changed(List::Prompts)).await;
        assert!(others.hears().await);
    }
    // It is told once of what it has not read.
    assert_eq!(since.elapsed(), Duration::ZERO);

    // Of more than can wait for it, it does not hear.
    for number in 0..1000 {
        let uri = format!("x:/{number:0>1000}");
        hub.tell(&place, Heard::Updated(Updated::for_tests(&uri))).await;
        assert!(others.hears().await);
    }
    assert_eq!(since.elapsed(), Duration::from_secs(1));
    assert!(!listeners.listens(&stuck) && listeners.listens(&other));
    while stucks.hears().await {}
}
