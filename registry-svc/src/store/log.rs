//! The change log, as watchers read it.

use futures::TryStreamExt as _;
use prost::bytes::Bytes;
use sqlx::Row as _;

use super::{
    Tx,
    changes::{Cursor, Logged, OVERHEAD, Read, Window},
    identity, on,
};

/// The changes of `kinds` (bits) behind `after`, about `limit` bytes of them, as far as they are known to last. `None`: they have been
/// forgotten, or `epoch` is that of another database.
pub(crate) async fn next(
    tx: &mut Tx,
    epoch: &str,
    after: Cursor,
    kinds: i64,
    limit: usize,
) -> sqlx::Result<Option<Read>> {
    const NEXT: &str = "SELECT revision, position, kind, object_key, object FROM changes \
        WHERE (revision, position) > ($1, $2) AND revision <= $3 \
        AND (CAST(1 AS BIGINT) << CAST(kind AS INTEGER)) & $4 <> 0 ORDER BY revision, position";
    let head = identity::head(tx).await?;
    let needed = after.revision - i64::from(after.is_inside());
    if !head.known || head.epoch != epoch || needed < head.compacted || after.revision > head.revision {
        return Ok(None);
    }
    let latest = {
        let known = tx.db().latest();
        let known = known.borrow();
        if *known.epoch != *epoch {
            return Ok(None);
        }
        known.revision.max(after.revision).min(head.revision)
    };
    let until = until(tx, after, latest, limit).await?;
    let mut window = Window::new(after, limit);
    on!(tx, c => {
        let mut rows =
            sqlx::query(NEXT).bind(after.revision).bind(after.position()).bind(until).bind(kinds).fetch(&mut *c);
        while let Some(row) = rows.try_next().await? {
            let object: Option<Vec<u8>> = row.try_get("object")?;
            let taken = window.push(Logged::new(
                row.try_get("revision")?,
                row.try_get("position")?,
                row.try_get("kind")?,
                row.try_get("object_key")?,
                object.map(Bytes::from),
            ));
            if !taken {
                break;
            }
        }
    });
    Ok(Some(window.finish(Cursor::behind(until), until < latest)))
}

/// The revision up to which about `limit` bytes were logged: a database gives all that it was asked for, also what is not taken.
async fn until(tx: &mut Tx, after: Cursor, latest: i64, limit: usize) -> sqlx::Result<i64> {
    const AT_ONCE: i64 = 500;
    const SIZES: &str = "SELECT revision, CAST(SUM(bytes + $3) AS BIGINT) FROM changes WHERE revision > $1 \
        GROUP BY revision ORDER BY revision LIMIT $2";
    let next = after.revision + i64::from(!after.is_inside());
    if next >= latest {
        return Ok(latest);
    }
    let overhead = i64::try_from(OVERHEAD).unwrap_or(0);
    let sizes: Vec<(i64, i64)> = on!(tx, c => sqlx::query_as(SIZES).bind(next - 1).bind(AT_ONCE).bind(overhead)
        .fetch_all(&mut *c).await)?;
    let all = sizes.len() < usize::try_from(AT_ONCE).unwrap_or(0);
    let (mut until, mut sum) = (next, 0);
    for (revision, bytes) in sizes {
        sum += usize::try_from(bytes).unwrap_or(0);
        if sum > limit {
            return Ok(until);
        }
        until = revision;
    }
    Ok(if all { latest } else { until })
}
