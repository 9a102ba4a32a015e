//! credential-svc with all its services and tasks, and a fake registry.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::result_large_err,
    reason = "each test uses its part of it"
)]

pub mod entries;
pub mod fake_registry;

use std::{fmt::Debug, net::SocketAddr, path::Path};

use contracts::credential::{
    ConfirmEntryDestinationRequest, ConfirmInstallationDestinationRequest, Credential,
    DeleteInstallationCredentialRequest, GetInstallationCredentialRequest, PutEntryCredentialRequest,
    PutInstallationCredentialRequest, SecretValue, VendHeadersRequest, VendHeadersResponse, VendRuntimeRequest,
    VendRuntimeResponse, credential_service_client::CredentialServiceClient, vend_service_client::VendServiceClient,
};
use credential_svc::{Config, Deps};
use fake_registry::FakeRegistry;
use service_kit::{
    Clock, Workload,
    pipe::{pipe, tcp},
    serve::serve,
    testing::TestIssuer,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

pub struct Stack {
    pub issuer: TestIssuer,
    /// A person's connection.
    people: CredentialServiceClient<Channel>,
    pub gateway: VendServiceClient<Channel>,
    pub orchestrator: VendServiceClient<Channel>,
    pub address: SocketAddr,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Stack {
    pub async fn start(directory: &Path, registry: &FakeRegistry) -> Self {
        let issuer = TestIssuer::start().await.unwrap();
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let (to_registry, at_registry) = pipe(Workload::Credential);
        let routes = registry.routes().prepare();
        running.spawn({
            let stop = stop.clone();
            async move {
                // The watch never ends by itself.
                tokio::select! { _ = serve(routes, at_registry, stop.clone()) => {}, () = stop.cancelled() => {} }
            }
        });
        let config = Config {
            store: credential_svc::StoreConfig::Local {
                data_dir: directory.to_owned(),
            },
            instance: None,
            public_url: None,
            egress: service_kit::egress::EgressPolicy::default(),
        };
        let deps = Deps {
            registry: to_registry,
            verifier: issuer.verifier(Clock::System),
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::System,
        };
        let app = credential_svc::build(config, deps).await.unwrap();
        let (to_gateway, from_gateway) = pipe(Workload::Gateway);
        let (to_orchestrator, from_orchestrator) = pipe(Workload::Orchestrator);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Routes::from(app.grpc.clone());
        for pipe in [from_gateway, from_orchestrator] {
            let (routes, stop) = (routes.clone(), stop.clone());
            running.spawn(async move { drop(serve(routes, pipe, stop).await) });
        }
        let stopped = stop.clone();
        running.spawn(async move { drop(serve(routes, tcp(listener), stopped).await) });
        for task in app.tasks {
            let run = (task.run)(stop.clone());
            running.spawn(run);
        }
        let mut ready = app.ready.clone();
        ready
            .wait_for(|ready| *ready == service_kit::Readiness::Ready)
            .await
            .unwrap();
        let people = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        Self {
            issuer,
            people: CredentialServiceClient::new(people),
            gateway: VendServiceClient::new(to_gateway),
            orchestrator: VendServiceClient::new(to_orchestrator),
            address,
            stop,
            running,
        }
    }

    /// Drops everything in the middle of whatever it does.
    pub async fn kill(mut self) {
        self.stop.cancel();
        self.running.shutdown().await;
    }

    pub fn people(&self) -> CredentialServiceClient<Channel> {
        self.people.clone()
    }

    /// A request of a person.
    pub fn of<T>(&self, subject: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = format!("Bearer {}", self.issuer.token(subject, &[], subject == "admin"));
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        request
    }

    pub async fn put(&self, subject: &str, uid: &str, values: &[(&str, &str)]) -> Answer<Credential> {
        self.put_with_id(subject, uid, values, "").await
    }

    pub async fn put_with_id(
        &self,
        subject: &str,
        uid: &str,
        values: &[(&str, &str)],
        request_id: &str,
    ) -> Answer<Credential> {
        let request = PutInstallationCredentialRequest {
            request_id: request_id.to_owned(),
            ..put(uid, values)
        };
        let request = self.of(subject, request);
        self.people()
            .put_installation_credential(request)
            .await
            .map(Response::into_inner)
    }

    pub async fn put_entry(&self, subject: &str, entry: &str, values: &[(&str, &str)]) -> Answer<Credential> {
        let request = self.of(subject, put_entry(entry, values));
        self.people()
            .put_entry_credential(request)
            .await
            .map(Response::into_inner)
    }

    pub async fn get(&self, subject: &str, uid: &str) -> Answer<Credential> {
        let request = GetInstallationCredentialRequest {
            installation: format!("installations/{uid}"),
        };
        let request = self.of(subject, request);
        self.people()
            .get_installation_credential(request)
            .await
            .map(Response::into_inner)
    }

    pub async fn delete(&self, subject: &str, uid: &str) -> Answer<Credential> {
        let request = DeleteInstallationCredentialRequest {
            installation: format!("installations/{uid}"),
        };
        let request = self.of(subject, request);
        self.people()
            .delete_installation_credential(request)
            .await
            .map(Response::into_inner)
    }

    pub async fn confirm(&self, subject: &str, uid: &str, destination: &str) -> Answer<Credential> {
        let request = ConfirmInstallationDestinationRequest {
            installation: format!("installations/{uid}"),
            destination: destination.to_owned(),
        };
        let request = self.of(subject, request);
        self.people()
            .confirm_installation_destination(request)
            .await
            .map(Response::into_inner)
    }

    pub async fn confirm_entry(&self, subject: &str, entry: &str, destination: &str) -> Answer<Credential> {
        let request = ConfirmEntryDestinationRequest {
            entry: format!("entries/{entry}"),
            destination: destination.to_owned(),
        };
        let request = self.of(subject, request);
        self.people()
            .confirm_entry_destination(request)
            .await
            .map(Response::into_inner)
    }

    pub async fn headers(&self, uid: &str, destination: &str, rejected: i64) -> Answer<VendHeadersResponse> {
        self.newer_headers(uid, destination, (rejected, 0)).await
    }

    /// Headers, where an installation's and its entry's generation were rejected.
    pub async fn newer_headers(
        &self,
        uid: &str,
        destination: &str,
        rejected: (i64, i64),
    ) -> Answer<VendHeadersResponse> {
        let request = VendHeadersRequest {
            installation_uid: uid.to_owned(),
            destination: destination.to_owned(),
            rejected_credential_generation: rejected.0,
            rejected_entry_credential_generation: rejected.1,
            ..VendHeadersRequest::default()
        };
        self.gateway
            .clone()
            .vend_headers(request)
            .await
            .map(Response::into_inner)
    }

    pub async fn runtime(&self, uid: &str, destination: &str) -> Answer<VendRuntimeResponse> {
        let request = VendRuntimeRequest {
            installation_uid: uid.to_owned(),
            destination: destination.to_owned(),
            ..VendRuntimeRequest::default()
        };
        let answer = self.orchestrator.clone().vend_runtime(request).await;
        answer.map(Response::into_inner)
    }

    pub async fn shared_runtime(&self, uid: &str, destination: &str) -> Answer<VendRuntimeResponse> {
        let request = VendRuntimeRequest {
            entry_uid: uid.to_owned(),
            destination: destination.to_owned(),
            ..VendRuntimeRequest::default()
        };
        let answer = self.orchestrator.clone().vend_runtime(request).await;
        answer.map(Response::into_inner)
    }
}

/// Where the remote entry of [`registry`] is.
pub const HERE: &str = "https://here.example.com";
/// Somewhere else.
pub const THERE: &str = "https://there.example.com";

/// A registry with a remote entry `e`, which alice has installed as `i`.
pub fn registry() -> FakeRegistry {
    let registry = FakeRegistry::new();
    let fields = vec![
        entries::secret("token", true, None),
        entries::secret("tenant", false, entries::header("X-Tenant-Key")),
    ];
    registry.save_entry(entries::remote("e", HERE, fields));
    registry.install("i", "e", "alice");
    registry
}

pub async fn start(registry: &FakeRegistry) -> (Stack, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (Stack::start(directory.path(), registry).await, directory)
}

pub fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

pub type Answer<T> = Result<T, Status>;

/// A put to an installation.
pub fn put(uid: &str, values: &[(&str, &str)]) -> PutInstallationCredentialRequest {
    PutInstallationCredentialRequest {
        installation: format!("installations/{uid}"),
        values: secrets(values),
        ..PutInstallationCredentialRequest::default()
    }
}

/// A put to an entry.
pub fn put_entry(entry: &str, values: &[(&str, &str)]) -> PutEntryCredentialRequest {
    PutEntryCredentialRequest {
        entry: format!("entries/{entry}"),
        values: secrets(values),
        ..PutEntryCredentialRequest::default()
    }
}

fn secrets(values: &[(&str, &str)]) -> Vec<SecretValue> {
    let values = values.iter();
    values
        .map(|&(key, value)| SecretValue {
            key: key.to_owned(),
            value: value.to_owned(),
        })
        .collect()
}

/// Name and value of each header, sorted.
pub fn pairs(response: &VendHeadersResponse) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = response
        .headers
        .iter()
        .map(|header| (header.name.clone(), header.value.clone()))
        .collect();
    pairs.sort();
    pairs
}

pub fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_else(|| format!("{status:?}"))
}

/// The status of a call that failed for this reason, with the code that the contract gives it.
#[track_caller]
pub fn refused<T: Debug>(answer: Answer<T>, expected: &str) -> Status {
    let status = answer.unwrap_err();
    assert_eq!(reason(&status), expected, "{status:?}");
    let code = match expected {
        "INVALID_FIELDS" | "REQUEST_ID_REUSED" => Code::InvalidArgument,
        "UNAUTHENTICATED" => Code::Unauthenticated,
        "PERMISSION_DENIED" | "WORKLOADS_ONLY" => Code::PermissionDenied,
        "RESOURCE_NOT_FOUND" => Code::NotFound,
        "CREDENTIAL_REQUIRED" | "CREDENTIAL_EXPIRED" | "DESTINATION_CHANGED" => Code::FailedPrecondition,
        "DESTINATION_STALE" => Code::Aborted,
        "REGISTRY_UNAVAILABLE" | "STORAGE_UNAVAILABLE" => Code::Unavailable,
        other => panic!("{other} has no code here"),
    };
    assert_eq!(status.code(), code, "{status:?}");
    status
}
