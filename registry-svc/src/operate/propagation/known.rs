//! What is known of all watchers: those of this replica, and those that other replicas have written.

use std::{collections::BTreeSet, sync::Arc};

use service_kit::Workload;
use tokio::time::Instant;

use super::local::{Local, Name};
use crate::store::{Commit, watchers::There};

/// Lagging watchers that are named, and how long all names are together: they go into a header.
const NAMED: usize = 20;
const NAMES: usize = 1_900;

#[derive(Debug)]
pub(super) struct Known {
    /// Of the database that was acknowledged.
    pub(super) epoch: Arc<str>,
    pub(super) local: Local,
    pub(super) elsewhere: Elsewhere,
    /// Gateways that said goodbye and have not been taken from their peers yet.
    pub(super) goodbyes: Vec<String>,
}

/// What other replicas have written.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// It was looked up at all.
    pub(super) known: bool,
    pub(super) replicas: bool,
    /// Until when each of them counts.
    pub(super) watchers: Vec<(Instant, There)>,
}

/// Whether some watchers lag.
pub(super) enum Lags {
    Nobody,
    /// Watchers of this replica alone.
    Here,
    /// Watchers of other replicas, whose acknowledgements may get lost on the way.
    Elsewhere,
}

impl Known {
    pub(super) fn lags(&self, commit: Commit, awaited: Option<&[Workload]>) -> Lags {
        let now = Instant::now();
        if self.lagging_elsewhere(commit, awaited, now).next().is_some() {
            Lags::Elsewhere
        } else if self.local.lagging(commit, awaited, now).next().is_some() {
            Lags::Here
        } else {
            Lags::Nobody
        }
    }

    /// The names of those that lag.
    pub(super) fn lagging(&self, commit: Commit, awaited: Option<&[Workload]>) -> BTreeSet<String> {
        let now = Instant::now();
        let here = self.local.lagging(commit, awaited, now).map(Name::to_string);
        let elsewhere = self.lagging_elsewhere(commit, awaited, now);
        here.chain(elsewhere.map(|there| format!("{}/{}", there.workload, there.instance)))
            .collect()
    }

    fn lagging_elsewhere<'a>(
        &'a self,
        commit: Commit,
        awaited: Option<&'a [Workload]>,
        now: Instant,
    ) -> impl Iterator<Item = &'a There> {
        let is_awaited = move |there: &There| {
            awaited.is_none_or(|awaited| awaited.iter().any(|workload| workload.name() == there.workload))
        };
        let watchers = self.elsewhere.watchers.iter();
        watchers
            .filter(move |(lease_end, there)| {
                there.kinds & commit.kinds != 0
                    && there.acked < commit.revision
                    && is_awaited(there)
                    && now < *lease_end
            })
            .map(|(_, there)| there)
    }
}

impl There {
    pub(super) fn is(&self, name: &Name) -> bool {
        self.workload == name.workload.name() && self.instance == name.instance
    }
}

/// The first names, and how many more there are.
pub(super) fn some_of(names: &BTreeSet<String>) -> Vec<String> {
    let mut length = 0;
    let mut some: Vec<String> = names
        .iter()
        .take(NAMED)
        .take_while(|name| {
            length += name.len() + 1;
            length <= NAMES
        })
        .cloned()
        .collect();
    let more = names.len() - some.len();
    if more > 0 {
        some.push(format!("and {more} more"));
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_many_as_a_header_takes() {
        let few: BTreeSet<_> = ["a/1".to_owned(), "b/2".to_owned()].into();
        assert_eq!(some_of(&few), ["a/1", "b/2"]);
        let many: BTreeSet<_> = (0..25).map(|n| format!("gateway-svc/{n:02}")).collect();
        let named = some_of(&many);
        assert_eq!((named.len(), named[20].as_str()), (21, "and 5 more"));
        let long: BTreeSet<_> = (0..25).map(|n| format!("gateway-svc/{n:0128}")).collect();
        let named = some_of(&long);
        assert!(named.join(",").len() < 2_048, "{}", named.join(",").len());
        assert_eq!(named.last().unwrap(), &format!("and {} more", 25 - (named.len() - 1)));
    }
}
