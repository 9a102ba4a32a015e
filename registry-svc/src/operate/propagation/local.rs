//! The watchers of this replica: who they are, what they have in force, who lags.

use std::{collections::HashMap, fmt, time::Duration};

use service_kit::Workload;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Commit, watchers::Here};

/// A watcher is slow if it has something to acknowledge and acknowledges nothing for this time.
const SLOW: Duration = Duration::from_secs(10);

/// Who a watcher is, on whichever replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) workload: Workload,
    pub(crate) instance: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workload, self.instance)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Local {
    watchers: HashMap<Name, Watcher>,
    streams: u64,
}

#[derive(Debug)]
struct Watcher {
    /// Which of the streams that had this name.
    stream: u64,
    kinds: i64,
    /// Where peers reach it; empty: nowhere.
    address: String,
    acked: i64,
    /// The last revision it was sent.
    sent: i64,
    /// Since when it has something to acknowledge, and has acknowledged nothing.
    idle_since: Option<Instant>,
    state: State,
    /// Other replicas can know it.
    published: bool,
    /// Not everything that it acknowledged was passed to other replicas.
    unpublished: bool,
}

#[derive(Debug)]
enum State {
    /// Its stream ends when this is cancelled: another has its name.
    Connected(CancellationToken),
    /// Without a goodbye. It counts until then.
    Lost(Instant),
}

impl Watcher {
    fn counts(&self, now: Instant) -> bool {
        match self.state {
            State::Connected(_) => true,
            State::Lost(lease_end) => now < lease_end,
        }
    }

    const fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }

    fn is_slow(&self, now: Instant) -> bool {
        self.idle_since.is_some_and(|since| now.duration_since(since) > SLOW)
    }
}

impl Local {
    /// Adds a watcher, which takes the place of one with its name. Its stream, and what ends it.
    pub(super) fn connect(
        &mut self,
        name: Name,
        kinds: i64,
        address: String,
        now: Instant,
    ) -> (u64, CancellationToken) {
        self.streams += 1;
        let superseded = CancellationToken::new();
        let watcher = Watcher {
            stream: self.streams,
            kinds,
            address,
            acked: 0,
            sent: 0,
            idle_since: Some(now),
            state: State::Connected(superseded.clone()),
            published: false,
            unpublished: false,
        };
        if let Some(before) = self.watchers.insert(name, watcher) {
            before.end();
        }
        (self.streams, superseded)
    }

    fn of_stream(&mut self, name: &Name, stream: u64) -> Option<&mut Watcher> {
        self.watchers.get_mut(name).filter(|watcher| watcher.stream == stream)
    }

    /// Other replicas can know it.
    pub(super) fn set_published(&mut self, name: &Name, stream: u64) {
        if let Some(watcher) = self.of_stream(name, stream) {
            watcher.published = true;
        }
    }

    /// A revision is about to be sent, which it is to acknowledge.
    pub(super) fn sending(&mut self, name: &Name, stream: u64, revision: i64, now: Instant) {
        if let Some(watcher) = self.of_stream(name, stream) {
            watcher.sent = revision;
            watcher.idle_since.get_or_insert(now);
        }
    }

    /// Everything up to `revision` is in force there. What was never sent cannot be.
    pub(super) fn ack(&mut self, name: &Name, stream: u64, revision: i64, now: Instant) {
        if let Some(watcher) = self.of_stream(name, stream) {
            let revision = revision.min(watcher.sent);
            if revision > watcher.acked {
                watcher.acked = revision;
                watcher.unpublished = true;
            }
            watcher.idle_since = (watcher.acked < watcher.sent).then_some(now);
        }
    }

    /// Removes a watcher that said goodbye. `false`: another has its name by now.
    pub(super) fn leave(&mut self, name: &Name, stream: u64) -> bool {
        self.of_stream(name, stream).is_some() && self.watchers.remove(name).is_some()
    }

