//! What one caller may do: so many requests, writes, sessions and sign-ins a minute, and so many calls and streams at a time.
//!
//! A caller is a person, by whichever of their tokens, or a gateway token of a team; for what goes on at a time, the team. Sign-ins are counted
//! by address. What is counted a minute is a bucket that holds a minute's worth: all of it may come at once, and it fills up again
//! evenly (GCRA). Each process counts for itself: with two replicas a caller has twice as much.
//!
//! [`Allowance`] says how much; [`Quotas`] counts, with a bucket a caller (`buckets.rs`) and a number of what is under way (`under_way.rs`).

mod address;
mod allowance;
mod answer;
mod buckets;
mod exceeded;
mod grpc;
#[cfg(test)]
mod tests;
mod under_way;

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use tokio_util::sync::CancellationToken;

pub use self::{
    allowance::Allowance,
    answer::until_sent,
    exceeded::Exceeded,
    grpc::{charge, charge_to},
    under_way::UnderWay,
};
use self::{buckets::Buckets, exceeded::Quota, under_way::Counts};
use crate::peer::Peer;

/// How often callers whose buckets are full again are forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// Counts what callers do; shared by all services of a process. Callers are named: `users/{user}`, `gatewayTokens/{token}`.
#[derive(Debug)]
pub struct Quotas {
    allowance: Allowance,
    requests: Buckets,
    writes: Buckets,
    sessions: Buckets,
    sign_ins: Buckets,
    calls: Arc<Counts>,
    streams: Arc<Counts>,
}

/// To whom a request is charged.
#[derive(Clone, Copy, Debug)]
pub struct Callers<'a> {
    /// What is counted a minute.
    pub minute: &'a Arc<str>,
    /// What is counted at a time.
    pub at_a_time: &'a Arc<str>,
}

impl<'a> Callers<'a> {
    /// One for both.
    pub fn one(caller: &'a Arc<str>) -> Self {
        Self {
            minute: caller,
            at_a_time: caller,
        }
    }
}

impl Quotas {
    /// Callers may do so much.
    pub fn new(allowance: Allowance) -> Arc<Self> {
        Arc::new(Self {
            requests: Buckets::new(Quota::Requests, allowance.requests),
            writes: Buckets::new(Quota::Writes, allowance.writes),
            sessions: Buckets::new(Quota::Sessions, allowance.sessions),
            sign_ins: Buckets::new(Quota::SignIns, allowance.sign_ins),
            calls: Counts::new(Quota::Calls, allowance.calls),
            streams: Counts::new(Quota::Streams, allowance.streams),
            allowance,
        })
    }

    /// For tests and benchmarks that do more than anybody may.
    #[cfg(feature = "testing")]
    pub fn boundless() -> Arc<Self> {
        Self::new(Allowance::boundless())
    }

    /// A request of any kind, which may be one that changes something. It is under way until what is returned is dropped.
    ///
    /// # Errors
    /// If the caller may make no more.
    pub fn request(&self, callers: Callers<'_>, writes: bool) -> Result<UnderWay, Exceeded> {
        let under_way = self.call(callers.at_a_time)?;
        // Whoever has no writes left can still read.
        if writes {
            self.writes.take(callers.minute, 1)?;
        }
        self.requests(callers.minute, 1)?;
        Ok(under_way)
    }

    /// `count` requests of any kind.
    ///
    /// # Errors
    /// If the caller has made as many as they may.
    pub fn requests(&self, caller: &Arc<str>, count: usize) -> Result<(), Exceeded> {
        self.requests.take(caller, count)
    }

    /// A new MCP session.
    ///
    /// # Errors
    /// If the caller has begun as many as they may.
    pub fn session(&self, caller: &Arc<str>) -> Result<(), Exceeded> {
        self.sessions.take(caller, 1)
    }

    /// A sign-in from wherever this request comes from.
    ///
    /// # Errors
    /// If as many have come from there as may.
    pub fn sign_in(&self, peer: Option<Peer>, headers: &HeaderMap) -> Result<(), Exceeded> {
        match address::of_client(peer, headers, &self.allowance.proxies) {
            Some(address) => self.sign_ins.take(&address.to_string().into(), 1),
            None => Ok(()),
        }
    }

    /// A call, or another request, that is under way until what is returned is dropped.
    ///
    /// # Errors
    /// If as many of the caller's are under way as may be.
    pub fn call(&self, caller: &Arc<str>) -> Result<UnderWay, Exceeded> {
        self.calls.begin(caller)
    }

    /// Several calls that are under way until what is returned is dropped: as many as there is room for, up to `most`, and at least one.
    ///
    /// # Errors
    /// If as many of the caller's are under way as may be.
    pub fn calls(&self, caller: &Arc<str>, most: usize) -> Result<Vec<UnderWay>, Exceeded> {
        self.calls.begin_some(caller, most)
    }

    /// An event stream that is open until what is returned is dropped.
    ///
    /// # Errors
    /// If the caller has as many open as they may.
    pub fn stream(&self, caller: &Arc<str>) -> Result<UnderWay, Exceeded> {
        self.streams.begin(caller)
    }

    /// Forgets who has not done anything for a while, until `stop` is cancelled. Memory is that of the callers of two minutes.
    pub async fn forget_idle(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(FORGET)).await.is_some() {
            let this = Arc::clone(&self);
            // It looks at every caller: not where others wait for their turn.
            let forgotten = tokio::task::spawn_blocking(move || {
                for buckets in [&this.requests, &this.writes, &this.sessions, &this.sign_ins] {
                    buckets.forget_full();
                }
            });
            if let Err(error) = forgotten.await {
                tracing::error!(error = %error, "idle callers were not forgotten");
            }
        }
    }
}
