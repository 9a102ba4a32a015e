//! What entries are found by: their audience, labels and words. Prefixes of words are ranges of an index, alike on both engines.

use std::collections::HashSet;

use contracts::registry::Entry;
use sqlx::QueryBuilder;

use super::{Tx, execute, list::Bind, on};
use crate::domain::{entry::words, time::micros, visibility};

/// Rows written by one statement.
const AT_ONCE: usize = 500;

/// The words that begin with this one: from the first, up to but without the second.
pub(super) fn range(word: &str) -> (Bind, Bind) {
    let first = word.as_bytes().to_vec();
    // No text has this byte.
    let last = [word.as_bytes(), &[0xff]].concat();
    (Bind::Bytes(first), Bind::Bytes(last))
}

/// Makes an entry found by nothing.
pub(super) async fn clear(tx: &mut Tx, entry_uid: &str) -> sqlx::Result<()> {
    for statement in [
        "DELETE FROM entry_audiences WHERE entry_uid = $1",
        "DELETE FROM entry_labels WHERE entry_uid = $1",
        "DELETE FROM entry_words WHERE entry_uid = $1",
    ] {
        execute!(tx, statement, [entry_uid])?;
    }
    Ok(())
}

/// Makes an entry found that was found by nothing. `team_uids` are those of its visibility.
pub(super) async fn fill(tx: &mut Tx, entry: &Entry, team_uids: &[String]) -> sqlx::Result<()> {
    let time = entry.create_time.as_ref().map(micros).unwrap_or_default();
    let audiences: HashSet<String> = visibility::audiences(entry.visibility.as_ref(), team_uids, &entry.creator)
        .into_iter()
        .collect();
    on!(tx, c => {
        let mut insert = QueryBuilder::new("INSERT INTO entry_audiences (audience, create_time, entry_uid) ");
        insert.push_values(&audiences, |mut row, audience| {
            row.push_bind(audience).push_bind(time).push_bind(&entry.uid);
        });
        insert.build().execute(&mut *c).await.map(drop)
    })?;
    if !entry.labels.is_empty() {
        on!(tx, c => {
            let mut insert = QueryBuilder::new("INSERT INTO entry_labels (entry_uid, label_key, label_value, create_time) ");
            insert.push_values(&entry.labels, |mut row, (key, value)| {
                row.push_bind(&entry.uid).push_bind(key).push_bind(value).push_bind(time);
            });
            insert.build().execute(&mut *c).await.map(drop)
        })?;
    }
    let words: Vec<String> = words(entry).into_iter().collect();
    for some in words.chunks(AT_ONCE) {
        on!(tx, c => {
            let mut insert = QueryBuilder::new("INSERT INTO entry_words (word, entry_uid) ");
            insert.push_values(some, |mut row, word| {
                row.push_bind(word.as_bytes()).push_bind(&entry.uid);
            });
            insert.build().execute(&mut *c).await.map(drop)
        })?;
    }
    Ok(())
}
