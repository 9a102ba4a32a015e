//! Requests of the services that only workloads may call: ReportService, AccessService, WatchService and VendService.

use contracts::{credential as c, registry as r};
use service_kit::Workload;

use super::{credentials::present_destination, request::Request};
use crate::world::{Seen, Who, World};

pub(super) async fn reports(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    if about != "personal" {
        return None;
    }
    let entry = world.open_entry(Seen::ByAll).await;
    let name = world.installation(&entry, None).await;
    let uid = name.trim_start_matches("installations/").to_owned();
    Some(match method {
        "ReportCredential" => Request::new(r::ReportCredentialRequest {
            subject: Some(r::report_credential_request::Subject::InstallationUid(uid)),
            status: r::ConditionStatus::True.into(),
            reason: "STORED".to_owned(),
            observed_generation: 1,
            ..r::ReportCredentialRequest::default()
        }),
        "ReportRuntime" => Request::new(r::ReportRuntimeRequest {
            subject: Some(r::report_runtime_request::Subject::InstallationUid(uid)),
            state: r::RuntimeState::Failed.into(),
            reason: "EXITED".to_owned(),
            observed_generation: 1,
            ..r::ReportRuntimeRequest::default()
        })
        // The orchestrator of the program under test holds the lease.
        .fails_with_if_allowed("LEASE_LOST"),
        "ReportDiscovery" => Request::new(r::ReportDiscoveryRequest {
            subject: Some(r::report_discovery_request::Subject::InstallationUid(uid)),
            outcome: Some(r::report_discovery_request::Outcome::Tools(
                r::DiscoveredTools::default(),
            )),
            observed_generation: 1,
        }),
        // The installation is not deleted, which is checked after permission. An orchestrator without the lease is refused
        // before that.
        "ReportCleanup" => Request::new(r::ReportCleanupRequest {
            subject: Some(r::report_cleanup_request::Subject::InstallationUid(uid)),
            lease: None,
        })
        .fails_with_if_allowed(if who == Who::Service(Workload::Orchestrator) {
            "LEASE_LOST"
        } else {
            "ILLEGAL_TRANSITION"
        }),
        "AcquireRuntimeLease" => Request::new(r::AcquireRuntimeLeaseRequest {
            holder: "somebody else".to_owned(),
            ..r::AcquireRuntimeLeaseRequest::default()
        }),
        "ReleaseRuntimeLease" => Request::new(r::ReleaseRuntimeLeaseRequest {
            lease: Some(r::RuntimeLease {
                holder: "somebody else".to_owned(),
                epoch: 1,
            }),
        }),
        "ReportTokenUse" => {
            let token = world.create_token(None).await.gateway_token.unwrap_or_default();
            Request::new(r::ReportTokenUseRequest {
                uses: vec![r::TokenUse {
                    gateway_token: token.name,
                    use_time: token.create_time,
                }],
            })
        }
        _ => return None,
    })
}

pub(super) async fn access(world: &World, method: &str, about: &str) -> Option<Request> {
    let principal = Some(r::Principal {
        issuer: world.issuer().to_owned(),
        subject: "owner".to_owned(),
        ..r::Principal::default()
    });
    let action = r::AccessAction::Read.into();
    let entry = world.open_entry(Seen::ByAll).await;
    Some(match (method, about) {
        ("AuthorizeInstallation", "personal") => {
            let installation = world.installation(&entry, None).await;
            Request::new(r::AuthorizeInstallationRequest {
                installation,
                principal,
                action,
            })
        }
        ("AuthorizeEntry", "everybody's") => Request::new(r::AuthorizeEntryRequest {
            entry,
            principal,
            action,
        }),
        _ => return None,
    })
}

pub(super) fn watch(world: &World, method: &str, about: &str) -> Option<Request> {
    let kinds = match about {
        "all that it may" => vec![],
        "gateway tokens" => vec![r::ObjectKind::GatewayToken.into()],
        "runtimes" => vec![r::ObjectKind::Runtime.into()],
        _ => return None,
    };
    let start = r::WatchStart {
        kinds,
        instance: world.fresh("watcher"),
        ..r::WatchStart::default()
    };
    let message = Some(r::watch_request::Message::Start(start));
    (method == "Watch").then(|| Request::new(r::WatchRequest { message }))
}

pub(super) async fn vend(world: &World, method: &str, about: &str) -> Option<Request> {
    if about != "personal" {
        return None;
    }
    let entry = world.entry(Seen::ByAll).await;
    let name = world.installation_with_secret(&entry, None).await;
    let destination = present_destination(world, &name).await;
    let installation_uid = name.trim_start_matches("installations/").to_owned();
    Some(match method {
        "VendHeaders" => Request::new(c::VendHeadersRequest {
            installation_uid,
            destination,
            ..c::VendHeadersRequest::default()
        }),
        "VendRuntime" => Request::new(c::VendRuntimeRequest {
            installation_uid,
            destination,
            ..c::VendRuntimeRequest::default()
        }),
        _ => return None,
    })
}
