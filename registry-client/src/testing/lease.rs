//! The lease of what runs servers. It never ends by itself here: a test takes it and frees it.

use std::time::Duration;

use contracts::registry::{
    AcquireRuntimeLeaseRequest, AcquireRuntimeLeaseResponse, ErrorReason, ReleaseRuntimeLeaseRequest, RuntimeLease,
};
use service_kit::status::{Reason, StatusBuilder};
use tonic::{Code, Status};

use super::{FakeRegistry, registry::State};

/// How long it is said to last: a holder renews it often, and one who waits asks often.
const REMAINING: Duration = Duration::from_millis(300);

impl FakeRegistry {
    /// Another orchestrator holds the lease from now on.
    pub fn take_lease(&self, holder: &str) {
        self.lock().grant(holder);
    }

    /// Nobody holds it any more.
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

    /// Reports are accepted only under the present lease.
    pub(super) fn require_lease(&self, lease: Option<&RuntimeLease>) -> Result<(), Status> {
        if lease == self.lease.as_ref() {
            return Ok(());
        }
        let reason = Reason::of(ErrorReason::LeaseLost, ErrorReason::as_str_name);
        Err(StatusBuilder::new(Code::FailedPrecondition, reason, "another orchestrator holds the lease").build())
    }
}
