//! The latest changes that this replica has committed. Watchers get them from here, so that a commit that is waited for costs the
//! database no reading.

use std::{collections::BTreeMap, sync::Arc};

use super::changes::Logged;

/// Changes that are kept (bytes). Watchers that keep up take them at once.
const KEPT: usize = 4 << 20;

/// What was committed here, by revision. Revisions of other replicas are missing.
#[derive(Debug, Default)]
pub(super) struct Recent {
    epoch: Arc<str>,
    revisions: BTreeMap<i64, Vec<Logged>>,
    size: usize,
}

impl Recent {
    /// Keeps the changes of a revision, in order.
    pub(super) fn put(&mut self, epoch: Arc<str>, revision: i64, changes: Vec<Logged>) {
        if self.epoch != epoch {
            *self = Self {
                epoch,
                ..Self::default()
            };
        }
        self.size += size(&changes);
        if let Some(before) = self.revisions.insert(revision, changes) {
            self.size -= size(&before);
        }
        while self.size > KEPT
            && let Some((_, oldest)) = self.revisions.pop_first()
        {
            self.size -= size(&oldest);
        }
    }

    /// The changes of the revisions that follow this one without a gap, about `limit` bytes of them; none: the next one is not here.
    pub(super) fn behind(&self, epoch: &str, revision: i64, limit: usize) -> Vec<(i64, Vec<Logged>)> {
        let mut found = Vec::new();
        if *self.epoch != *epoch {
            return found;
        }
        let (mut next, mut taken) = (revision + 1, 0);
        while taken < limit
            && let Some(changes) = self.revisions.get(&next)
        {
            taken += size(changes);
            found.push((next, changes.clone()));
            next += 1;
        }
        found
    }
}

fn size(changes: &[Logged]) -> usize {
    changes.iter().map(Logged::size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(revision: i64, bytes: usize) -> Vec<Logged> {
        vec![Logged::new(revision, 0, 1, "k".to_owned(), Some(vec![0; bytes].into()))]
    }

    fn behind(recent: &Recent, revision: i64) -> Vec<i64> {
        let found = recent.behind("e", revision, usize::MAX);
        found.into_iter().map(|(revision, _)| revision).collect()
    }

    #[test]
    fn what_follows_without_a_gap_is_found() {
        let mut recent = Recent::default();
        for revision in [8, 5, 6, 9] {
            recent.put("e".into(), revision, changes(revision, 10));
        }
        assert_eq!(behind(&recent, 4), [5, 6]);
        assert_eq!(behind(&recent, 6), [0; 0], "another replica has 7");
        assert_eq!(behind(&recent, 7), [8, 9]);
        assert_eq!(recent.behind("e", 4, 1).len(), 1, "no more than is asked for");
        assert!(recent.behind("another", 4, usize::MAX).is_empty());
        recent.put("another".into(), 7, changes(7, 10));
        assert_eq!(behind(&recent, 4), [0; 0]);
    }

    #[test]
    fn little_is_kept() {
        let mut recent = Recent::default();
        for revision in 0..100 {
            recent.put("e".into(), revision, changes(revision, 1 << 20));
            assert!(recent.size <= KEPT);
        }
        assert_eq!(behind(&recent, 0), [0; 0]);
        assert_eq!(behind(&recent, 96), [97, 98, 99]);
        recent.put("e".into(), 100, changes(100, 2 * KEPT));
        assert_eq!((behind(&recent, 99).len(), recent.size), (0, 0), "too large for this");
    }
}
