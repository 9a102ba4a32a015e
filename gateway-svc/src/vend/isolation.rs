//! One installation whose credentials do not come keeps no other waiting.

use contracts::credential::{
    VendHeadersResponse, VendRuntimeRequest, VendRuntimeResponse,
    vend_service_server::{VendService, VendServiceServer},
};
use service_kit::{Workload, pipe::pipe, serve::serve};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, service::Routes};

use super::{
    tests::{passed_through, token, vended, with_secret},
    *,
};

/// Answers no caller that it is given.
struct Stalled;

#[tonic::async_trait]
impl VendService for Stalled {
    async fn vend_headers(
        &self,
        request: Request<VendHeadersRequest>,
    ) -> Result<Response<VendHeadersResponse>, Status> {
        if request.get_ref().caller.is_some() {
            std::future::pending::<()>().await;
        }
        vended(1, "Bearer s3cret", 300).map(Response::new)
    }

    async fn vend_runtime(&self, _: Request<VendRuntimeRequest>) -> Result<Response<VendRuntimeResponse>, Status> {
        Err(Status::permission_denied("not for the gateway"))
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_wait_for_a_slow_authorization_server_delay_no_other_installation() {
    let (channel, listener) = pipe(Workload::Gateway);
    let routes = Routes::new(VendServiceServer::new(Stalled));
    tokio::spawn(serve(routes, listener, CancellationToken::new()));
    let vendor = Arc::new(Vendor::new(channel, Clock::System));
    let begun = tokio::time::Instant::now();
    let mut slow = passed_through();
    Arc::make_mut(&mut slow.installation).uid = "slow".into();
    let slow = Arc::new(slow);
    let mut calls: Vec<_> = (0..500)
        .map(|number| {
            let (vendor, slow) = (Arc::clone(&vendor), Arc::clone(&slow));
            tokio::spawn(async move {
                let caller = token(&number.to_string(), 3_600);
                vendor.headers(&slow, Some(&caller), None).await.unwrap_err()
            })
        })
        .collect();
    let last = calls.pop().expect("there are some").await.unwrap();
    assert_eq!((last, begun.elapsed() < TIMEOUT), (VendError::Busy, true));
    let other = vendor.headers(&with_secret(), None, None).await.unwrap();
    assert_eq!(other.headers["authorization"], "Bearer s3cret");
    assert!(begun.elapsed() < TIMEOUT, "it did not wait for the others to end");
    let mut asked = 0;
    for call in calls {
        asked += usize::from(call.await.unwrap() == VendError::Unavailable);
    }
    assert_eq!(asked, AT_A_TIME);
}
