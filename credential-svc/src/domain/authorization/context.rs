//! What the service keeps in memory to work with authorization servers.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use service_kit::Clock;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use super::{
    attempts::Attempts,
    exchange::{self, Exchanger},
    flights::Flights,
};
use crate::domain::owner::Owner;

/// How long a process that stops goes on to store what a server issued. The server may answer until a second before, and the process ends when
/// there has been time to revoke what could not be stored.
const STORED: Duration = Duration::from_secs(21);

/// The authorization servers, and what this process knows of its dealings with them.
#[derive(Debug)]
pub(in crate::domain) struct Authorization<A> {
    pub(super) servers: Arc<A>,
    /// Where people reach gateway-svc; `None`: nobody can sign in.
    pub(super) public_url: Option<Url>,
    /// As [`Lease::holder`](super::grant::Lease::holder): this process.
    pub(super) holder: Uuid,
    pub(super) flights: Flights,
    /// What must be completed even if nobody waits for it: a server may have issued what it never issues again.
    pub(in crate::domain) tasks: TaskTracker,
    /// When the process began to stop.
    stopped: OnceLock<Instant>,
    /// To get tokens for owners.
    pub(super) attempts: Attempts<Owner>,
    /// To exchange tokens of callers.
    pub(super) exchanges: Attempts<exchange::Key>,
    pub(super) exchanger: Exchanger,
}

impl<A> Authorization<A> {
    pub(in crate::domain) fn new(servers: A, public_url: Option<Url>, holder: Uuid, clock: Clock) -> Self {
        let tasks = TaskTracker::new();
        Self {
            servers: Arc::new(servers),
            public_url,
            holder,
            flights: Flights::among(tasks.clone()),
            tasks,
            stopped: OnceLock::new(),
            attempts: Attempts::default(),
            exchanges: Attempts::default(),
            exchanger: Exchanger::new(clock),
        }
    }

    /// The process begins to stop: the tasks that are under way are completed.
    pub(in crate::domain) fn stop(&self) {
        self.stopped.get_or_init(Instant::now);
        self.tasks.close();
    }

    pub(in crate::domain) fn is_stopping(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// Until when it is attempted to store what a server issued: `latest`, or as long as a process that stops can wait.
    pub(super) fn stored_until(&self, latest: Instant) -> Instant {
        self.stopped.get().map_or(latest, |since| latest.min(*since + STORED))
    }

    pub(in crate::domain) fn servers(&self) -> Arc<A> {
        Arc::clone(&self.servers)
    }

    /// A page of gateway-svc.
    pub(super) fn page(&self, path: &str) -> Option<String> {
        let base = self.public_url.as_ref()?.as_str().trim_end_matches('/');
        Some(format!("{base}{path}"))
    }
}
