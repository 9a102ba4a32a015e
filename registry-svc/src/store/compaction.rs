//! Forgets old changes, so that the log is bounded by number, by age and by size.

use std::time::Duration;

use futures::TryStreamExt as _;

use super::{Db, execute, identity, on};
use crate::config::Retention;

/// Changes forgotten in one transaction, and about how many bytes of them: others write in between.
const AT_ONCE: i64 = 1_000;
const BYTES_AT_ONCE: i64 = 8 << 20;
/// What a change takes in addition to its object (bytes).
const OVERHEAD: i64 = 128;

/// Bounds the log.
#[derive(Debug)]
pub(crate) struct Compaction {
    retention: Retention,
    /// Up to this revision, it is known how much was written.
    counted: i64,
    /// Bytes written since the last compaction.
    written: i64,
}

impl Compaction {
    pub(crate) const fn new(retention: Retention) -> Self {
        Self {
            retention,
            counted: 0,
            written: 0,
        }
    }

    /// Whether a good part of what may be kept was written since the last compaction, by whichever replica.
    pub(crate) async fn is_due(&mut self, db: &Db) -> sqlx::Result<bool> {
        const WRITTEN: &str = "SELECT CAST(COALESCE(SUM(bytes + $2), 0) AS BIGINT) FROM changes WHERE revision > $1";
        let mut tx = db.read().await?;
        let head = identity::head(&mut tx).await?;
        if self.counted == 0 || self.counted > head.revision {
            self.counted = head.revision;
        }
        let written: i64 = on!(tx, c => sqlx::query_scalar(WRITTEN).bind(self.counted).bind(OVERHEAD)
            .fetch_one(&mut *c).await)?;
        self.counted = head.revision;
        self.written = self.written.saturating_add(written);
        Ok(self.written > self.retention.bytes / 4)
    }

    /// Forgets what is older than `now` (microseconds since 1970) allows, too many or too large.
    pub(crate) async fn run(&mut self, db: &Db, now: i64) -> sqlx::Result<()> {
        if let Some(until) = self.until(db, now).await? {
            mark(db, until).await?;
            while forget_some(db, until).await? {}
        }
        self.written = 0;
        Ok(())
    }

    /// The last revision to forget.
    async fn until(&self, db: &Db, now: i64) -> sqlx::Result<Option<i64>> {
        const SIZES: &str = "SELECT revision, CAST(SUM(bytes + $1) AS BIGINT), MAX(create_time) FROM changes \
            GROUP BY revision ORDER BY revision DESC";
        let mut tx = db.read().await?;
        let head = identity::head(&mut tx).await?;
        let by_count = head.revision - self.retention.revisions;
        let oldest = now - micros(self.retention.age);
        let mut kept = 0_i64;
        let mut until = by_count;
        on!(tx, c => {
            let mut sizes = sqlx::query_as::<_, (i64, i64, i64)>(SIZES).bind(OVERHEAD).fetch(&mut *c);
            while let Some((revision, bytes, create_time)) = sizes.try_next().await? {
                kept = kept.saturating_add(bytes);
                if kept > self.retention.bytes || create_time < oldest {
                    until = until.max(revision);
                }
                if revision <= until {
                    break;
                }
            }
        });
        Ok((until > 0).then_some(until))
    }
}

/// From now on, no watcher resumes from before `until`.
async fn mark(db: &Db, until: i64) -> sqlx::Result<()> {
    const MARK: &str = "UPDATE head SET compacted = $1 WHERE id = 1 AND compacted < $1";
    let mut tx = db.write_quietly().await?;
    execute!(tx, MARK, [until])?;
    tx.commit().await.map(drop)
}

