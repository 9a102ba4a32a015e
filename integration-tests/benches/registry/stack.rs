//! The registry and a gateway in this process, connected as in `deploy/standalone`, and the people who call them.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use integration_tests::{Caller, Result};
use registry_svc::Database;
use service_kit::{
    Clock, Readiness, Workload,
    identity::Verifier,
    pipe::{PipeListener, pipe},
    testing::{Served, TestIssuer},
};
use tokio::sync::watch;
use tonic::{Response, transport::Channel};

use crate::data::Plan;

/// The key of page tokens.
const KEY: [u8; 32] = [7; 32];
/// The timeout of a service's start.
const START: Duration = Duration::from_secs(120);
/// The time in which a stopped service closes its watch.
const GOODBYE: Duration = Duration::from_millis(500);

/// A data set in a database, and the issuer of its users' tokens.
pub(crate) struct World<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) database: &'a Database,
    pub(crate) issuer: &'a TestIssuer,
}

impl World<'_> {
    fn token(&self, subject: &str, groups: &[&str], admin: bool) -> String {
        self.issuer.token(subject, groups, admin)
    }

    /// The token of the first admin.
    pub(crate) fn admin(&self) -> String {
        self.token(&self.plan.subject(0), &[], true)
    }

    /// The token of [`Plan::member`].
    pub(crate) fn member(&self) -> String {
        self.token(&self.plan.subject(self.plan.member()), &["group-9", "staff"], false)
    }

    /// The token of a user who has nothing yet.
    pub(crate) fn newcomer(&self, subject: &str) -> String {
        self.token(subject, &[], false)
    }
}

/// Creates the schema in a new database, by starting the registry.
pub(crate) async fn make_schema(database: &Database, verifier: Arc<Verifier>) -> Result<()> {
    Registry::start(database, verifier).await?.stop().await;
    Ok(())
}

/// A running registry.
pub(crate) struct Registry {
    served: Served,
    address: SocketAddr,
}

impl Registry {
    pub(crate) async fn start(database: &Database, verifier: Arc<Verifier>) -> Result<Self> {
        let config = registry_svc::Config::new(database.clone(), KEY);
        let deps = registry_svc::Deps {
            verifier,
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::System,
        };
        let app = registry_svc::build(config, deps).await?;
        let mut ready = app.ready.clone();
        let served = Served::start(app);
        until_ready(&mut ready).await?;
        let address = served.tcp().await?;
        Ok(Self { served, address })
    }

    /// A caller with this token.
    pub(crate) fn caller(&self, token: String) -> Caller {
        Caller::new(&self.address.to_string(), Some(token))
    }

    /// A workload's channel.
    pub(crate) fn pipe(&self, workload: Workload) -> Channel {
        self.served.pipe(workload)
    }

    /// Stops the registry, which closes its database connections.
    pub(crate) async fn stop(self) {
        self.served.stop();
        tokio::time::sleep(GOODBYE).await;
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    served: Served,
    address: SocketAddr,
    /// The time from the start of its tasks until it was ready.
    pub(crate) start: Duration,
    _nobody: PipeListener,
}

impl Gateway {
    /// Starts a gateway on a channel to the registry.
    ///
    /// It does not discover tools: it would call the servers of all installations that move, which do not exist. The
    /// first discovery waits for a credential service that does not respond, and only one discovery runs at a time.
    pub(crate) async fn start(registry: Channel, verifier: Arc<Verifier>) -> Result<Self> {
        let (credential, nobody) = pipe(Workload::Gateway);
        let config = gateway_svc::Config {
            discovery_concurrency: 1,
            discovery_timeout: Duration::from_secs(24 * 3_600),
            ..gateway_svc::Config::new("http://127.0.0.1:1/".parse()?, KEY, KEY)
        };
        let deps = gateway_svc::Deps {
            registry,
            credential,
            verifier,
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::System,
        };
        let begin = Instant::now();
        let app = gateway_svc::build(config, deps).await?;
        let mut ready = app.ready.clone();
        let served = Served::start(app);
        until_ready(&mut ready).await?;
        let start = begin.elapsed();
        let address = served.tcp().await?;
        Ok(Self {
            served,
            address,
            start,
            _nobody: nobody,
        })
    }

    /// A caller with this token.
    pub(crate) fn caller(&self, token: String) -> Caller {
        Caller::new(&self.address.to_string(), Some(token))
    }

    /// The address on which people call the gateway.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the gateway, so that the registry does not wait for it.
    pub(crate) async fn stop(self) {
        self.served.stop();
        tokio::time::sleep(GOODBYE).await;
    }
}

async fn until_ready(ready: &mut watch::Receiver<Readiness>) -> Result<()> {
    let is_ready = |readiness: &Readiness| *readiness == Readiness::Ready;
    match tokio::time::timeout(START, ready.wait_for(is_ready)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err("the service has ended".into()),
        Err(_) => Err(format!("not ready after {} s", START.as_secs()).into()),
    }
}

/// Whether the call returned before a watcher had applied the change.
pub(crate) fn lags<T>(response: &Response<T>) -> bool {
    response.metadata().contains_key("chandlery-lagging")
}
