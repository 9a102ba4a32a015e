//! Calls wait for servers that are being started.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Calls, tool_call::ToolCall};
use crate::{
    domain::{CallError, Caller, ConsumerRef, Endpoint, RepairReason, UpstreamFault},
    resolve,
    upstream::UpstreamError,
};

/// How long a call waits for a server that is starting. A restart first waits 30 s for calls in progress, and up to 7 s for the server to end.
/// Many clients give up after 60 s.
pub(super) const START: Duration = Duration::from_secs(50);
/// How long a call waits for the successor of a server that cannot be reached: nobody may know of its end.
const SUCCESSOR: Duration = Duration::from_secs(20);

/// How long a call waits for the successor of a server that did not receive it.
pub(super) const fn successor_wait(why: &UpstreamError) -> Duration {
    match why {
        UpstreamError::NotTaken => START,
        _ => SUCCESSOR,
    }
}

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
                () = sleep_until(deadline) => return resolved.map_err(|error| if starting { still_starting(error) } else { error }),
                () = call.cancel.cancelled() => return resolved,
            }
        }
    }
}

/// Without a link: the caller has nothing to repair.
fn still_starting(error: CallError) -> CallError {
    match error {
        CallError::Repair(repair) => CallError::Upstream {
            entry: repair.entry,
            fault: UpstreamFault::Unreachable,
            message: repair.message,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Repair;

    #[test]
    fn nobody_is_asked_to_repair_what_is_starting() {
        let repair = Repair {
            reason: RepairReason::InstallationUnavailable,
            entry: "mail".into(),
            display_name: "Mail".into(),
            message: "The server of Mail is being started. Try again in a moment.".to_owned(),
            install_url: "http://127.0.0.1/install/mail".to_owned(),
        };
        let CallError::Upstream { entry, message, .. } = still_starting(repair.into()) else {
            panic!()
        };
        assert_eq!(&*entry, "mail");
        assert!(message.ends_with("Try again in a moment."), "{message}");
    }
}
