//! Records that were read lately: bounded in number, bytes and time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::domain::{owner::Owner, record::Record};

/// How long a record serves without the store being asked (microseconds).
const FRESH: i64 = Duration::from_secs(10).as_micros() as i64;
/// How long it serves while the store does not answer, and is in memory at all (microseconds).
const KEPT: i64 = Duration::from_secs(3_600).as_micros() as i64;
/// The most records, and the most bytes of them.
const MAX_RECORDS: usize = 50_000;
const MAX_BYTES: usize = 64 << 20;
/// What a record takes beside its texts (bytes).
const OVERHEAD: usize = 1 << 10;

/// What a part of a destination takes at most (bytes).
const PART: usize = 1 << 10;

/// How old a record may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Ten seconds: the store answers.
    Recent,
    /// An hour.
    Any,
}

/// What the store answered.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `None`: there is no record, or a tombstone.
    pub(crate) record: Option<Arc<Record>>,
    /// When the store was asked (microseconds since 1970).
    pub(crate) asked: i64,
}

impl Seen {
    /// When it serves no longer (microseconds since 1970).
    pub(crate) fn until(&self) -> i64 {
        self.asked.saturating_add(KEPT)
    }

    /// Where the clock was put back, its age is unknown, and it serves nobody.
    fn is_within(&self, limit: Limit, now: i64) -> bool {
        let age = match limit {
            Limit::Recent => FRESH,
            Limit::Any => KEPT,
        };
        (0..age).contains(&now.saturating_sub(self.asked))
    }

    fn bytes(&self) -> usize {
        let of = |record: &Arc<Record>| {
            let parts = record.agreed.as_ref().map_or(0, |agreed| agreed.parts.len());
            record.size() + parts * PART
        };
        OVERHEAD + self.record.as_ref().map_or(0, of)
    }
}

#[derive(Debug)]
struct Slot {
    seen: Seen,
    /// When its read began, in ticks.
    began: u64,
    place: u64,
}

/// By owner, and in the order in which the store was asked.
#[derive(Debug, Default)]
pub(super) struct Kept {
    slots: HashMap<Owner, Slot>,
    order: BTreeMap<u64, Owner>,
    last_place: u64,
    bytes: usize,
}

impl Kept {
    pub(super) fn get(&self, owner: &Owner, limit: Limit, now: i64) -> Option<Seen> {
        let seen = &self.slots.get(owner)?.seen;
        seen.is_within(limit, now).then(|| seen.clone())
    }

    /// What a read has brought that began after this tick, and when it did.
    pub(super) fn since(&self, owner: &Owner, tick: u64) -> Option<(u64, Seen)> {
        let slot = self.slots.get(owner)?;
        (slot.began > tick).then(|| (slot.began, slot.seen.clone()))
    }

    /// Returns what it replaces. `began` is when the read did, in ticks.
    pub(super) fn put(&mut self, owner: &Owner, seen: Seen, began: u64) -> Option<Seen> {
        let former = self.remove(owner);
        self.last_place += 1;
        let place = self.last_place;
        self.bytes += seen.bytes();
        self.order.insert(place, owner.clone());
        self.slots.insert(owner.clone(), Slot { seen, began, place });
        former
    }

    pub(super) fn remove(&mut self, owner: &Owner) -> Option<Seen> {
        let Slot { seen, place, .. } = self.slots.remove(owner)?;
        self.order.remove(&place);
        self.bytes -= seen.bytes();
        Some(seen)
    }

    /// Removes the one that was read longest ago, if it is too old or there are too many.
    pub(super) fn pop(&mut self, now: i64) -> Option<Seen> {
        let (_, owner) = self.order.first_key_value()?;
        let is_old = !self.slots.get(owner)?.seen.is_within(Limit::Any, now);
        if !is_old && self.slots.len() <= MAX_RECORDS && self.bytes <= MAX_BYTES {
            return None;
        }
        let owner = owner.clone();
        self.remove(&owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{record::Field, summary::StoredField};

    fn owner(number: usize) -> Owner {
        Owner::Installation(number.to_string())
    }

    fn seen(length: usize, asked: i64) -> Seen {
        let stored = StoredField {
            generation: 1,
            update_time: 0,
        };
        let value = "x".repeat(length).into();
        let record = Record {
            fields: [("key".to_owned(), Field { stored, value })].into(),
            ..Record::default()
        };
        Seen {
            record: Some(Arc::new(record)),
            asked,
        }
    }

    fn fill(kept: &mut Kept, numbers: std::ops::Range<usize>, length: usize) {
        for number in numbers {
            kept.put(&owner(number), seen(length, 0), 0);
            while kept.pop(0).is_some() {}
        }
    }

    #[test]
    fn what_was_read_longest_ago_goes_first() {
        let mut kept = Kept::default();
        fill(&mut kept, 0..MAX_RECORDS, 10);
        kept.put(&owner(0), seen(10, 1), 0);
        fill(&mut kept, MAX_RECORDS..MAX_RECORDS + 5, 10);
        assert_eq!((kept.slots.len(), kept.order.len()), (MAX_RECORDS, MAX_RECORDS));
        assert!(kept.get(&owner(0), Limit::Any, 1).is_some(), "it was read again");
        assert!((1..6).all(|number| kept.get(&owner(number), Limit::Any, 1).is_none()));
        assert!(kept.get(&owner(6), Limit::Any, 1).is_some());
    }

    #[test]
    fn large_records_leave_room_for_fewer() {
        let mut kept = Kept::default();
        fill(&mut kept, 0..100, 1 << 20);
        assert_eq!(kept.slots.len(), MAX_BYTES / ((1 << 20) + OVERHEAD));
        assert!(kept.bytes <= MAX_BYTES);
        for number in 0..100 {
            kept.remove(&owner(number));
        }
        assert_eq!((kept.bytes, kept.slots.len(), kept.order.len()), (0, 0, 0));
    }

    #[test]
    fn a_record_serves_for_a_time() {
        let mut kept = Kept::default();
        let now = 1_000_000_000_000;
        kept.put(&owner(1), seen(10, now), 0);
        for (limit, later, serves) in [
            (Limit::Recent, FRESH - 1, true),
            (Limit::Recent, FRESH, false),
            (Limit::Any, KEPT - 1, true),
            (Limit::Any, KEPT, false),
            // The clock was put back.
            (Limit::Recent, -1, false),
            (Limit::Any, -1, false),
        ] {
            assert_eq!(
                kept.get(&owner(1), limit, now + later).is_some(),
                serves,
                "{limit:?} {later}"
            );
        }
        assert!(kept.pop(now + KEPT - 1).is_none());
        assert!(kept.pop(now + KEPT).is_some());
        assert!(kept.pop(now + KEPT).is_none());
    }
}