    /// The stream ended without a goodbye.
    pub(super) fn lose(&mut self, name: &Name, stream: u64, now: Instant, lease: Duration) {
        if let Some(watcher) = self.of_stream(name, stream) {
            watcher.state = State::Lost(now + lease);
            watcher.idle_since.get_or_insert(now);
        }
    }

    /// The database is another: nothing is in force that it has.
    pub(super) fn forget_acks(&mut self) {
        for watcher in self.watchers.values_mut() {
            (watcher.acked, watcher.sent, watcher.unpublished) = (0, 0, true);
        }
    }

    /// Removes the lost ones whose leases have ended. Whether there were some.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.watchers.len();
        self.watchers.retain(|_, watcher| watcher.counts(now));
        self.watchers.len() < before
    }

    /// Those that have not acknowledged what was committed.
    pub(super) fn lagging<'a>(
        &'a self,
        commit: Commit,
        awaited: Option<&'a [Workload]>,
        now: Instant,
    ) -> impl Iterator<Item = &'a Name> {
        self.watchers
            .iter()
            .filter(move |(name, watcher)| {
                watcher.kinds & commit.kinds != 0
                    && watcher.acked < commit.revision
                    && awaited.is_none_or(|awaited| awaited.contains(&name.workload))
                    && watcher.counts(now)
            })
            .map(|(name, _)| name)
    }

    /// Those that lag for longer than is normal.
    pub(super) fn slow(&self, now: Instant) -> impl Iterator<Item = &Name> {
        let slow = move |(_, watcher): &(&Name, &Watcher)| watcher.counts(now) && watcher.is_slow(now);
        self.watchers.iter().filter(slow).map(|(name, _)| name)
    }

    /// The connected ones, as they are published to other replicas.
    pub(super) fn connected(&self) -> Vec<Here> {
        let connected = self.watchers.iter().filter(|(_, watcher)| watcher.is_connected());
        connected.map(|(name, watcher)| here(name, watcher)).collect()
    }

    /// Those with acknowledgements that were not passed to other replicas. They count as passed from now on.
    pub(super) fn take_unpublished(&mut self) -> Vec<Here> {
        let unpublished = self.watchers.iter_mut().filter(|(_, watcher)| watcher.unpublished);
        unpublished
            .map(|(name, watcher)| {
                watcher.unpublished = false;
                here(name, watcher)
            })
            .collect()
    }

    /// Everything is published to other replicas again.
    pub(super) fn publish_again(&mut self) {
        for watcher in self.watchers.values_mut() {
            watcher.unpublished = true;
        }
    }

    /// Connected gateways: instance and address.
    pub(super) fn gateways(&self) -> Vec<(String, String)> {
        let gateways = self
            .watchers
            .iter()
            .filter(|(name, watcher)| name.workload == Workload::Gateway && watcher.is_connected());
        gateways
            .map(|(name, watcher)| (name.instance.clone(), watcher.address.clone()))
            .collect()
    }

    /// The streams that other replicas can know.
    pub(super) fn published(&self) -> Vec<(Name, u64)> {
        let published = self.watchers.iter().filter(|(_, watcher)| watcher.published);
        published
            .map(|(name, watcher)| (name.clone(), watcher.stream))
            .collect()
    }

    /// The name has come to another replica since: the stream here ends.
    pub(super) fn supersede(&mut self, name: &Name, stream: u64) {
        if self.of_stream(name, stream).is_some()
            && let Some(watcher) = self.watchers.remove(name)
        {
            watcher.end();
        }
    }

    /// Whether a watcher with this name counts here.
    pub(super) fn knows(&self, name: &Name) -> bool {
        self.watchers.contains_key(name)
    }
}

impl Watcher {
    fn end(self) {
        if let State::Connected(superseded) = self.state {
            superseded.cancel();
        }
    }
}

