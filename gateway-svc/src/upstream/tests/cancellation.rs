//! Cancellation of calls, by the client and by its disconnection.

use pretty_assertions::assert_eq;

use super::*;

#[tokio::test]
async fn cancellation_reaches_the_upstream() {
    let (slow, mut slow_seen) = server(|_, _| {
        (
            [("content-type", "text/event-stream")],
            Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()),
        )
            .into_response()
    })
    .await;
    let upstreams = upstreams(Limits {
        idle: Duration::from_secs(60),
        ..short()
    });
    let cancel = Cancel::default();
    let request = upstreams.request("tools/call", b"{}", &[]);
    let id = request.id;
    let Answer::Stream(mut answers) = upstreams.call(&target(&slow), request, cancel.clone()).await.unwrap() else {
        panic!()
    };
    cancel.cancel();
    assert_eq!(answers.next().await.unwrap_err(), UpstreamError::Cancelled);
    loop {
        let (message, _) = slow_seen.recv().await.unwrap();
        if message["method"] == "notifications/cancelled" {
            assert_eq!(message["params"]["requestId"], id);
            break;
        }
    }
}

/// Closing a connection cancels nothing in MCP: the server would go on working, and the call would hold its permit.
#[tokio::test]
async fn a_call_is_cancelled_at_the_upstream_when_its_caller_disconnects() {
    for kind in ["text/event-stream", "application/json"] {
        let (slow, mut seen) = server(move |_, _| {
            let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
            ([("content-type", kind)], body).into_response()
        })
        .await;
        let upstreams = upstreams(Limits {
            idle: Duration::from_secs(60),
            ..short()
        });
        let request = upstreams.request("tools/call", b"{}", &[]);
        let id = request.id;
        let aim = target(&slow);
        let call = tokio::spawn(async move {
            let answer = upstreams.call(&aim, request, Cancel::default()).await;
            std::future::pending::<()>().await;
            drop(answer);
        });
        while seen.recv().await.unwrap().0["method"] != "tools/call" {}
        call.abort();
        let (message, _) = seen.recv().await.unwrap();
        assert_eq!(message["method"], "notifications/cancelled", "{kind}");
        assert_eq!(message["params"]["requestId"], id);
    }
}
