//! A registry, and replicas of credential-svc that keep secrets in one Vault (OpenBao), in this process and connected as in
//! `deploy/standalone`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use contracts::{
    credential::{VendHeadersRequest, VendHeadersResponse, vend_service_client::VendServiceClient},
    registry::Installation,
};
use credential_svc::{StoreConfig, VaultConfig, VaultLogin};
use integration_tests::{Caller, eventually_within, tools::Tool};
use serde_json::json;
use service_kit::{
    Clock, Quotas, Readiness, Workload,
    egress::EgressPolicy,
    identity::Verifier,
    testing::{OpenBao, Served, TestIssuer},
};
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::{Status, transport::Channel};

const POLICY: &str = include_str!("../../../deploy/vault/policy.hcl");
/// The key of page tokens.
const KEY: [u8; 32] = [7; 32];
/// Where browsers would reach a gateway.
pub(crate) const GATEWAY: &str = "http://127.0.0.1:1";
/// How long a replica may take to notice what happens to Vault.
const NOTICED: Duration = Duration::from_secs(60);

/// A registry and a Vault.
pub(crate) struct World {
    pub(crate) bao: OpenBao,
    issuer: TestIssuer,
    verifier: Arc<Verifier>,
    registry: Served,
    address: SocketAddr,
    _data: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let bao = OpenBao::start(Tool::Openbao.path(), None).await;
        bao.mount_kv("secret").await;
        bao.set_up("POST", "sys/policies/acl/chandlery", json!({"policy": POLICY}))
            .await;
        let issuer = TestIssuer::start().await.expect("it starts");
        let verifier = issuer.verifier(Clock::System);
        let data = tempfile::tempdir().expect("there is a place for temporary files");
        let database = registry_svc::Database::Sqlite(data.path().join("registry.db"));
        let config = registry_svc::Config {
            egress: egress(),
            ..registry_svc::Config::new(database, KEY)
        };
        let deps = registry_svc::Deps {
            verifier: Arc::clone(&verifier),
            quotas: Quotas::unlimited(),
            clock: Clock::System,
        };
        let app = registry_svc::build(config, deps).await.expect("it is built");
        let registry = Served::start(app);
        let address = registry.tcp().await.expect("a port is free");
        Self {
            bao,
            issuer,
            verifier,
            registry,
            address,
            _data: data,
        }
    }

    fn token(&self, subject: &str) -> String {
        self.issuer.token(subject, &[], subject == "admin")
    }

    /// A person at the registry.
    pub(crate) fn at_registry(&self, subject: &str) -> Caller {
        Caller::new(&self.address.to_string(), Some(self.token(subject)))
    }

    /// A person at a replica.
    pub(crate) fn at(&self, replica: &Replica, subject: &str) -> Caller {
        Caller::new(&replica.address.to_string(), Some(self.token(subject)))
    }

    /// Starts a replica, and waits until it is ready.
    pub(crate) async fn replica(&self, name: &str) -> Replica {
        let token = self.bao.token(&["chandlery"], 3_600, true).await;
        let config = credential_svc::Config {
            store: StoreConfig::Vault(VaultConfig {
                address: self.bao.address().to_owned(),
                ca: None,
                namespace: None,
                mount: "secret".to_owned(),
                prefix: "chandlery".to_owned(),
                login: VaultLogin::Token(token.into()),
                former_data_dir: None,
            }),
            instance: Some(name.to_owned()),
            public_url: Some(GATEWAY.parse().expect("a URL")),
            egress: egress(),
        };
        let deps = credential_svc::Deps {
            registry: self.registry.pipe(Workload::Credential),
            verifier: Arc::clone(&self.verifier),
            quotas: Quotas::unlimited(),
            clock: Clock::System,
        };
        let app = credential_svc::build(config, deps).await.expect("it is built");
        let ready = app.ready.clone();
        let served = Served::start(app);
        let replica = Replica {
            address: served.tcp().await.expect("a port is free"),
            channel: served.pipe(Workload::Gateway),
            ready,
            _served: served,
        };
        replica.until_ready().await;
        replica
    }
}

/// Upstreams and authorization servers of tests are on this machine.
fn egress() -> EgressPolicy {
    EgressPolicy::new(vec!["127.0.0.0/8".parse().expect("a network")])
}

/// A replica of credential-svc.
pub(crate) struct Replica {
    address: SocketAddr,
    /// A gateway's connection.
    pub(crate) channel: Channel,
    ready: watch::Receiver<Readiness>,
    _served: Served,
}

impl Replica {
    /// What a gateway gets from it.
    pub(crate) async fn vend(
        &self,
        installation: &Installation,
        destination: &str,
    ) -> Result<VendHeadersResponse, Status> {
        self.vend_since(installation, destination, 0).await
    }

    /// What a gateway gets that knows this generation of the credential.
    pub(crate) async fn vend_since(
        &self,
        installation: &Installation,
        destination: &str,
        known_credential_generation: i64,
    ) -> Result<VendHeadersResponse, Status> {
        let request = VendHeadersRequest {
            installation_uid: installation.uid.clone(),
            destination: destination.to_owned(),
            known_credential_generation,
            ..VendHeadersRequest::default()
        };
        let mut client = VendServiceClient::new(self.channel.clone());
        Ok(client.vend_headers(request).await?.into_inner())
    }

    pub(crate) async fn until_ready(&self) {
        self.until("the replica is ready", |ready| *ready == Readiness::Ready)
            .await;
    }

    /// Waits until its readiness is as the test wants it.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Readiness) -> bool) {
        let ready = self.ready.clone();
        eventually_within(NOTICED, what, || async { is(&ready.borrow()).then_some(()) }).await;
    }
}
