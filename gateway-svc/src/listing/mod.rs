//! The tools of gateways and agents, as lists: one for all callers who see the same.

mod list;

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use moka::sync::Cache;
use service_kit::turns::off_thread;
use tokio::sync::OnceCell;

pub(crate) use list::{Found, Listing, MOST_QUERY};

use crate::{
    domain::{CallError, Caller, ConsumerRef, OwnTools},
    resolve,
    route::{Seen, TableId},
    snapshot::Snapshot,
};

/// How long a list is kept after it was last asked for.
const UNUSED: Duration = Duration::from_secs(600);
/// Bytes of all lists. One of 10,000 tools takes less than a megabyte, and where it is searched, five more.
const KEPT: u64 = 256 << 20;
/// Bytes of a tool in a list, and in the index of one.
const LISTED: usize = 64;
const INDEXED: usize = 512;
/// The cost of a tool in a list, as the number of bytes that take as long to parse (measured: 500 ns).
pub(crate) const COST_OF_A_TOOL: usize = 64;

/// What a list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    /// To be shown.
    Show,
    /// To be searched, which takes an index.
    Search,
}

/// Lists, by what is seen of each source of a table.
pub(crate) struct Listings(Cache<Key, Arc<Slot>>);

type Key = (TableId, Use, Box<[Seen]>, Own);

/// What servers list to one client alone; `None`: nothing.
#[derive(Clone)]
struct Own(Option<Arc<OwnTools>>);

impl Own {
    fn address(&self) -> Option<*const OwnTools> {
        self.0.as_ref().map(Arc::as_ptr)
    }
}

impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address()
    }
}

impl Eq for Own {}

impl Hash for Own {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

/// A list, once it is made.
struct Slot {
    size: u32,
    list: OnceCell<Arc<Listing>>,
}

impl Default for Listings {
    fn default() -> Self {
        let kept = Cache::builder()
            .weigher(|_: &Key, slot: &Arc<Slot>| slot.size)
            .max_capacity(KEPT)
            .time_to_idle(UNUSED);
        Self(kept.build())
    }
}

impl Listings {
    /// Every tool of a gateway or agent that the caller sees, as [`resolve::list`] has them. Made once for all who see the same, on another thread
    /// if there are many. `own`: what servers list to the caller's client alone.
    pub(crate) async fn of(
        &self,
        snapshot: &Arc<Snapshot>,
        caller: &Caller,
        consumer: &ConsumerRef,
        own: Option<Arc<OwnTools>>,
        to: Use,
    ) -> Result<Arc<Listing>, CallError> {
        let own = own.filter(|own| !own.is_empty());
        let seen = resolve::seen(snapshot, caller, consumer)?;
        let refused = || CallError::ConsumerNotFound(consumer.clone());
        let table = snapshot.table(consumer).ok_or_else(refused)?;
        let tools = table.routes().len();
        let each = match to {
            Use::Show => LISTED,
            Use::Search => LISTED + INDEXED,
        };
        // What one client alone sees is kept for it alone.
        let own_size = own.as_ref().map_or(0, |own| own.size());
        let own_size = if to == Use::Show { own_size } else { 2 * own_size };
        let size = size_of_val(&*seen) + tools * each + own_size;
        let slot = || {
            Arc::new(Slot {
                size: u32::try_from(size).unwrap_or(u32::MAX),
                list: OnceCell::new(),
            })
        };
        let slot = self.0.get_with((table.id().clone(), to, seen, Own(own.clone())), slot);
        let make = || {
            let (snapshot, caller, consumer) = (Arc::clone(snapshot), caller.clone(), consumer.clone());
            off_thread(tools * COST_OF_A_TOOL, move || {
                let tools = resolve::list_with(&snapshot, &caller, &consumer, own.as_deref())?;
                Ok(Arc::new(Listing::new(tools)))
            })
        };
        slot.list.get_or_try_init(make).await.map(Arc::clone)
    }
}

impl std::fmt::Debug for Listings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listings").finish_non_exhaustive()
    }
}
