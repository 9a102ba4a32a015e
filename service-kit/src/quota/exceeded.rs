//! The error of a caller who exceeds a limit.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::HeaderValue;
use tonic::{Code, Status};

use crate::status::{Reason, StatusBuilder};

/// The time between two log lines about refused callers.
const QUIET_LOG: Duration = Duration::from_secs(10);

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quota {
    Requests,
    Writes,
    Sessions,
    SignIns,
    Grants,
    Calls,
    Streams,
}

/// A caller has reached a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; try again in {} s ({} sets the limit)", self.quota.refusal(self.limit), self.seconds(), self.quota.flag())]
pub struct Exceeded {
    quota: Quota,
    limit: u64,
    retry: Duration,
}

/// Makes the errors of one limit, and logs a line at most every ten seconds.
#[derive(Debug)]
pub(super) struct Refusals {
    quota: Quota,
    limit: u64,
    told: Mutex<Told>,
}

/// When a line was last logged.
#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    /// Refusals since then, which were not logged.
    untold: u64,
}

impl Refusals {
    pub(super) fn new(quota: Quota, limit: u64) -> Self {
        Self {
            quota,
            limit,
            told: Mutex::default(),
        }
    }

    /// Refuses a caller, who may retry after `retry`.
    pub(super) fn refuse(&self, caller: &str, retry: Duration) -> Exceeded {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.last.is_none_or(|last| last.elapsed() >= QUIET_LOG) {
            tracing::warn!(
                caller,
                limit = self.limit,
                refused_since_last_line = told.untold,
                "a caller is refused for a while, for too many {}; {} sets the limit",
                self.quota.name(),
                self.quota.flag()
            );
            *told = Told {
                last: Some(Instant::now()),
                untold: 0,
            };
        } else {
            told.untold += 1;
        }
        drop(told);
        Exceeded {
            quota: self.quota,
            limit: self.limit,
            retry,
        }
    }
}

impl Exceeded {
    /// The value of `Retry-After` (RFC 9110, section 10.2.3).
    pub fn retry_after(&self) -> HeaderValue {
        HeaderValue::from(self.seconds())
    }

    /// RESOURCE_EXHAUSTED, with the time to wait before a retry.
    pub fn status(&self) -> Status {
        StatusBuilder::new(Code::ResourceExhausted, Reason::QUOTA_EXCEEDED, self.to_string())
            .with("quota", self.quota.name())
            .with("limit", self.limit.to_string())
            .retry_after(self.retry)
            .build()
    }

    /// Seconds to wait before a retry, rounded up; at least 1.
    pub fn seconds(&self) -> u64 {
        self.retry.as_secs() + u64::from(self.retry.subsec_nanos() > 0).max(u64::from(self.retry.is_zero()))
    }
}

impl Quota {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Writes => "writes",
            Self::Sessions => "sessions",
            Self::SignIns | Self::Grants => "sign-ins",
            Self::Calls => "calls",
            Self::Streams => "streams",
        }
    }

    fn refusal(self, limit: u64) -> String {
        match self {
            Self::Requests => format!("you have made {limit} requests within a minute, as many as one caller may"),
            Self::Writes => {
                format!(
                    "you have made {limit} requests that may change something within a minute, as many as one caller may"
                )
            }
            Self::Sessions => format!("you have begun {limit} sessions within a minute, as many as one caller may"),
            Self::SignIns => format!("{limit} sign-ins have come from your address within a minute, as many as may"),
            Self::Grants => {
                format!("{limit} requests with what this sign-in gave have come within a minute, as many as may")
            }
            Self::Calls => {
                format!(
                    "{limit} of your calls are under way, as many as one caller may have; wait until one ends, or cancel one"
                )
            }
            Self::Streams => {
                format!("{limit} of your event streams are open, as many as one caller may have; close one")
            }
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Requests => "--max-requests-per-minute",
            Self::Writes => "--max-writes-per-minute",
            Self::Sessions => "--max-sessions-per-minute",
            Self::SignIns | Self::Grants => "--max-sign-ins-per-minute",
            Self::Calls => "--max-calls",
            Self::Streams => "--max-streams",
        }
    }
}
