//! Entries: their documents, and what they are found by.

use contracts::registry::{Entry, EntryLifecycle, EntryRollout, FeatureKind, RolloutHold};
use prost::Message as _;
use sqlx::Row as _;

use super::{
    Object, Tx,
    document::{SCHEMA_VERSION, document},
    execute,
    list::{self, Arm, Bind, Condition, List, SEVERAL, audiences},
    on, rows, search,
};
use crate::domain::{Caller, time::micros, visibility};

/// The entry that has this slug now.
pub(crate) async fn by_slug(tx: &mut Tx, slug: &str) -> sqlx::Result<Option<Entry>> {
    const FIND: &str = "SELECT document, schema_version FROM entries WHERE slug = $1 AND delete_time IS NULL";
    let found = rows!(tx, FIND, [slug], row => document(row))?;
    Ok(found.into_iter().next())
}

/// The entry with this uid, also one that waits for cleanup.
pub(crate) async fn by_uid(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<Entry>> {
    const FIND: &str = "SELECT document, schema_version FROM entries WHERE uid = $1";
    let found = rows!(tx, FIND, [uid], row => document(row))?;
    Ok(found.into_iter().next())
}

/// The hash of the tools of those that have some: a [`FeatureKind::Tool`] set.
pub(crate) fn tool_set(discovered: &[contracts::registry::DiscoveredSet]) -> &str {
    discovered
        .iter()
        .find(|set| set.kind() == FeatureKind::Tool)
        .map_or("", |set| set.set_hash.as_str())
}

/// Writes an entry, new or there already; sets its revision. What it is found by is [`index`]ed apart.
pub(crate) async fn put(tx: &mut Tx, entry: &mut Entry) -> sqlx::Result<()> {
    const PUT: &str = "INSERT INTO entries \
        (uid, slug, entry_revision, lifecycle, document, schema_version, tool_set, create_time, delete_time, registry_revision) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (uid) DO UPDATE SET \
        entry_revision = excluded.entry_revision, lifecycle = excluded.lifecycle, document = excluded.document, \
        schema_version = excluded.schema_version, tool_set = excluded.tool_set, delete_time = excluded.delete_time, \
        registry_revision = excluded.registry_revision";
    entry.registry_revision = tx.revision();
    entry.rollout = None;
    let document = entry.encode_to_vec();
    let slug = entry.name.trim_start_matches("entries/");
    execute!(
        tx,
        PUT,
        [
            &entry.uid,
            slug,
            entry.entry_revision,
            i64::from(entry.lifecycle),
            &document,
            SCHEMA_VERSION,
            tool_set(&entry.discovered),
            entry.create_time.as_ref().map(micros),
            entry.delete_time.as_ref().map(micros),
            entry.registry_revision
        ]
    )?;
    tx.put(Object::Entry, &entry.uid, &document);
    Ok(())
}

/// Says whether the entry's installations, and when it is deleted its assignments, are still to be looked at.
pub(crate) async fn set_unfinished(tx: &mut Tx, uid: &str, unfinished: bool) -> sqlx::Result<()> {
    const SET: &str = "UPDATE entries SET unfinished = $1 WHERE uid = $2";
    execute!(tx, SET, [unfinished, uid]).map(drop)
}

/// The first unfinished entry whose uid comes after this one.
pub(crate) async fn unfinished_after(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<String>> {
    const FIND: &str = "SELECT uid FROM entries WHERE unfinished AND uid > $1 ORDER BY uid LIMIT 1";
    on!(tx, c => sqlx::query_scalar(FIND).bind(uid).fetch_optional(&mut *c).await)
}

/// The revision of the last step that was done for the entry, if nothing is left to be done.
pub(crate) async fn finished(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<i64>> {
    const FIND: &str = "SELECT unfinished, rollout_revision FROM entries WHERE uid = $1";
    let found: Option<(bool, i64)> = on!(tx, c => sqlx::query_as(FIND).bind(uid).fetch_optional(&mut *c).await)?;
    // What is gone is done.
    let (unfinished, revision) = found.unwrap_or_default();
    Ok((!unfinished).then_some(revision))
}

/// Notes that this transaction does a step for the entry that watchers see.
pub(crate) async fn set_rollout_revision(tx: &mut Tx, uid: &str) -> sqlx::Result<()> {
    const SET: &str = "UPDATE entries SET rollout_revision = $1 WHERE uid = $2";
    let revision = tx.revision();
    execute!(tx, SET, [revision, uid]).map(drop)
}

/// Makes an entry, which was found by what it was `before`, found by its present audience, labels and words, or by nothing if it is
/// deleted. `team_uids` are those of its visibility.
pub(crate) async fn index(
    tx: &mut Tx,
    before: Option<&Entry>,
    entry: &Entry,
    team_uids: &[String],
) -> sqlx::Result<()> {
    if entry.delete_time.is_some() {
        return search::clear(tx, &entry.uid).await;
    }
    search::update(tx, before, entry, team_uids).await
}

/// Makes an entry found by a lifecycle that it did not have before.
pub(crate) async fn index_lifecycle(tx: &mut Tx, entry: &Entry) -> sqlx::Result<()> {
    search::set_lifecycle(tx, entry).await
}

/// The uids of up to `limit` installations of it that are not deleted, in no order.
pub(crate) async fn some_installations(tx: &mut Tx, uid: &str, limit: i64) -> sqlx::Result<Vec<String>> {
    const FIND: &str = "SELECT uid FROM installations WHERE entry_uid = $1 AND delete_time IS NULL LIMIT $2";
    rows!(tx, FIND, [uid, limit], row => row.try_get("uid"))
}

/// How many installations it has that are not deleted.
pub(crate) async fn count_installed(tx: &mut Tx, uid: &str) -> sqlx::Result<i64> {
    const COUNT: &str = "SELECT count(*) FROM installations WHERE entry_uid = $1 AND delete_time IS NULL";
    on!(tx, c => sqlx::query_scalar(COUNT).bind(uid).fetch_one(&mut *c).await)
}

/// How far its installations have come to this entry revision.
pub(crate) async fn rollout(tx: &mut Tx, uid: &str, entry_revision: i64) -> sqlx::Result<EntryRollout> {
    const LEFT: &str = "SELECT count(*) FROM installations \
        WHERE entry_uid = $1 AND settled_entry_revision < $2 AND delete_time IS NULL";
    const ALL: &str = "SELECT count(*) FROM installations \
        WHERE entry_uid = $1 AND settled_entry_revision >= $2 AND delete_time IS NULL";
    const HELD: &str = "SELECT hold_reason, count(*) AS held FROM installations WHERE entry_uid = $1 \
        AND hold_reason <> '' AND settled_entry_revision >= $2 AND delete_time IS NULL \
        GROUP BY hold_reason ORDER BY held DESC, hold_reason";
    let left = on!(tx, c => sqlx::query_scalar(LEFT).bind(uid).bind(entry_revision).fetch_one(&mut *c).await)?;
    let settled: i64 = on!(tx, c => sqlx::query_scalar(ALL).bind(uid).bind(entry_revision).fetch_one(&mut *c).await)?;
    let holds = rows!(tx, HELD, [uid, entry_revision], row => Ok(RolloutHold {
        reason: row.try_get("hold_reason")?,
        installations: row.try_get("held")?,
    }))?;
    let held = holds.iter().map(|hold| hold.installations).sum();
    Ok(EntryRollout {
        entry_revision,
        moved: settled - held,
        held,
        left,
        holds,
    })
}

/// That somebody of these audiences sees the entry whose uid is in this column. An entry has few audiences, a caller may have a thousand:
/// the former are read.
macro_rules! seen {
    ($column:literal) => {
        concat!(
            "(SELECT 1 FROM entry_audiences a WHERE a.entry_uid = ",
            $column,
            " AND a.audience || '' IN ({}) LIMIT 1) IS NOT NULL"
        )
    };
}
pub(super) use seen;

/// Which entries a list is of.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Key and value of labels that all of them carry.
    pub(crate) labels: Vec<(String, String)>,
    /// Their lifecycle; unspecified: any.
    pub(crate) lifecycle: EntryLifecycle,
    /// Beginnings of words that all of them have.
    pub(crate) words: Vec<String>,
}

/// What a list is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadBy {
    /// What the caller sees, of one lifecycle or of all.
    Audience,
    /// This label, in what the caller sees.
    Label(usize),
    /// This word: all entries that have it are sorted.
    Word(usize),
}

/// How what a list is read by is put in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Each audience of the caller is read in order, and these are merged.
    Merged,
    /// All that is found is sorted.
    Sorted,
    /// Everybody's are read in order, and those that the caller sees are taken.
    Sought,
}

