//! Quotas: how many requests, writes, sessions and sign-ins one caller may make per minute, and how many calls and
//! streams at a time.
//!
//! A caller is a person, whichever token they use, or a gateway token of a team. The limits at a time apply to the team
//! as a whole. Sign-ins are counted by address, and requests with what a sign-in gave for that sign-in. A limit per minute is a bucket that holds the amount of one minute: a
//! caller may use all of it at once, and it refills evenly (GCRA). Each process counts for itself, so with two replicas
//! a caller has twice the quota.
//!
//! [`Allowance`] holds the limits; [`Quotas`] counts, with a bucket for each caller (`buckets.rs`) and a count of what
//! is in progress (`in_flight.rs`). An [`CallerQuota`] holds those of one caller.

mod address;
mod allowance;
mod answer;
mod buckets;
mod caller_quota;
mod exceeded;
mod grpc;
mod in_flight;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use tokio_util::sync::CancellationToken;

pub use self::{
    allowance::Allowance,
    answer::until_sent,
    caller_quota::CallerQuota,
    exceeded::Exceeded,
    grpc::{charge, charge_to},
    in_flight::InFlight,
};
use self::{buckets::Buckets, exceeded::Quota, in_flight::Counts};
use crate::peer::Peer;

/// How often callers whose buckets are full are forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// Counts what callers do. All services of a process share one. Callers are resource names: `users/{user}`,
/// `gatewayTokens/{token}`.
#[derive(Debug)]
pub struct Quotas {
    allowance: Allowance,
    requests: Buckets,
    writes: Buckets,
    sessions: Buckets,
    sign_ins: Buckets,
    grants: Buckets,
    calls: Arc<Counts>,
    streams: Arc<Counts>,
}

/// The callers whose quotas a request uses.
#[derive(Clone, Copy, Debug)]
pub struct Callers<'a> {
    /// For the limits per minute.
    pub minute: &'a Arc<str>,
    /// For the limits at a time.
    pub at_a_time: &'a Arc<str>,
}

impl<'a> Callers<'a> {
    /// The same caller for both.
    pub fn one(caller: &'a Arc<str>) -> Self {
        Self {
            minute: caller,
            at_a_time: caller,
        }
    }
}

impl Quotas {
    /// Quotas with these limits.
    pub fn new(allowance: Allowance) -> Arc<Self> {
        Arc::new(Self {
            requests: Buckets::new(Quota::Requests, allowance.requests),
            writes: Buckets::new(Quota::Writes, allowance.writes),
            sessions: Buckets::new(Quota::Sessions, allowance.sessions),
            sign_ins: Buckets::new(Quota::SignIns, allowance.sign_ins),
            grants: Buckets::new(Quota::Grants, allowance.sign_ins),
            calls: Counts::new(Quota::Calls, allowance.calls),
            streams: Counts::new(Quota::Streams, allowance.streams),
            allowance,
        })
    }

    /// For tests and benchmarks that do more than any limit allows.
    #[cfg(feature = "testing")]
    pub fn unlimited() -> Arc<Self> {
        Self::new(Allowance::unlimited())
    }

    /// Counts a request, and a write if `writes`. It is in progress until the returned value is dropped.
    ///
    /// # Errors
    /// If the caller has reached a limit.
    pub fn request(&self, callers: Callers<'_>, writes: bool) -> Result<InFlight, Exceeded> {
        let in_flight = self.call(callers.at_a_time)?;
        // First, so that a caller without writes left can still read.
        if writes {
            self.writes.take(callers.minute, 1)?;
        }
        self.requests(callers.minute, 1)?;
        Ok(in_flight)
    }

    /// The quota of a caller, for whoever counts many of their messages: no look-up is made for each of these.
    pub fn of_caller(&self, callers: Callers<'_>) -> CallerQuota {
        CallerQuota {
            requests: self.requests.of(callers.minute),
            calls: self.calls.of(callers.at_a_time),
        }
    }

    /// Counts `count` requests.
    ///
    /// # Errors
    /// If the caller has reached the limit.
    pub fn requests(&self, caller: &Arc<str>, count: usize) -> Result<(), Exceeded> {
        self.requests.take(caller, count)
    }

    /// Counts a new MCP session.
    ///
    /// # Errors
    /// If the caller has reached the limit.
    pub fn session(&self, caller: &Arc<str>) -> Result<(), Exceeded> {
        self.sessions.take(caller, 1)
    }

    /// Counts a sign-in for the address from which this request comes.
    ///
    /// # Errors
    /// If the address has reached the limit.
    pub fn sign_in(&self, peer: Option<Peer>, headers: &HeaderMap) -> Result<(), Exceeded> {
        match address::of_client(peer, headers, &self.allowance.proxies) {
            Some(address) => self.sign_ins.take(&address.to_string().into(), 1),
            None => Ok(()),
        }
    }

    /// Counts a request that is made with what a sign-in gave, for that sign-in: many people may share an address.
    ///
    /// # Errors
    /// If it has reached the limit.
    pub fn grant(&self, sign_in: &Arc<str>) -> Result<(), Exceeded> {
        self.grants.take(sign_in, 1)
    }

    /// Begins a call, which is in progress until the returned value is dropped.
    ///
    /// # Errors
    /// If the caller has reached the limit.
    pub fn call(&self, caller: &Arc<str>) -> Result<InFlight, Exceeded> {
        self.calls.of(caller).begin()
    }

    /// Begins several calls: up to `most`, as many as the limit allows, and at least one. Each is in progress until its
    /// value is dropped.
    ///
    /// # Errors
    /// If the caller has reached the limit.
    pub fn calls(&self, caller: &Arc<str>, most: usize) -> Result<Vec<InFlight>, Exceeded> {
        self.calls.of(caller).begin_some(most)
    }

    /// Begins an event stream, which is open until the returned value is dropped.
    ///
    /// # Errors
    /// If the caller has reached the limit.
    pub fn stream(&self, caller: &Arc<str>) -> Result<InFlight, Exceeded> {
        self.streams.of(caller).begin()
    }

    /// Forgets idle callers periodically, until `stop` is cancelled. Memory is bounded by the callers of two minutes.
    pub async fn forget_idle(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(FORGET)).await.is_some() {
            let this = Arc::clone(&self);
            // This iterates over all callers, so it runs on a blocking thread.
            let forgotten = tokio::task::spawn_blocking(move || {
                for buckets in [
                    &this.requests,
                    &this.writes,
                    &this.sessions,
                    &this.sign_ins,
                    &this.grants,
                ] {
                    buckets.forget_full();
                }
            });
            if let Err(error) = forgotten.await {
                tracing::error!(error = %error, "idle callers were not forgotten");
            }
        }
    }
}
