//! Calls wait for servers that are being started.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Calls, tool_call::ToolCall};
use crate::{
    domain::{CallError, Caller, ConsumerRef, Endpoint, RepairReason},
    resolve,
};

/// How long a call waits for a server that is being started again.
pub(super) const START: Duration = Duration::from_secs(20);

impl Calls {
    /// Where the call goes. A server that is being started again is waited for: that is no reason to fail a call. So is another than that at
    /// `stopping`.
    pub(super) async fn resolve(
        &self,
        caller: &Caller,
        consumer: &ConsumerRef,
        call: &ToolCall<'_>,
        stopping: Option<&Endpoint>,
        deadline: Instant,
    ) -> Result<resolve::Target, CallError> {
        let mut revisions = None;
        loop {
            let snapshot = self.store.load()?;
            let resolved = resolve::call(&snapshot, caller, consumer, call.exposed_name, &self.links);
            let starting = matches!(&resolved, Err(CallError::Repair(repair)) if repair.reason == RepairReason::InstallationUnavailable)
                && resolve::is_starting(&snapshot, caller, consumer, call.exposed_name);
            drop(snapshot);
            let still =
                stopping.is_some() && matches!(&resolved, Ok(target) if target.running.endpoint.as_ref() == stopping);
            if !starting && !still {
                return resolved;
            }
            // Subscribed first, then looked at once more: no change is missed in between.
            let Some(revisions) = &mut revisions else {
                revisions = Some(self.store.revisions());
                continue;
            };
            tokio::select! {
                Ok(()) = revisions.changed() => {}
                () = sleep_until(deadline) => return resolved,
                () = call.cancel.cancelled() => return resolved,
            }
        }
    }
}
