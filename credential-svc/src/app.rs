//! The wiring.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use contracts::credential::{
    FILE_DESCRIPTOR_SET, credential_service_server::CredentialServiceServer, vend_service_server::VendServiceServer,
};
use futures::StreamExt as _;
use registry_client::{access::Access, watch::follow};
use service_kit::{
    App, Clock, Readiness, Task,
    identity::{Verifier, authenticate},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Channel};

use crate::{
    api::{People, Workloads},
    domain::{
        credentials::Credentials,
        ports::{Registry, Store},
        record::Owner,
    },
    registry::{
        follow::{Follower, KINDS},
        report::Reporter,
    },
    store::local::{LocalStore, OpenError},
};

/// Reports of the background under way at a time.
const RECONCILED_AT_ONCE: usize = 8;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// What is configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds `credentials.db` and `credential.key`, which are backed up together. Made if it is not there.
    pub data_dir: PathBuf,
}

/// What the service needs of others.
#[derive(Clone, Debug)]
pub struct Deps {
    /// A channel of this workload to registry-svc.
    pub registry: Channel,
    /// Verifies people's tokens.
    pub verifier: Arc<Verifier>,
    /// Tells the time.
    pub clock: Clock,
}

/// Why the service cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Its store cannot be opened.
    #[error("the store of secrets cannot be opened: {0}")]
    Store(#[from] OpenError),
}

/// Opens the store and wires the service.
pub async fn build(config: Config, deps: Deps) -> Result<App, BuildError> {
    let store = LocalStore::open(&config.data_dir).await?;
    let reporter = Reporter::new(deps.registry.clone());
    let credentials = Arc::new(Credentials::new(store, reporter, deps.clock));
    let (readiness, ready) = watch::channel(Readiness::NotReady(
        "the registry has not told yet which installations there are".to_owned(),
    ));

    let people = People::new(Arc::clone(&credentials), Access::new(deps.registry.clone()));
    let workloads = Workloads::new(Arc::clone(&credentials));
    let mut routes = Routes::builder();
    routes
        .add_service(CredentialServiceServer::new(people))
        .add_service(VendServiceServer::new(workloads));
    let verifier = deps.verifier;
    let grpc = routes
        .routes()
        .into_axum_router()
        .reset_fallback()
        .layer(axum::middleware::from_fn(move |request, next| {
            authenticate(Arc::clone(&verifier), request, next)
        }));

    let mut follower = Follower::new(Arc::clone(&credentials), readiness);
    let registry = deps.registry;
    let tasks = vec![
        Task::new("watch", move |stop| async move {
            follow(registry, &KINDS, &mut follower, stop).await
        }),
        Task::new("reconcile", move |stop| reconcile(credentials, stop)),
    ];
    Ok(App {
        name: "credential-svc",
        grpc,
        services: vec![
            "chandlery.credential.v1.CredentialService",
            "chandlery.credential.v1.VendService",
        ],
        descriptors: FILE_DESCRIPTOR_SET,
        http: axum::Router::new(),
        tasks,
        ready,
    })
}

/// Looks at whatever is queued, again and again until it is as it should be.
async fn reconcile<S: Store, R: Registry>(credentials: Arc<Credentials<S, R>>, stop: CancellationToken) {
    let mut failed: BTreeSet<Owner> = BTreeSet::new();
    let mut delay = FIRST_RETRY;
    loop {
        let retry = async {
            if failed.is_empty() {
                std::future::pending().await
            } else {
                tokio::time::sleep(delay).await
            }
        };
        tokio::select! {
            () = credentials.queue().added() => {}
            () = retry => {}
            () = stop.cancelled() => return,
        }
        let mut owners = std::mem::take(&mut failed);
        owners.extend(credentials.queue().take());
        let outcomes = futures::stream::iter(owners).map(|owner| {
            let credentials = &credentials;
            async move {
                let outcome = credentials.reconcile(&owner).await;
                (owner, outcome)
            }
        });
        let mut outcomes = outcomes.buffer_unordered(RECONCILED_AT_ONCE);
        loop {
            tokio::select! {
                outcome = outcomes.next() => match outcome {
                    Some((_, Ok(()))) => {}
                    Some((owner, Err(error))) => {
                        tracing::debug!(credential.owner = %owner, error = %error, "to be looked at again");
                        failed.insert(owner);
                    }
                    None => break,
                },
                () = stop.cancelled() => return,
            }
        }
        delay = if failed.is_empty() {
            FIRST_RETRY
        } else {
            (delay * 2).min(LAST_RETRY)
        };
    }
}
