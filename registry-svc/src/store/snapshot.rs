//! All objects of some kinds at one moment, read by key: however many there are, about one part of them is in memory.

use std::collections::VecDeque;

use contracts::registry::{DeactivatedUser, WatchedTeamMember};
use futures::TryStreamExt as _;
use prost::{Message as _, bytes::Bytes};
use sqlx::{AssertSqlSafe, Row as _};

use super::{Object, Tx, on};

/// Rows that one statement reads, at most, and first of a kind: then it is not known yet how large they are.
pub(super) const PAGE: usize = 4_000;
const FIRST_PAGE: usize = 16;
/// What an object takes in addition to its bytes.
const OVERHEAD: usize = 8;

/// A snapshot that is being read, in one transaction.
pub(crate) struct Snapshot {
    tx: Tx,
    /// The kinds that are not read yet.
    objects: VecDeque<Object>,
    after: Key,
    /// Bytes of an object of this kind, as far as some are known.
    mean: Option<usize>,
    /// Read, but too large for the part before.
    carried: Option<Bytes>,
}

/// Where an object is in the order of its kind.
#[derive(Clone, Debug, Default)]
struct Key {
    first: String,
    second: Second,
}

/// What a key has in addition to its first column.
#[derive(Clone, Debug, Default)]
enum Second {
    #[default]
    Nothing,
    Text(String),
    Number(i64),
}

impl Snapshot {
    /// The objects of `kinds` (bits), in the view of `tx`, in the order of [`Object::ALL`].
    pub(crate) fn new(tx: Tx, kinds: i64) -> Self {
        let objects: VecDeque<_> = Object::ALL
            .into_iter()
            .filter(|object| kinds & object.bit() != 0)
            .collect();
        Self {
            tx,
            after: objects.front().map(|object| start(*object)).unwrap_or_default(),
            objects,
            mean: None,
            carried: None,
        }
    }

    /// The next encoded `WatchedObject`s, at most `limit` bytes of them or one that is larger; none: that is all.
    pub(crate) async fn part(&mut self, limit: usize) -> sqlx::Result<Vec<Bytes>> {
        let mut part = Vec::new();
        let mut size = 0;
        if let Some(object) = self.carried.take() {
            size += object.len() + OVERHEAD;
            part.push(object);
        }
        while size < limit
            && let Some(&object) = self.objects.front()
        {
            let (taken, before) = (part.len(), size);
            let read = self.page(object, limit, &mut part, &mut size).await?;
            if part.len() > taken {
                self.mean = Some((size - before) / (part.len() - taken));
            }
            match read {
                Page::Full => {}
                Page::TooMuch => break,
                Page::Last => {
                    self.objects.pop_front();
                    self.mean = None;
                    self.after = self.objects.front().map(|object| start(*object)).unwrap_or_default();
                }
            }
        }
        Ok(part)
    }

    /// Reads a page of a kind into `part`.
    async fn page(
        &mut self,
        object: Object,
        limit: usize,
        part: &mut Vec<Bytes>,
        size: &mut usize,
    ) -> sqlx::Result<Page> {
        let sql = statement(object);
        // As many as about fill the part: what is read and does not fit is read again.
        let left = limit.saturating_sub(*size);
        let page = self.mean.map_or(FIRST_PAGE, |mean| (left / mean + 1).min(PAGE));
        let Self { tx, after, carried, .. } = self;
        let from = after.clone();
        on!(tx, c => {
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(from.first);
            query = match from.second {
                Second::Nothing => query,
                Second::Text(text) => query.bind(text),
                Second::Number(number) => query.bind(number),
            };
            let mut rows = query.bind(i64::try_from(page).unwrap_or(i64::MAX)).fetch(&mut *c);
            let mut read = 0;
            while let Some(row) = rows.try_next().await? {
                read += 1;
                after.first = row.try_get("first")?;
                match &mut after.second {
                    Second::Nothing => {}
                    Second::Text(text) => *text = row.try_get("second")?,
                    Second::Number(number) => *number = row.try_get("second")?,
                }
                let document: Vec<u8> = match made(object, after) {
                    Some(document) => document,
                    None => row.try_get("document")?,
                };
                let watched = Bytes::from(object.watched(&after.name(), &document));
                if !part.is_empty() && *size + watched.len() + OVERHEAD > limit {
                    *carried = Some(watched);
                    return Ok(Page::TooMuch);
                }
                *size += watched.len() + OVERHEAD;
                part.push(watched);
            }
            Ok(if read < page { Page::Last } else { Page::Full })
        })
    }
}

/// How far a page came.
enum Page {
    /// There may be more of the kind.
    Full,
    /// There is more than the part can take.
    TooMuch,
    /// That was the last one of the kind.
    Last,
}

impl Key {
    /// `WatchedObject.key`.
    fn name(&self) -> String {
        match &self.second {
            Second::Nothing => self.first.clone(),
            Second::Text(second) => format!("{}/{second}", self.first),
            Second::Number(second) => format!("{}/{second}", self.first),
        }
    }
}

