//! What `ExplainResolution` says of servers that are away, to people who ask where their calls go.

use std::{sync::Arc, time::SystemTime};

use super::{Calls, targets};
use crate::{
    domain::Running,
    upstream::{Away, Whose},
};

/// Calls of a server fail at once, since it has failed too often in a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    /// When it failed first.
    pub(crate) since: SystemTime,
    /// When it is tried again; where that is past, it is being tried, or is by the next request.
    pub(crate) until: SystemTime,
    /// How often it has failed.
    pub(crate) failures: u32,
    /// How it failed last, without its address.
    pub(crate) how: String,
}

impl Calls {
    /// Whether calls of what runs there fail at once, if this person or team makes them.
    pub(crate) fn pause(&self, running: &Running, subject: &str) -> Option<Pause> {
        // Those that the orchestrator runs are never away.
        let endpoint = targets::endpoint(running)?;
        let whose = running.revision.per_caller.then(|| Whose {
            subject: Arc::from(subject),
            headers: None,
        });
        let away = self
            .upstreams
            .away(&running.installation.uid, &endpoint, whose.as_ref())?;
        let Away {
            since,
            until,
            failures,
            what,
            ..
        } = *away;
        Some(Pause {
            since,
            until,
            failures,
            how: what.to_string(),
        })
    }
}
