//! One orchestrator holds the lease for running servers, on both engines.

mod support;

use contracts::registry::{report_service_client::ReportServiceClient, *};
use service_kit::Workload;
use support::*;
use tonic::{Code, Status, transport::Channel};

on_both_engines!(
    one_of_two_holds_the_lease,
    a_process_takes_the_place_of_the_one_before,
    of_many_that_ask_at_once_one_gets_it,
    what_is_no_request_for_a_lease_is_refused,
    reports_are_fenced,
    an_orchestrator_without_leases_reports_while_nobody_holds_one,
);

async fn acquire(reports: &mut ReportServiceClient<Channel>, holder: &str, epoch: i64) -> AcquireRuntimeLeaseResponse {
    let request = AcquireRuntimeLeaseRequest {
        holder: holder.to_owned(),
        epoch,
        replaces: false,
    };
    reports.acquire_runtime_lease(request).await.unwrap().into_inner()
}

fn lease(holder: &str, epoch: i64) -> Option<RuntimeLease> {
    let holder = holder.to_owned();
    Some(RuntimeLease { holder, epoch })
}

async fn one_of_two_holds_the_lease(stack: Stack) {
    let mut reports = stack.reports(Workload::Orchestrator);
    let first = acquire(&mut reports, "a", 0).await;
    assert_eq!((first.held, first.lease), (true, lease("a", 1)));
    assert!(first.remaining.unwrap().seconds >= 1);
    let other = acquire(&mut reports, "b", 0).await;
    assert_eq!((other.held, other.lease), (false, lease("a", 1)));
    assert!(other.remaining.unwrap().seconds <= first.remaining.unwrap().seconds);
    let renewed = acquire(&mut reports, "a", 1).await;
    assert_eq!((renewed.held, renewed.lease), (true, lease("a", 1)));

    // Released by who does not hold it, it stays; by who does, it is free.
    let release = |lease| ReleaseRuntimeLeaseRequest { lease };
    reports.release_runtime_lease(release(lease("b", 1))).await.unwrap();
    assert!(!acquire(&mut reports, "b", 0).await.held);
    reports.release_runtime_lease(release(lease("a", 1))).await.unwrap();
    let next = acquire(&mut reports, "b", 0).await;
    assert_eq!((next.held, next.lease), (true, lease("b", 2)));
    assert!(!acquire(&mut reports, "a", 1).await.held);
}

async fn a_process_takes_the_place_of_the_one_before(stack: Stack) {
    let mut reports = stack.reports(Workload::Orchestrator);
    acquire(&mut reports, "a", 0).await;
    assert!(
        !acquire(&mut reports, "a", 0).await.held,
        "it does not say that it does"
    );
    let replaces = AcquireRuntimeLeaseRequest {
        holder: "a".to_owned(),
        epoch: 0,
        replaces: true,
    };
    let next = reports.acquire_runtime_lease(replaces).await.unwrap().into_inner();
    assert_eq!((next.held, next.lease), (true, lease("a", 2)));
    assert!(!acquire(&mut reports, "a", 1).await.held, "the one before has lost it");
}

async fn of_many_that_ask_at_once_one_gets_it(stack: Stack) {
    let asks = (0..8).map(|n| {
        let mut reports = stack.reports(Workload::Orchestrator);
        async move { acquire(&mut reports, &format!("holder {n}"), 0).await }
    });
    let answers = futures::future::join_all(asks).await;
    let held: Vec<_> = answers.iter().filter(|answer| answer.held).collect();
    assert_eq!(held.len(), 1);
    assert!(answers.iter().all(|answer| answer.lease == held[0].lease));
}

async fn what_is_no_request_for_a_lease_is_refused(stack: Stack) {
    let mut reports = stack.reports(Workload::Orchestrator);
    let bad = AcquireRuntimeLeaseRequest {
        holder: String::new(),
        epoch: -1,
        replaces: false,
    };
    let refused = reports.acquire_runtime_lease(bad).await.unwrap_err();
    assert_eq!(fields(&refused), ["holder", "epoch"]);
    let refused = reports
        .release_runtime_lease(ReleaseRuntimeLeaseRequest::default())
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["lease"]);
    let others = stack
        .reports(Workload::Gateway)
        .acquire_runtime_lease(AcquireRuntimeLeaseRequest::default())
        .await
        .unwrap_err();
    assert_eq!(others.code(), Code::PermissionDenied);
}

fn report(lease: Option<RuntimeLease>) -> ReportRuntimeRequest {
    ReportRuntimeRequest {
        subject: Some(report_runtime_request::Subject::InstallationUid("gone".to_owned())),
        state: RuntimeState::Running.into(),
        reason: "RUNNING".to_owned(),
        lease,
        ..Default::default()
    }
}

fn lost(status: &Status) -> bool {
    reason(status) == (Code::FailedPrecondition, "LEASE_LOST".to_owned())
}

async fn reports_are_fenced(stack: Stack) {
    let mut reports = stack.reports(Workload::Orchestrator);
    let early = reports.report_runtime(report(lease("a", 1))).await.unwrap_err();
    assert!(lost(&early), "nobody holds it: {early:?}");
    acquire(&mut reports, "a", 0).await;
    reports.report_runtime(report(lease("a", 1))).await.unwrap();
    for other in [lease("a", 2), lease("b", 1), None] {
        let refused = reports.report_runtime(report(other)).await.unwrap_err();
        assert!(lost(&refused), "{refused:?}");
    }
    let cleanup = |lease| ReportCleanupRequest {
        subject: Some(report_cleanup_request::Subject::InstallationUid("gone".to_owned())),
        lease,
    };
    let refused = reports.report_cleanup(cleanup(lease("b", 1))).await.unwrap_err();
    assert!(lost(&refused), "{refused:?}");
    let taken = reports.report_cleanup(cleanup(lease("a", 1))).await;
    assert!(taken.is_ok() || !lost(&taken.unwrap_err()));
    // credential-svc has no lease.
    let theirs = stack.reports(Workload::Credential).report_cleanup(cleanup(None)).await;
    assert!(theirs.is_ok() || !lost(&theirs.unwrap_err()));
}

async fn an_orchestrator_without_leases_reports_while_nobody_holds_one(stack: Stack) {
    let mut reports = stack.reports(Workload::Orchestrator);
    reports.report_runtime(report(None)).await.unwrap();
    acquire(&mut reports, "a", 0).await;
    assert!(lost(&reports.report_runtime(report(None)).await.unwrap_err()));
    let release = ReleaseRuntimeLeaseRequest { lease: lease("a", 1) };
    reports.release_runtime_lease(release).await.unwrap();
    reports.report_runtime(report(None)).await.unwrap();
}