/// Before all objects of a kind.
fn start(object: Object) -> Key {
    let second = match object {
        Object::TeamMember => Second::Text(String::new()),
        Object::EntryRevision => Second::Number(0),
        _ => Second::Nothing,
    };
    Key {
        first: String::new(),
        second,
    }
}

/// The document of a kind that is kept without one.
fn made(object: Object, key: &Key) -> Option<Vec<u8>> {
    match (object, &key.second) {
        (Object::TeamMember, Second::Text(user)) => {
            let member = WatchedTeamMember {
                team_uid: key.first.clone(),
                user: format!("users/{user}"),
            };
            Some(member.encode_to_vec())
        }
        (Object::DeactivatedUser, _) => {
            let user = DeactivatedUser {
                user: format!("users/{}", key.first),
            };
            Some(user.encode_to_vec())
        }
        _ => None,
    }
}

/// The statement that reads a page of a kind.
fn statement(object: Object) -> String {
    let by_key = |table: &str, key: &str, condition: &str| {
        format!("SELECT {key} AS first, document FROM {table} WHERE {key} > $1 {condition} ORDER BY {key} LIMIT $2")
    };
    match object {
        Object::FeatureDefinition => by_key("feature_definitions", "hash", ""),
        Object::FeatureSet => by_key("feature_sets", "hash", ""),
        Object::Team => by_key("teams", "uid", ""),
        Object::TeamMember => "SELECT team_uid AS first, user_uid AS second FROM team_members \
            WHERE (team_uid, user_uid) > ($1, $2) ORDER BY team_uid, user_uid LIMIT $3"
            .to_owned(),
        Object::DeactivatedUser => "SELECT uid AS first FROM users \
            WHERE uid > $1 AND deactivate_time IS NOT NULL ORDER BY uid LIMIT $2"
            .to_owned(),
        Object::Entry => by_key("entries", "uid", ""),
        Object::EntryRevision => "SELECT entry_uid AS first, number AS second, document FROM entry_revisions \
            WHERE (entry_uid, number) > ($1, $2) AND in_use ORDER BY entry_uid, number LIMIT $3"
            .to_owned(),
        Object::Runtime => by_key("runtimes", "owner_uid", ""),
        Object::Installation => by_key("installations", "uid", ""),
        Object::Gateway => by_key("consumers", "uid", "AND +kind = 1 AND delete_time IS NULL"),
        Object::Agent => by_key("consumers", "uid", "AND +kind = 2 AND delete_time IS NULL"),
        Object::ToolAssignment => by_key("tool_assignments", "uid", ""),
        Object::GatewayToken => by_key("gateway_tokens", "uid", "AND revoke_time IS NULL"),
        Object::GatewayReplica => by_key("gateway_replicas", "instance", ""),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use contracts::registry::{FeatureDefinition, Runtime, WatchedObject, watched_object};

    use super::*;
    use crate::store::{execute, testing::on_each_engine};

    const LIMIT: usize = 1 << 20;

    async fn put_document(tx: &mut Tx, table: &str, key: &str, key_value: &str, document: Vec<u8>) {
        let sql =
            format!("INSERT INTO {table} ({key}, document, schema_version, registry_revision) VALUES ($1, $2, 1, 1)");
        on!(tx, c => sqlx::query(AssertSqlSafe(sql)).bind(key_value).bind(document).execute(&mut *c).await.map(drop))
            .unwrap();
    }

    /// The size of each part, and all objects in the order in which they came.
    async fn read(mut snapshot: Snapshot) -> (Vec<usize>, Vec<WatchedObject>) {
        let (mut sizes, mut objects) = (Vec::new(), Vec::new());
        loop {
            let part = snapshot.part(LIMIT).await.unwrap();
            if part.is_empty() {
                return (sizes, objects);
            }
            sizes.push(part.iter().map(Bytes::len).sum());
            objects.extend(part.iter().map(|bytes| WatchedObject::decode(&bytes[..]).unwrap()));
        }
    }

    #[tokio::test]
    async fn reads_everything_once_in_parts() {
        on_each_engine(async |opened| {
            let mut tx = opened.db.write_quietly().await.unwrap();
            let mut expected: BTreeMap<String, usize> = BTreeMap::new();
            for index in 0..30 {
                // The tenth is larger than a part.
                let size = if index == 10 { 2 * LIMIT } else { 150_000 };
                let definition = FeatureDefinition {
                    definition_json: "x".repeat(size),
                    ..FeatureDefinition::default()
                };
                let key = format!("d{index:02}");
                put_document(&mut tx, "feature_definitions", "hash", &key, definition.encode_to_vec()).await;
                *expected.entry(key).or_default() += 1;
            }
            for index in 0..5_000 {
                let runtime = Runtime {
                    endpoint: "x".repeat(100),
                    ..Runtime::default()
                };
                let key = format!("r{index:05}");
                put_document(&mut tx, "runtimes", "owner_uid", &key, runtime.encode_to_vec()).await;
                *expected.entry(key).or_default() += 1;
            }
            tx.commit().await.unwrap();
            let snapshot = Snapshot::new(opened.db.snapshot().await.unwrap(), !0);
            let (sizes, objects) = read(snapshot).await;
            assert!(sizes.iter().filter(|&&size| size > LIMIT).count() == 1, "{sizes:?}");
            assert!(sizes.len() < 12, "{sizes:?}");
            let mut found: BTreeMap<String, usize> = BTreeMap::new();
            for object in &objects {
                *found.entry(object.key.clone()).or_default() += 1;
            }
            assert_eq!(found, expected);
            let only = Snapshot::new(opened.db.snapshot().await.unwrap(), Object::Runtime.bit());
            assert_eq!(read(only).await.1.len(), 5_000);
        })
        .await;
    }

    #[tokio::test]
    async fn makes_the_documents_of_what_is_kept_in_columns() {
        on_each_engine(async |opened| {
            let mut tx = opened.db.write_quietly().await.unwrap();
            for (uid, deactivated) in [("u1", None), ("u2", Some(7_i64)), ("u3", None)] {
                const USER: &str = "INSERT INTO users (uid, issuer, subject, email, email_key, display_name, deactivate_time, \
                    create_time) VALUES ($1, 'i', $1, '', '', '', $2, 1)";
                execute!(tx, USER, [uid, deactivated]).unwrap();
            }
            for team in ["t1", "t2"] {
                const TEAM: &str = "INSERT INTO teams (uid, slug, members_manage_installations, document, schema_version, \
                    create_time, registry_revision) VALUES ($1, $1, FALSE, $2, 1, 1, 1)";
                execute!(tx, TEAM, [team, Vec::<u8>::new()]).unwrap();
                for user in ["u1", "u3"] {
                    const MEMBER: &str = "INSERT INTO team_members (team_uid, user_uid, create_time, registry_revision) \
                        VALUES ($1, $2, 1, 1)";
                    execute!(tx, MEMBER, [team, user]).unwrap();
                }
            }
            const ENTRY: &str = "INSERT INTO entries (uid, slug, entry_revision, lifecycle, document, schema_version, create_time, \
                registry_revision) VALUES ('e', 'e', 3, 1, $1, 1, 1, 1)";
            execute!(tx, ENTRY, [Vec::<u8>::new()]).unwrap();
            for (number, in_use) in [(1_i64, true), (2, false), (10, true)] {
                const REVISION: &str = "INSERT INTO entry_revisions (entry_uid, number, document, schema_version, in_use) \
                    VALUES ('e', $1, $2, 1, $3)";
                execute!(tx, REVISION, [number, Vec::<u8>::new(), in_use]).unwrap();
            }
            tx.commit().await.unwrap();
            let snapshot = Snapshot::new(opened.db.snapshot().await.unwrap(), !0);
            let (_, objects) = read(snapshot).await;
            let keys: Vec<_> = objects.iter().map(|object| object.key.as_str()).collect();
            assert_eq!(
                keys,
                ["t1", "t2", "t1/u1", "t1/u3", "t2/u1", "t2/u3", "u2", "e", "e/1", "e/10"]
            );
            let member = WatchedTeamMember {
                team_uid: "t1".to_owned(),
                user: "users/u3".to_owned(),
            };
            assert_eq!(objects[3].object, Some(watched_object::Object::TeamMember(member)));
            let user = DeactivatedUser {
                user: "users/u2".to_owned(),
            };
            assert_eq!(objects[6].object, Some(watched_object::Object::DeactivatedUser(user)));
        })
        .await;
    }

    /// Each page is read by an index, in order, however large the table is.
    #[tokio::test]
    async fn reads_by_an_index() {
        on_each_engine(async |opened| {
            let mut tx = opened.db.read().await.unwrap();
            for object in Object::ALL {
                let (explain, plan_in): (&str, &str) = match tx.engine() {
                    crate::store::Engine::Sqlite(_) => ("EXPLAIN QUERY PLAN", "detail"),
                    crate::store::Engine::Postgres(_) => {
                        execute!(tx, "SET LOCAL enable_seqscan = off", []).unwrap();
                        execute!(tx, "SET LOCAL enable_bitmapscan = off", []).unwrap();
                        execute!(tx, "SET LOCAL enable_sort = off", []).unwrap();
                        ("EXPLAIN", "QUERY PLAN")
                    }
                };
                let sql = format!("{explain} {}", statement(object));
                let second = start(object).second;
                let plan: Vec<String> = on!(tx, c => {
                    let mut query = sqlx::query(AssertSqlSafe(sql)).bind("x");
                    query = match second {
                        Second::Nothing => query,
                        Second::Text(text) => query.bind(text),
                        Second::Number(number) => query.bind(number),
                    };
                    query.bind(10_i64).fetch_all(&mut *c).await.unwrap().iter().map(|row| row.get(plan_in)).collect()
                });
                let plan = plan.join("; ");
                assert!(plan.contains("INDEX") || plan.contains("Index"), "{object:?}: {plan}");
                assert!(
                    !plan.contains("TEMP B-TREE") && !plan.contains("Sort"),
                    "{object:?}: {plan}"
                );
            }
        })
        .await;
    }
}