fn here(name: &Name, watcher: &Watcher) -> Here {
    Here {
        workload: name.workload.name(),
        instance: name.instance.clone(),
        kinds: watcher.kinds,
        acked: watcher.acked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn name(instance: &str) -> Name {
        Name {
            workload: Workload::Gateway,
            instance: instance.to_owned(),
        }
    }

    fn lagging(local: &Local, kinds: i64, now: Instant) -> Vec<String> {
        let commit = Commit { revision: 10, kinds };
        let mut names: Vec<_> = local.lagging(commit, None, now).map(Name::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn a_watcher_counts_until_it_has_acknowledged_or_said_goodbye() {
        let (mut local, now) = (Local::default(), Instant::now());
        let (one, _) = local.connect(name("1"), 0b11, String::new(), now);
        let (two, _) = local.connect(name("2"), 0b10, String::new(), now);
        assert_eq!(lagging(&local, 0b01, now), ["gateway-svc/1"]);
        assert_eq!(lagging(&local, 0b10, now), ["gateway-svc/1", "gateway-svc/2"]);
        // What it was not sent is not in force.
        local.ack(&name("1"), one, 10, now);
        assert_eq!(lagging(&local, 0b01, now), ["gateway-svc/1"]);
        local.sending(&name("1"), one, 10, now);
        local.ack(&name("1"), one, 10, now);
        assert!(local.leave(&name("2"), two));
        assert!(lagging(&local, 0b10, now).is_empty());
        local.forget_acks();
        assert_eq!(lagging(&local, 0b01, now), ["gateway-svc/1"]);
        let awaited = Commit { revision: 10, kinds: 1 };
        assert_eq!(local.lagging(awaited, Some(&[Workload::Credential]), now).count(), 0);
    }

    #[test]
    fn a_watcher_that_vanished_counts_until_its_lease_ends_or_its_name_is_back() {
        let (mut local, now) = (Local::default(), Instant::now());
        for instance in ["1", "2"] {
            let (stream, _) = local.connect(name(instance), 1, String::new(), now);
            local.lose(&name(instance), stream, now, LEASE);
        }
        let later = now + LEASE;
        assert_eq!(lagging(&local, 1, later - Duration::from_secs(1)).len(), 2);
        let (stream, superseded) = local.connect(name("1"), 1, String::new(), now);
        assert_eq!(lagging(&local, 1, later), ["gateway-svc/1"]);
        assert!(local.expire(later) && !local.expire(later));
        // The same name again: the earlier stream ends, and its end removes nothing.
        let (newer, _) = local.connect(name("1"), 1, String::new(), now);
        assert!(superseded.is_cancelled());
        local.lose(&name("1"), stream, now, LEASE);
        assert!(!local.leave(&name("1"), stream));
        assert_eq!(lagging(&local, 1, later), ["gateway-svc/1"]);
        local.supersede(&name("1"), newer);
        assert!(lagging(&local, 1, later).is_empty());
    }

    #[test]
    fn a_watcher_that_acknowledges_nothing_is_slow() {
        let (mut local, now) = (Local::default(), Instant::now());
        let (stream, _) = local.connect(name("1"), 1, String::new(), now);
        local.sending(&name("1"), stream, 5, now);
        let slow = |local: &Local, seconds| local.slow(now + Duration::from_secs(seconds)).count();
        assert_eq!((slow(&local, 9), slow(&local, 11)), (0, 1));
        local.ack(&name("1"), stream, 4, now + Duration::from_secs(9));
        assert_eq!((slow(&local, 11), slow(&local, 20)), (0, 1));
        local.ack(&name("1"), stream, 5, now + Duration::from_secs(19));
        assert_eq!(slow(&local, 1000), 0);
    }

    #[test]
    fn an_acknowledgement_is_published_once() {
        let (mut local, now) = (Local::default(), Instant::now());
        let (stream, _) = local.connect(name("1"), 1, String::new(), now);
        assert!(local.take_unpublished().is_empty());
        local.sending(&name("1"), stream, 5, now);
        local.ack(&name("1"), stream, 5, now);
        local.ack(&name("1"), stream, 4, now);
        let unpublished = local.take_unpublished();
        assert_eq!(unpublished.iter().map(|watcher| watcher.acked).collect::<Vec<_>>(), [5]);
        assert!(local.take_unpublished().is_empty());
        local.publish_again();
        assert_eq!(local.take_unpublished(), unpublished);
    }
}
