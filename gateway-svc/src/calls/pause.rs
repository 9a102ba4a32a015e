//! What is known of servers that are away, for people who ask where their calls go.

use std::{sync::Arc, time::Duration};

use super::Calls;
use crate::{
    domain::{Endpoint, Running},
    upstream::{self, Away, Whose},
};

/// Calls of a server fail at once, since it has failed too often in a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    /// How long ago it failed first.
    pub(crate) lasts: Duration,
    /// When it is tried again; zero: it is being tried, or is by the next call.
    pub(crate) again: Duration,
    /// How often it has failed.
    pub(crate) failures: u32,
    /// How it failed last, without its address.
    pub(crate) how: String,
}

impl Calls {
    /// Whether calls of what runs there fail at once, if this person or team makes them.
    pub(crate) fn pause(&self, running: &Running, subject: &str) -> Option<Pause> {
        let Some(Endpoint::Remote(url)) = &running.endpoint else {
            return None;
        };
        let endpoint = upstream::Endpoint::remote(url)?;
        let whose = running.revision.per_caller.then(|| Whose {
            subject: Arc::from(subject),
            headers: None,
        });
        let away = self
            .upstreams
            .away(&running.installation.uid, &endpoint, whose.as_ref())?;
        let Away {
            lasts,
            again,
            failures,
            what,
            ..
        } = *away;
        Some(Pause {
            lasts,
            again,
            failures,
            how: what.to_string(),
        })
    }
}
