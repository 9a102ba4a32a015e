//! Calls wait for servers that are being started.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Calls, tool_call::ToolCall};
use crate::{
    domain::{CallError, Caller, ConsumerRef, Endpoint, RepairReason},
    resolve,
};

/// How long a call waits for a server that is starting.
pub(super) const START: Duration = Duration::from_secs(20);

impl Calls {
    /// Where the call goes. Waits until `deadline` for a server that is starting, and for another endpoint than
    /// `stopping`, whose server refused the call.
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
            // Resolves once more after it has subscribed, so that no change in between is missed.
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
