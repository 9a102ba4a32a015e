//! credential-svc as it is deployed, with a fake registry.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::result_large_err,
    reason = "each test uses its part of it"
)]

pub mod fake_registry;

use std::{net::SocketAddr, path::Path};

use contracts::{
    credential::{
        Credential, PutEntryCredentialRequest, PutInstallationCredentialRequest, SecretValue, VendHeadersRequest,
        VendHeadersResponse, VendRuntimeRequest, VendRuntimeResponse,
        credential_service_client::CredentialServiceClient, vend_service_client::VendServiceClient,
    },
    registry::{
        BearerHeader, Entry, EnvironmentVariableTarget, HeaderTarget, Injection, InstallField, InstallFieldSource,
        InstallFieldType, NoCredential, RemoteServer, SelfHostedServer, StaticCredential, StdioTransport, entry,
        injection, install_field, self_hosted_server,
    },
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
    Request, Status,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

pub struct Stack {
    pub issuer: TestIssuer,
    /// A person's connection.
    pub people: CredentialServiceClient<Channel>,
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
            data_dir: directory.to_owned(),
            instance: None,
        };
        let deps = Deps {
            registry: to_registry,
            verifier: issuer.verifier(Clock::System),
            quotas: service_kit::Quotas::boundless(),
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

    pub fn of<T>(&self, subject: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = format!("Bearer {}", self.issuer.token(subject, &[], subject == "admin"));
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        request
    }

    pub async fn put(&self, subject: &str, uid: &str, values: &[(&str, &str)]) -> Result<Credential, Status> {
        self.put_with_id(subject, uid, values, "").await
    }

    pub async fn put_with_id(
        &self,
        subject: &str,
        uid: &str,
        values: &[(&str, &str)],
        request_id: &str,
    ) -> Result<Credential, Status> {
        let request = PutInstallationCredentialRequest {
            installation: format!("installations/{uid}"),
            values: secrets(values),
            request_id: request_id.to_owned(),
            destination: String::new(),
        };
        let answer = self
            .people
            .clone()
            .put_installation_credential(self.of(subject, request))
            .await;
        answer.map(tonic::Response::into_inner)
    }

    pub async fn put_entry(&self, subject: &str, entry: &str, values: &[(&str, &str)]) -> Result<Credential, Status> {
        let request = PutEntryCredentialRequest {
            entry: format!("entries/{entry}"),
            values: secrets(values),
            request_id: String::new(),
            destination: String::new(),
        };
        let answer = self
            .people
            .clone()
            .put_entry_credential(self.of(subject, request))
            .await;
        answer.map(tonic::Response::into_inner)
    }

    pub async fn headers(&self, uid: &str, destination: &str, rejected: i64) -> Result<VendHeadersResponse, Status> {
        self.newer_headers(uid, destination, (rejected, 0)).await
    }

    /// Headers, where an installation's and its entry's generation were rejected.
    pub async fn newer_headers(
        &self,
        uid: &str,
        destination: &str,
        rejected: (i64, i64),
    ) -> Result<VendHeadersResponse, Status> {
        let request = VendHeadersRequest {
            installation_uid: uid.to_owned(),
            destination: destination.to_owned(),
            rejected_credential_generation: rejected.0,
            rejected_entry_credential_generation: rejected.1,
        };
        self.gateway
            .clone()
            .vend_headers(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub async fn runtime(&self, uid: &str, destination: &str) -> Result<VendRuntimeResponse, Status> {
        let request = VendRuntimeRequest {
            installation_uid: uid.to_owned(),
            destination: destination.to_owned(),
        };
        self.orchestrator
            .clone()
            .vend_runtime(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

pub fn secrets(values: &[(&str, &str)]) -> Vec<SecretValue> {
    values
        .iter()
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

pub fn secret(key: &str, required: bool, target: Option<install_field::Target>) -> InstallField {
    InstallField {
        key: key.to_owned(),
        title: format!("The {key}"),
        r#type: InstallFieldType::Secret.into(),
        required,
        source: InstallFieldSource::Prompted.into(),
        target,
        ..InstallField::default()
    }
}

pub fn stored(mut field: InstallField) -> InstallField {
    field.source = InstallFieldSource::Stored.into();
    field
}

pub fn header(name: &str) -> Option<install_field::Target> {
    Some(install_field::Target::Header(HeaderTarget { name: name.to_owned() }))
}

pub fn environment(name: &str) -> Option<install_field::Target> {
    Some(install_field::Target::EnvironmentVariable(EnvironmentVariableTarget {
        name: name.to_owned(),
    }))
}

/// A remote entry whose primary credential is the field `token`, sent as a bearer token.
pub fn remote(uid: &str, url: &str, install_fields: Vec<InstallField>) -> Entry {
    let primary = StaticCredential {
        field: "token".to_owned(),
        injection: Some(Injection {
            kind: Some(injection::Kind::Bearer(BearerHeader {})),
        }),
    };
    Entry {
        name: format!("entries/{uid}"),
        uid: uid.to_owned(),
        server: Some(entry::Server::Remote(RemoteServer { url: url.to_owned() })),
        credential_model: Some(entry::CredentialModel::StaticCredential(primary)),
        install_fields,
        ..Entry::default()
    }
}

/// A self-hosted entry.
pub fn self_hosted(uid: &str, command: &str, install_fields: Vec<InstallField>) -> Entry {
    let server = SelfHostedServer {
        command: command.to_owned(),
        transport: Some(self_hosted_server::Transport::Stdio(StdioTransport {})),
        ..SelfHostedServer::default()
    };
    Entry {
        name: format!("entries/{uid}"),
        uid: uid.to_owned(),
        server: Some(entry::Server::SelfHosted(server)),
        credential_model: Some(entry::CredentialModel::NoCredential(NoCredential {})),
        install_fields,
        ..Entry::default()
    }
}
