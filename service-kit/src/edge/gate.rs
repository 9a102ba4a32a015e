//! Limits the number of connections, in total and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use rand::Rng as _;
use tokio::time::Instant;

use super::{Limits, Phase};

/// Places beyond the limit, kept for health checks while all other connections have requests in progress.
const SPARE: usize = 64;
/// A connection that has been quiet for less time than this keeps its place, because its request may be on the way.
const YOUNG: Duration = Duration::from_secs(1);
/// How many connections are examined to find one that has been quiet for long. Examining all 10,000 for each new
/// connection would make a flood expensive.
const SAMPLE: usize = 32;
/// The time between two log lines about refused connections.
const QUIET_LOG: Duration = Duration::from_secs(10);

/// Counts the connections of a listener.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    regular: Kind,
    spare: Kind,
    /// Never longer than `regular` and `spare`.
    by_address: HashMap<IpAddr, usize>,
    refused: u64,
    logged: Option<Instant>,
}

/// Places of one kind.
#[derive(Debug, Default)]
struct Kind {
    /// In no order.
    taken: Vec<Arc<Phase>>,
    /// How many of them are evicted and will be released in a moment.
    given_up: usize,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The address has as many connections as it may have.
    Address,
    /// All connections have requests in progress.
    Full,
}

impl Gate {
    /// A gate with these limits and no connections.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            places: Mutex::default(),
        })
    }

    /// The limits that it enforces.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The number of open connections.
    pub fn taken(&self) -> usize {
        let places = self.lock();
        places.regular.taken.len() + places.spare.taken.len()
    }

    /// Takes a permit for a connection from this address. Dropping the [`Permit`] releases it. If the listener is full,
    /// the connection that has been quiet for longest is evicted.
    ///
    /// # Errors
    /// If the address has too many connections, or if no connection is quiet.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Refused> {
        let counted = (!self.limits.is_proxy(address.to_canonical())).then(|| network(address));
        let mut places = self.lock();
        let of_address = counted.and_then(|network| places.by_address.get(&network).copied());
        if of_address.unwrap_or_default() >= self.limits.per_address {
            return Err(places.refuse(Refused::Address, &self.limits));
        }
        let spare = !places.regular.has_room(self.limits.connections);
        if spare && !places.spare.has_room(SPARE) {
            return Err(places.refuse(Refused::Full, &self.limits));
        }
        let phase = Arc::new(Phase::new(spare));
        places.kind(spare).take(Arc::clone(&phase));
        if let Some(network) = counted {
            *places.by_address.entry(network).or_default() += 1;
        }
        Ok(Permit {
            gate: Arc::clone(self),
            phase,
            counted,
        })
    }

    /// Evicts a quiet connection, because the process is out of descriptors.
    pub(super) fn make_room(&self) {
        self.lock().regular.evict();
    }

    fn release(&self, phase: &Phase, counted: Option<IpAddr>) {
        let mut places = self.lock();
        places.kind(phase.is_spare()).release(phase);
        if let Some(network) = counted
            && let Some(count) = places.by_address.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                places.by_address.remove(&network);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // Nothing panics between two changes that belong together.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    /// Whether there is room for one more connection, if necessary after evicting a quiet one.
    fn has_room(&mut self, limit: usize) -> bool {
        // An evicted connection takes a moment to close, so there can be up to twice as many as the limit.
        self.taken.len() - self.given_up < limit || self.given_up < limit && self.evict()
    }

    fn take(&mut self, phase: Arc<Phase>) {
        phase.index.store(self.taken.len(), Relaxed);
        self.taken.push(phase);
    }

    fn release(&mut self, phase: &Phase) {
        let index = phase.index.load(Relaxed);
        self.taken.swap_remove(index);
        if let Some(moved) = self.taken.get(index) {
            moved.index.store(index, Relaxed);
        }
        if phase.is_evicted() {
            self.given_up -= 1;
        }
    }

    /// Evicts the quietest of a sample of connections, preferring those that never had a request. Returns whether there
    /// was one.
    fn evict(&mut self) -> bool {
        let count = self.taken.len();
        let mut random = rand::rng();
        let quietest = (0..count.min(SAMPLE))
            .map(|nth| {
                if count <= SAMPLE {
                    nth
                } else {
                    random.random_range(0..count)
                }
            })
            .filter_map(|index| {
                let phase = &self.taken[index];
                let quiet = phase.quiet().filter(|quiet| *quiet >= YOUNG)?;
                Some((phase.begun() == 0, quiet, index))
            })
            .max();
        let Some((_, _, index)) = quietest else { return false };
        self.taken[index].evict();
        self.given_up += 1;
        true
    }
}

impl Places {
    fn kind(&mut self, spare: bool) -> &mut Kind {
        if spare { &mut self.spare } else { &mut self.regular }
    }

    fn refuse(&mut self, why: Refused, limits: &Limits) -> Refused {
        self.refused += 1;
        if self.logged.is_none_or(|logged| logged.elapsed() >= QUIET_LOG) {
            self.logged = Some(Instant::now());
            let hint = match why {
                Refused::Address => "one address has reached its limit; if it is a reverse proxy, add it to --proxies",
                Refused::Full => "all connections have requests in progress",
            };
            tracing::warn!(
                connections = self.regular.taken.len(),
                limit = limits.connections,
                limit_per_address = limits.per_address,
                refused = self.refused,
                "connections are refused: {hint}"
            );
        }
        why
    }
}

/// The right of one connection to its place, until this is dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    phase: Arc<Phase>,
    counted: Option<IpAddr>,
}

impl Permit {
    /// The state of the connection.
    pub fn phase(&self) -> &Arc<Phase> {
        &self.phase
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.gate.limits
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.release(&self.phase, self.counted);
    }
}

/// The unit that is counted as one address. For IPv6 it is the /64 network, because a client that has one address has
/// 2^64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}
