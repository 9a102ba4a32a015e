//! A store in memory, for tests. Like a store in another system, it keeps encodings with their versions.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    encoding::{decode, encode},
    suite::{Bench, store_suite},
};
use crate::domain::{
    owner::Owner,
    ports::{Store, StoreError, Version, Written},
    record::Value,
};

/// The largest encoding (bytes): less than one owner can put, as in remote stores.
const MAX: usize = 1 << 20;

type Values = BTreeMap<Owner, (Version, Vec<u8>)>;

/// A connection to values that other connections may share.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    values: Arc<Mutex<Values>>,
    is_cut_off: bool,
}

impl MemoryStore {
    fn values(&self) -> Result<MutexGuard<'_, Values>, StoreError> {
        if self.is_cut_off {
            return Err(StoreError::Unavailable("the connection was cut off".to_owned()));
        }
        Ok(self.values.lock().unwrap())
    }
}

impl Store for MemoryStore {
    async fn read(&self, owner: &Owner) -> Result<Option<(Version, Value)>, StoreError> {
        let Some((version, encoded)) = self.values()?.get(owner).cloned() else {
            return Ok(None);
        };
        Ok(Some((version, decode(&encoded)?)))
    }

    async fn write(&self, owner: &Owner, expected: Version, value: Value) -> Result<Written, StoreError> {
        let encoded = encode(value).to_vec();
        if encoded.len() > MAX {
            return Err(StoreError::TooLarge {
                size: encoded.len(),
                limit: MAX,
            });
        }
        let mut values = self.values()?;
        let present = values.get(owner).map_or(Version::NONE, |(version, _)| *version);
        if present != expected {
            return Ok(Written::Conflict);
        }
        values.insert(owner.clone(), (expected.next(), encoded));
        Ok(Written::Done)
    }

    async fn delete(&self, owner: &Owner) -> Result<(), StoreError> {
        self.values()?.remove(owner);
        Ok(())
    }

    async fn list(&self, after: Option<&Owner>, limit: usize) -> Result<Vec<Owner>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let values = self.values()?;
        Ok(values
            .range::<Owner, _>((from, Bound::Unbounded))
            .take(limit)
            .map(|(owner, _)| owner.clone())
            .collect())
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.values().map(drop)
    }
}

#[derive(Default)]
struct Memory(Arc<Mutex<Values>>);

impl Bench for Memory {
    type Store = MemoryStore;

    async fn new() -> Self {
        Self::default()
    }

    async fn connect(&self) -> MemoryStore {
        MemoryStore {
            values: Arc::clone(&self.0),
            is_cut_off: false,
        }
    }

    async fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }

    async fn cut_off(store: &mut MemoryStore) {
        store.is_cut_off = true;
    }

    async fn damage(&self, owner: &Owner) {
        self.0.lock().unwrap().get_mut(owner).unwrap().1 = b"damaged".to_vec();
    }
}

store_suite!(Memory);

/// Cases in which much time passes: as soon as everybody waits for it.
mod paused {
    use super::{super::suite, Memory};

    macro_rules! cases {
        ($($case:ident),* $(,)?) => {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    suite::$case::<Memory>().await;
                }
            )*
        };
    }
    cases!(
        who_waited_for_their_turn_waits_as_long_for_the_answer,
        a_process_that_stops_gives_up_what_it_cannot_store,
        what_a_process_that_stops_may_have_stored_goes_on,
        a_process_that_stops_gives_up_an_account_that_it_cannot_store,
    );
}
