//! The runtime lease. It does not expire here: a test takes and frees it.

use std::time::Duration;

use contracts::registry::{
    AcquireRuntimeLeaseRequest, AcquireRuntimeLeaseResponse, ErrorReason, ReleaseRuntimeLeaseRequest, RuntimeLease,
};
use service_kit::status::{Reason, StatusBuilder};
use tonic::{Code, Status};

use super::{FakeRegistry, registry::State};

/// The remaining time in every response. It is short, so that a holder renews often and a waiting process asks often.
const REMAINING: Duration = Duration::from_millis(300);

impl FakeRegistry {
    /// Grants the lease to another orchestrator.
    pub fn take_lease(&self, holder: &str) {
        self.lock().grant(holder);
    }

    /// Frees the lease.
    pub fn free_lease(&self) {
        if let Some(lease) = &mut self.lock().lease {
            lease.holder.clear();
        }
    }
}

impl State {
    fn epoch(&self) -> i64 {
        self.lease.as_ref().map_or(0, |lease| lease.epoch)
    }

    fn grant(&mut self, holder: &str) {
        self.lease = Some(RuntimeLease {
            holder: holder.to_owned(),
            epoch: self.epoch() + 1,
        });
    }

    pub(super) fn acquire(&mut self, request: &AcquireRuntimeLeaseRequest) -> AcquireRuntimeLeaseResponse {
        let lease = self.lease.as_ref();
        let is_theirs = lease.is_some_and(|lease| lease.holder == request.holder);
        let renews = is_theirs && request.epoch == self.epoch();
        let is_free = lease.is_none_or(|lease| lease.holder.is_empty()) || (is_theirs && request.replaces);
        if is_free && !renews {
            self.grant(&request.holder);
        }
        AcquireRuntimeLeaseResponse {
            held: is_free || renews,
            lease: self.lease.clone(),
            remaining: REMAINING.try_into().ok(),
        }
    }

    pub(super) fn release(&mut self, request: &ReleaseRuntimeLeaseRequest) {
        if let Some(lease) = &mut self.lease
            && request.lease.as_ref() == Some(lease)
        {
            lease.holder.clear();
        }
    }

    /// Fails unless the report names the current lease.
    pub(super) fn require_lease(&self, lease: Option<&RuntimeLease>) -> Result<(), Status> {
        if lease == self.lease.as_ref() {
            return Ok(());
        }
        let reason = Reason::of(ErrorReason::LeaseLost, ErrorReason::as_str_name);
        Err(StatusBuilder::new(Code::FailedPrecondition, reason, "another orchestrator holds the lease").build())
    }
}