/// What more entries than these fulfil is common: whoever looks through entries in the order of the list soon finds a page of it. What
/// fewer fulfil is sought first. So many times as much where more than one thing is asked for: the fewer fulfil all of it, the longer is
/// the way to a page, up to three times.
const COMMON: usize = 700;

/// The entries that a caller sees, read by what fewest fulfil.
///
/// Where everything that is asked for is common, entries are looked through in the order of the list. If hardly any of them fulfils
/// all of it, those are many, at most all that the caller sees.
pub(crate) async fn list(tx: &mut Tx, caller: &Caller, filter: &Filter) -> sqlx::Result<List> {
    let by_lifecycle = filter.lifecycle != EntryLifecycle::Unspecified;
    let several = audiences(caller).len() > SEVERAL;
    let (read_by, order) = match (filter.labels.len(), filter.words.len()) {
        (0, 0) if !several => (ReadBy::Audience, Order::Merged),
        (1, 0) if !by_lifecycle && !several => (ReadBy::Label(0), Order::Merged),
        _ => rarest(tx, caller, filter).await?,
    };
    Ok(list_by(caller, filter, read_by, order))
}

async fn rarest(tx: &mut Tx, caller: &Caller, filter: &Filter) -> sqlx::Result<(ReadBy, Order)> {
    let audiences = audiences(caller);
    let several = audiences.len() > SEVERAL;
    let everybody = [Bind::from(visibility::ADMINS)];
    let mut ways = vec![ReadBy::Audience];
    ways.extend((0..filter.labels.len()).map(ReadBy::Label));
    ways.extend((0..filter.words.len()).map(ReadBy::Word));
    // A label in many audiences is counted in all entries: what the caller sees of it is sought there.
    let condition = |way: &ReadBy| match way {
        ReadBy::Label(_) if several => filter.condition(*way, &everybody),
        _ => filter.condition(*way, &audiences),
    };
    let conditions: Vec<_> = ways.iter().map(condition).collect();
    let common = i64::try_from(COMMON * (filter.labels.len() + filter.words.len()).clamp(1, 3)).unwrap_or(i64::MAX);
    let counts = list::counts(tx, &conditions, common).await?;
    let is_sorted = |way: ReadBy| matches!(way, ReadBy::Word(_));
    // A label and an audience are in order, however many they are.
    let candidates = ways.into_iter().zip(counts);
    let best = candidates
        .filter(|&(way, count)| count < common || !is_sorted(way))
        .min_by_key(|&(way, count)| (count, way == ReadBy::Audience));
    let (read_by, count) = best.unwrap_or((ReadBy::Audience, common));
    let order = if is_sorted(read_by) {
        Order::Sorted
    } else if !several {
        Order::Merged
    } else if read_by == ReadBy::Audience && count < common {
        Order::Sorted
    } else {
        Order::Sought
    };
    Ok((read_by, order))
}

