//! The latest changes, read once for all watchers that follow, and shared by them.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::Mutex;

use super::send::PART;
use crate::store::{
    self, Db,
    changes::{Cursor, Logged, Read, Window},
    log,
};

/// Changes that are kept (bytes).
const KEPT: usize = 16 << 20;
/// The bits of all kinds.
const EVERY_KIND: i64 = !0;

/// The end of the change log.
#[derive(Debug)]
pub(super) struct Tail {
    db: Db,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    epoch: Arc<str>,
    /// The changes between these places, those of all kinds.
    from: Cursor,
    until: Cursor,
    changes: VecDeque<Logged>,
    size: usize,
}

impl Tail {
    pub(super) fn new(db: Db) -> Self {
        let kept = Kept::empty(db.epoch(), Cursor::behind(0));
        Self {
            db,
            kept: Mutex::new(kept),
        }
    }

    /// The changes of `kinds` (bits) behind `after`, about a message of them. `None`: they have been forgotten, or `epoch` is that
    /// of another database.
    pub(super) async fn read(&self, epoch: &Arc<str>, after: Cursor, kinds: i64) -> store::Result<Option<Read>> {
        let mut kept = self.kept.lock().await;
        if kept.epoch != *epoch || after > kept.until {
            *kept = Kept::empty(Arc::clone(epoch), after);
        }
        if after >= kept.from {
            let latest = self.db.latest().borrow().revision;
            let behind = latest > kept.until.revision || kept.until.is_inside();
            if behind && !kept.extend(&self.db, epoch).await? {
                return Ok(None);
            }
            if let Some(read) = kept.read(after, kinds, latest > kept.until.revision) {
                return Ok(Some(read));
            }
        }
        drop(kept);
        // A watcher that is far behind reads for itself.
        let mut tx = self.db.read().await?;
        log::next(&mut tx, epoch, after, kinds, PART).await
    }
}

impl Kept {
    fn empty(epoch: Arc<str>, at: Cursor) -> Self {
        Self {
            epoch,
            from: at,
            until: at,
            changes: VecDeque::new(),
            size: 0,
        }
    }

    /// Takes some more of the log. `false`: it has been forgotten, or is that of another database.
    async fn extend(&mut self, db: &Db, epoch: &str) -> store::Result<bool> {
        let recent = if self.until.is_inside() {
            Vec::new()
        } else {
            db.recent_behind(epoch, self.until.revision, PART)
        };
        let more: Vec<Logged> = if let Some((last, _)) = recent.last() {
            self.until = Cursor::behind(*last);
            recent.into_iter().flat_map(|(_, changes)| changes).collect()
        } else {
            let mut tx = db.read().await?;
            let Some(read) = log::next(&mut tx, epoch, self.until, EVERY_KIND, PART).await? else {
                return Ok(false);
            };
            self.until = read.through;
            read.batches.into_iter().flat_map(|batch| batch.changes).collect()
        };
        for change in more {
            self.size += change.size();
            self.changes.push_back(change);
        }
        while self.size > KEPT
            && let Some(change) = self.changes.pop_front()
        {
            self.size -= change.size();
            self.from = change.cursor();
        }
        Ok(true)
    }

    /// The caller knows whether there is `more` in the log. `None`: what follows `after` is no longer kept.
    fn read(&self, after: Cursor, kinds: i64, more: bool) -> Option<Read> {
        if after < self.from {
            return None;
        }
        let first = self.changes.partition_point(|change| change.cursor() <= after);
        let mut window = Window::new(after, PART);
        let wanted = self
            .changes
            .range(first..)
            .filter(|change| kinds & (1 << change.kind) != 0);
        for change in wanted {
            if !window.push(change.clone()) {
                break;
            }
        }
        Some(window.finish(self.until, more))
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::{Entry, Team};
    use prost::Message as _;

    use super::*;
    use crate::store::{
        Object,
        changes::Part,
        testing::{Opened, on_each_engine},
    };

    /// The revisions behind one, in as many reads as they take.
    async fn follow(tail: &Tail, opened: &Opened, after: i64, kinds: i64) -> Option<Vec<i64>> {
        let epoch = opened.db.epoch();
        let mut after = Cursor::behind(after);
        let mut revisions = Vec::new();
        loop {
            let read = tail.read(&epoch, after, kinds).await.unwrap()?;
            for batch in &read.batches {
                assert!(batch.changes.iter().all(|change| kinds & (1 << change.kind) != 0));
                if batch.part != Part::Some {
                    revisions.push(batch.revision);
                }
            }
            after = read.through;
            if !read.more {
                return Some(revisions);
            }
        }
    }

    #[tokio::test]
    async fn watchers_of_different_kinds_share_what_was_read() {
        on_each_engine(async |opened| {
            let tail = Tail::new(opened.db.clone());
            let first = opened.put(Object::Entry, "e", &Entry::default()).await.revision;
            let (entries, teams) = (Object::Entry.bit(), Object::Team.bit());
            assert_eq!(follow(&tail, &opened, first, entries).await, Some(vec![]));
            opened.put(Object::Team, "t", &Team::default()).await;
            opened.put(Object::Entry, "e", &Entry::default()).await;
            assert_eq!(follow(&tail, &opened, first, entries).await, Some(vec![first + 2]));
            assert_eq!(follow(&tail, &opened, first, teams).await, Some(vec![first + 1]));
            assert_eq!(
                follow(&tail, &opened, first + 1, EVERY_KIND).await,
                Some(vec![first + 2])
            );
            // From before what is kept, it is read for this one alone.
            assert_eq!(
                follow(&tail, &opened, first - 1, EVERY_KIND).await,
                Some(vec![first, first + 1, first + 2])
            );
            assert_eq!(
                tail.read(&"another".into(), Cursor::behind(first), entries)
                    .await
                    .unwrap(),
                None
            );
            assert_eq!(follow(&tail, &opened, first, entries).await, Some(vec![first + 2]));
        })
        .await;
    }

    #[tokio::test]
    async fn whatever_was_written_little_of_it_is_kept() {
        on_each_engine(async |opened| {
            let tail = Tail::new(opened.db.clone());
            let first = opened.put(Object::Entry, "e", &Entry::default()).await.revision;
            assert_eq!(follow(&tail, &opened, first, EVERY_KIND).await, Some(vec![]));
            let document = Entry {
                description: "x".repeat(300_000),
                ..Entry::default()
            }
            .encode_to_vec();
            let keys: Vec<_> = (0..20).map(|index| format!("e{index}")).collect();
            for _ in 0..5 {
                // Six megabytes each.
                let some: Vec<_> = keys
                    .iter()
                    .map(|key| (Object::Entry, key.as_str(), document.clone()))
                    .collect();
                opened.put_at(1, &some).await;
            }
            let all: Vec<_> = (first + 1..=first + 5).collect();
            assert_eq!(follow(&tail, &opened, first, EVERY_KIND).await, Some(all.clone()));
            let kept = tail.kept.lock().await;
            assert!(kept.size <= KEPT && kept.size > KEPT / 2, "{}", kept.size);
            assert_eq!(kept.size, kept.changes.iter().map(Logged::size).sum::<usize>());
            drop(kept);
            // What is no longer kept can still be read, and what is kept begins in the middle of a revision.
            assert_eq!(follow(&tail, &opened, first, EVERY_KIND).await, Some(all));
            assert_eq!(
                follow(&tail, &opened, first + 3, EVERY_KIND).await,
                Some(vec![first + 4, first + 5])
            );
        })
        .await;
    }
}