/// `false`: nothing is left to forget.
async fn forget_some(db: &Db, until: i64) -> sqlx::Result<bool> {
    const OLDEST: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM \
        (SELECT bytes FROM changes WHERE revision <= $1 ORDER BY revision LIMIT $2) AS oldest";
    const FORGET: &str = "DELETE FROM changes WHERE (revision, position) IN \
        (SELECT revision, position FROM changes WHERE revision <= $1 ORDER BY revision, position LIMIT $2)";
    let mut tx = db.read().await?;
    let (changes, bytes): (i64, i64) =
        on!(tx, c => sqlx::query_as(OLDEST).bind(until).bind(AT_ONCE).fetch_one(&mut *c).await)?;
    drop(tx);
    if changes == 0 {
        return Ok(false);
    }
    let each = (bytes / changes).max(1);
    let mut tx = db.write_quietly().await?;
    execute!(tx, FORGET, [until, (BYTES_AT_ONCE / each).clamp(1, AT_ONCE)])?;
    tx.commit().await?;
    Ok(true)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Object,
        changes::Cursor,
        log,
        testing::{Opened, on_each_engine},
    };

    const LARGE: Retention = Retention {
        revisions: 1_000_000,
        age: Duration::from_secs(1_000_000),
        bytes: 1 << 40,
    };
    const SECOND: i64 = 1_000_000;

    /// Ten revisions, one a second, of two changes of 1,000 bytes each; the first one.
    async fn ten(opened: &Opened) -> i64 {
        let document = vec![0; 1_000];
        let mut first = 0;
        for index in 0..10 {
            let two = [
                (Object::Entry, "e", document.clone()),
                (Object::Installation, "i", document.clone()),
            ];
            let commit = opened.put_at(index * SECOND, &two).await;
            if index == 0 {
                first = commit.revision;
            }
        }
        first
    }

    /// The revisions of what is missing behind a revision; `None`: it has been forgotten.
    async fn missing(db: &Db, after: i64) -> Option<Vec<i64>> {
        let mut tx = db.read().await.unwrap();
        let epoch = db.epoch();
        let read = log::next(&mut tx, &epoch, Cursor::behind(after), Object::Entry.bit(), 1 << 30).await;
        let batches = read.unwrap()?.batches;
        assert!(batches.iter().all(|batch| batch.changes.len() == 1));
        Some(batches.iter().map(|batch| batch.revision).collect())
    }

    async fn kept(db: &Db) -> i64 {
        let mut tx = db.read().await.unwrap();
        on!(tx, c => sqlx::query_scalar("SELECT COUNT(*) FROM changes").fetch_one(&mut *c).await).unwrap()
    }

    async fn size(db: &Db) -> i64 {
        let mut tx = db.read().await.unwrap();
        const SIZE: &str = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM changes";
        on!(tx, c => sqlx::query_scalar(SIZE).fetch_one(&mut *c).await).unwrap()
    }

    async fn keeps_six(opened: &Opened, retention: Retention, now: i64) {
        let db = &opened.db;
        let first = ten(opened).await;
        Compaction::new(retention).run(db, now).await.unwrap();
        assert_eq!(kept(db).await, 12, "{retention:?}");
        assert_eq!(missing(db, first + 2).await, None, "{retention:?}");
        let behind: Vec<_> = (first + 4..first + 10).collect();
        assert_eq!(missing(db, first + 3).await, Some(behind), "{retention:?}");
        assert_eq!(missing(db, first + 8).await, Some(vec![first + 9]));
    }

    #[tokio::test]
    async fn the_log_is_bounded_by_number_by_age_and_by_size() {
        let by_number = Retention { revisions: 6, ..LARGE };
        on_each_engine(async |opened| keeps_six(&opened, by_number, 10 * SECOND).await).await;
        let by_age = Retention {
            age: Duration::from_millis(5_500),
            ..LARGE
        };
        on_each_engine(async |opened| keeps_six(&opened, by_age, 9 * SECOND).await).await;
        let by_size = Retention { bytes: 14_000, ..LARGE };
        on_each_engine(async |opened| keeps_six(&opened, by_size, 10 * SECOND).await).await;
    }

    #[tokio::test]
    async fn much_is_forgotten_in_small_transactions() {
        on_each_engine(async |opened| {
            let keys: Vec<_> = (0..2_500).map(|index| format!("e{index}")).collect();
            let objects: Vec<_> = keys
                .iter()
                .map(|key| (Object::Entry, key.as_str(), Vec::new()))
                .collect();
            let until = opened.put_at(1, &objects).await.revision;
            // Forgets no more than so many at once.
            assert!(forget_some(&opened.db, until).await.unwrap());
            assert_eq!(kept(&opened.db).await, 1_500);
            let large: Vec<_> = keys[..30]
                .iter()
                .map(|key| (Object::Entry, key.as_str(), vec![0; 1 << 20]))
                .collect();
            let until = opened.put_at(1, &large).await.revision;
            let mut before = size(&opened.db).await;
            while forget_some(&opened.db, until).await.unwrap() {
                let after = size(&opened.db).await;
                assert!(before - after < 10 << 20, "{before} {after}");
                before = after;
            }
            assert_eq!(kept(&opened.db).await, 0);
        })
        .await;
    }

    #[tokio::test]
    async fn it_is_due_once_much_was_written() {
        on_each_engine(async |opened| {
            let db = &opened.db;
            let retention = Retention { bytes: 20_000, ..LARGE };
            let mut compaction = Compaction::new(retention);
            opened.put_at(1, &[(Object::Entry, "e", vec![0; 3_000])]).await;
            assert!(!compaction.is_due(db).await.unwrap());
            for due in [false, true] {
                opened.put_at(1, &[(Object::Entry, "e", vec![0; 3_000])]).await;
                assert_eq!(compaction.is_due(db).await.unwrap(), due);
            }
            compaction.run(db, 1).await.unwrap();
            assert!(!compaction.is_due(db).await.unwrap());
            // Also what another replica wrote, and however fast.
            for _ in 0..20 {
                opened.put_at(1, &[(Object::Entry, "e", vec![0; 3_000])]).await;
            }
            assert!(compaction.is_due(db).await.unwrap());
            compaction.run(db, 1).await.unwrap();
            assert!(kept(db).await < 8);
        })
        .await;
    }
}