impl Filter {
    /// The table that has those which one of these audiences sees in one way, and what it is sought by.
    fn condition(&self, read_by: ReadBy, audiences: &[Bind]) -> (&'static str, Condition) {
        match read_by {
            ReadBy::Audience => {
                let mut condition = Condition::any_of("d.audience IN ({})", audiences.to_vec());
                if self.lifecycle != EntryLifecycle::Unspecified {
                    condition = condition.and(" AND d.lifecycle = ?", [Bind::Int(self.lifecycle as i64)]);
                }
                ("entry_audiences d", condition)
            }
            ReadBy::Label(index) => {
                let (key, value) = &self.labels[index];
                let label = [Bind::from(key.as_str()), Bind::from(value.as_str())];
                let condition = Condition::any_of("d.audience IN ({})", audiences.to_vec())
                    .and(" AND d.label_key = ? AND d.label_value = ?", label);
                ("entry_labels d", condition)
            }
            ReadBy::Word(index) => {
                let range = search::range(&self.words[index]);
                ("entry_words d", Condition::new("d.word >= ? AND d.word < ?", range))
            }
        }
    }
}

/// As [`list`], read in this way.
pub(super) fn list_by(caller: &Caller, filter: &Filter, read_by: ReadBy, order: Order) -> List {
    let audiences = audiences(caller);
    let arm = |audiences: &[Bind]| {
        let (from, condition) = filter.condition(read_by, audiences);
        Arm {
            from,
            time: "d.create_time",
            uid: "d.entry_uid",
            condition,
            unordered: order == Order::Sorted,
        }
    };
    let arms = match order {
        Order::Merged => audiences.chunks(1).map(arm).collect(),
        Order::Sorted => vec![arm(&audiences)],
        Order::Sought => vec![arm(&[Bind::from(visibility::ADMINS)])],
    };
    // Each is a look-up of its own for an entry that is found: no engine makes a join of all entries out of them.
    let mut filters = Vec::new();
    for (index, word) in filter.words.iter().enumerate() {
        if read_by != ReadBy::Word(index) {
            filters.push(Condition::new(
                "(SELECT 1 FROM entry_words w WHERE w.entry_uid = d.entry_uid AND w.word >= ? AND w.word < ? LIMIT 1) IS NOT NULL",
                search::range(word),
            ));
        }
    }
    for (index, (key, value)) in filter.labels.iter().enumerate() {
        if read_by != ReadBy::Label(index) {
            filters.push(Condition::new(
                "(SELECT 1 FROM entry_labels l WHERE l.entry_uid = d.entry_uid AND l.audience = ? \
                 AND l.label_key = ? AND l.label_value = ?) IS NOT NULL",
                [visibility::ADMINS, key, value].map(Bind::from),
            ));
        }
    }
    if filter.lifecycle != EntryLifecycle::Unspecified && read_by != ReadBy::Audience {
        filters.push(Condition::new(
            "(SELECT e.lifecycle FROM entries e WHERE e.uid = d.entry_uid) = ?",
            [Bind::Int(filter.lifecycle as i64)],
        ));
    }
    // A word is everybody's, and so is what is sought.
    if !caller.admin && (order == Order::Sought || matches!(read_by, ReadBy::Word(_))) {
        filters.push(Condition::any_of(seen!("d.entry_uid"), audiences));
    }
    List {
        table: "entries",
        extra: "NULL",
        arms,
        filters,
    }
}
