//! Pages of lists: one statement a page, which reads by an index in the order of the list, however large the table is.

use sqlx::Row as _;

use super::{
    Tx,
    document::{SCHEMA_VERSION, decode},
    fitting, on,
};
use crate::domain::{Caller, Room, visibility};
use prost::Message;

/// Arms that one compound of a statement holds.
const GROUP: usize = 100;

/// A value of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    /// Text.
    Text(String),
    /// Text in the order of its bytes.
    Bytes(Vec<u8>),
    /// A number, a time, an enum's value.
    Int(i64),
}

impl From<&str> for Bind {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Bind {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// A query of a text and its values.
macro_rules! bound {
    ($text:expr, $binds:expr) => {{
        let mut query = sqlx::query(sqlx::AssertSqlSafe($text));
        for bind in $binds {
            query = match bind {
                $crate::store::list::Bind::Text(text) => query.bind(text),
                $crate::store::list::Bind::Bytes(bytes) => query.bind(bytes),
                $crate::store::list::Bind::Int(number) => query.bind(number),
            };
        }
        query
    }};
}
#[cfg(test)]
pub(super) use bound;

/// A condition; `?` stands for its values, in order.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    text: String,
    binds: Vec<Bind>,
}

impl Condition {
    /// Of a constant text.
    pub(crate) fn new<const N: usize>(text: &'static str, binds: [Bind; N]) -> Self {
        Self {
            text: text.to_owned(),
            binds: binds.into(),
        }
    }

    /// With more text behind it.
    pub(crate) fn and<const N: usize>(mut self, text: &'static str, binds: [Bind; N]) -> Self {
        self.text.push_str(text);
        self.binds.extend(binds);
        self
    }

    /// `text` with `{}` replaced by a list of placeholders, one a value.
    pub(crate) fn any_of(text: &'static str, binds: Vec<Bind>) -> Self {
        let placeholders = vec!["?"; binds.len()].join(", ");
        Self {
            text: text.replacen("{}", &placeholders, 1),
            binds,
        }
    }
}

/// Where some of a list's objects are found in its order: by an index that begins with the columns of `condition` and continues
/// with `time` and `uid`.
#[derive(Clone, Debug)]
pub(crate) struct Arm {
    /// The table with that index. `o` is the table of the objects itself.
    pub(crate) from: &'static str,
    /// The column of the creation time in that index.
    pub(crate) time: &'static str,
    /// The column of the uid in that index.
    pub(crate) uid: &'static str,
    /// What the index begins with.
    pub(crate) condition: Condition,
    /// What is found is not in order, and the same may be found more than once: all that fulfils `condition` is sorted.
    pub(crate) unordered: bool,
}

impl Arm {
    /// Of the table of the objects.
    pub(crate) fn of(from: &'static str, condition: Condition) -> Self {
        Self {
            from,
            time: "o.create_time",
            uid: "o.uid",
            condition,
            unordered: false,
        }
    }
}

/// A list: the objects of its arms, each once, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct List {
    /// The table of the objects, with `uid`, `create_time`, `document` and `schema_version`.
    pub(crate) table: &'static str,
    /// A further column of that table, which comes with each object, or `NULL`.
    pub(crate) extra: &'static str,
    pub(crate) arms: Vec<Arm>,
    /// What all of them must fulfil, in terms of the tables of all arms.
    pub(crate) filters: Vec<Condition>,
}

/// A position in a list: creation time and uid.
pub(crate) type Position = (i64, String);

/// An object of a page.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) position: Position,
    pub(crate) document: Vec<u8>,
    /// [`List::extra`].
    pub(crate) extra: Option<i64>,
}

impl Listed {
    /// The message that its document is.
    pub(crate) fn message<M: Message + Default>(&self) -> sqlx::Result<M> {
        decode(&self.document)
    }

    /// How much of a page it takes.
    pub(crate) const fn bytes(&self) -> usize {
        self.document.len()
    }
}

impl List {
    /// The statement of a page, and its values.
    pub(crate) fn statement(&self, after: (i64, &str), limit: i64) -> (String, Vec<Bind>) {
        let mut sql = Sql::default();
        let columns = format!(
            "o.create_time AS create_time, o.uid AS uid, o.document AS document, o.schema_version AS schema_version, {} AS extra",
            self.extra
        );
        match self.arms.as_slice() {
            [arm] if arm.from.strip_suffix(" o") == Some(self.table) => {
                sql.text(&format!("SELECT {columns} "));
                sql.arm(arm, &self.filters, after, limit);
            }
            arms => {
                sql.text(&format!("SELECT {columns} FROM ("));
                for (index, arm) in arms.iter().enumerate() {
                    // In groups: SQLite takes no more than 500 terms in one compound.
                    let (begins, ends) = (
                        index % GROUP == 0,
                        index % GROUP == GROUP - 1 || index == arms.len() - 1,
                    );
                    sql.text(if index == 0 { "" } else { " UNION " });
                    if begins {
                        sql.text("SELECT found_time, found_uid FROM (");
                    }
                    sql.text(&format!(
                        "SELECT found_time, found_uid FROM (SELECT {}{} AS found_time, {} AS found_uid ",
                        if arm.unordered { "DISTINCT " } else { "" },
                        arm.time,
                        arm.uid
                    ));
                    sql.arm(arm, &self.filters, after, limit);
                    sql.text(&format!(") AS arm_{index}"));
                    if ends {
                        sql.text(&format!(") AS found_{}", index / GROUP));
                    }
                }
                sql.text(&format!(
                    ") AS found JOIN {} o ON o.uid = found_uid ORDER BY found_time, found_uid LIMIT ",
                    self.table
                ));
                sql.bind(Bind::Int(limit));
            }
        }
        (sql.text, sql.binds)
    }

    /// Up to `limit` objects behind `after`; fewer where they are too large for a page.
    pub(crate) async fn page(&self, tx: &mut Tx, after: (i64, &str), limit: i64) -> sqlx::Result<Vec<Listed>> {
        let (sql, binds) = self.statement(after, limit);
        fitting!(tx, Room::of_page(), bound!(sql, binds), row => {
            let schema_version: i64 = row.try_get("schema_version")?;
            if schema_version > SCHEMA_VERSION {
                return Err(super::document::newer(schema_version));
            }
            Ok(Listed {
                position: (row.try_get("create_time")?, row.try_get("uid")?),
                document: row.try_get("document")?,
                extra: row.try_get("extra")?,
            })
        }, listed => listed.bytes())
    }
}

/// What some arms find at the beginning of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// How many; of many, [`SOME`].
    pub(crate) found: i64,
    /// How many are sorted; of many, [`MANY`].
    all: i64,
    /// When the last one of those found was created.
    pub(crate) reach: i64,
}

/// How many are read at the beginning of a list to estimate how dense it is.
const SOME: i64 = 50;
/// What is found by an unordered arm is sorted if it is less than this.
const MANY: i64 = 700;

impl Extent {
    /// Whether what is found in no order is few enough.
    pub(crate) const fn is_all(&self) -> bool {
        self.all < MANY
    }
}

/// How far each of these unions of arms comes with the same number of objects, in one statement.
pub(crate) async fn extents(tx: &mut Tx, unions: &[&[Arm]]) -> sqlx::Result<Vec<Extent>> {
    let mut sql = Sql::default();
    for (union, arms) in unions.iter().enumerate() {
        sql.text(if union == 0 { "" } else { " UNION ALL " });
        sql.text(&format!(
            "SELECT {union} AS number, count(*) AS found, COALESCE(max(many), 0) AS many, COALESCE(max(found_time), 0) AS reach \
             FROM (SELECT found_time, count(*) OVER () AS many FROM ("
        ));
        for (index, arm) in arms.iter().enumerate() {
            sql.text(if index == 0 { "" } else { " UNION ALL " });
            sql.text(&format!(
                "SELECT found_time FROM (SELECT {} AS found_time FROM {} WHERE ",
                arm.time, arm.from
            ));
            sql.condition(&arm.condition);
            if arm.unordered {
                sql.text(&format!(" LIMIT {MANY}"));
            } else {
                sql.text(&format!(" ORDER BY {}, {} LIMIT {SOME}", arm.time, arm.uid));
            }
            sql.text(&format!(") AS arm_{union}_{index}"));
        }
        sql.text(&format!(
            ") AS all_{union} ORDER BY found_time LIMIT {SOME}) AS some_{union}"
        ));
    }
    sql.text(" ORDER BY number");
    on!(tx, c => bound!(sql.text, sql.binds).fetch_all(&mut *c).await?.iter().map(|row| Ok(Extent {
        found: row.try_get("found")?,
        all: row.try_get("many")?,
        reach: row.try_get("reach")?,
    })).collect())
}

/// The audiences that a caller is in, as the tables of audiences name them.
pub(crate) fn audiences(caller: &Caller) -> Vec<Bind> {
    if caller.admin {
        return vec![Bind::from(visibility::ADMINS)];
    }
    let mut audiences = vec![Bind::from("*"), Bind::Text(format!("user:{}", caller.uid))];
    audiences.extend(caller.teams.iter().map(|team| Bind::Text(format!("team:{}", team.uid))));
    audiences
}

/// A caller who is in more audiences, or teams, than this has too many to read each of them in order: their rows are found at once and
/// sorted if they are few, and else looked for in the order of the list.
pub(crate) const SEVERAL: usize = 16;

#[derive(Default)]
struct Sql {
    text: String,
    binds: Vec<Bind>,
}

impl Sql {
    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn bind(&mut self, bind: Bind) {
        self.binds.push(bind);
        self.text.push_str(&format!("${}", self.binds.len()));
    }

    fn condition(&mut self, condition: &Condition) {
        let mut binds = condition.binds.iter();
        for (index, part) in condition.text.split('?').enumerate() {
            if index > 0
                && let Some(bind) = binds.next()
            {
                self.bind(bind.clone());
            }
            self.text.push_str(part);
        }
    }

    fn arm(&mut self, arm: &Arm, filters: &[Condition], after: (i64, &str), limit: i64) {
        self.text(&format!("FROM {} WHERE ", arm.from));
        self.condition(&arm.condition);
        self.text(&format!(" AND ({}, {}) > (", arm.time, arm.uid));
        self.bind(Bind::Int(after.0));
        self.text(", ");
        self.bind(Bind::from(after.1));
        self.text(")");
        for filter in filters {
            self.text(" AND ");
            self.condition(filter);
        }
        self.text(&format!(" ORDER BY {}, {} LIMIT ", arm.time, arm.uid));
        self.bind(Bind::Int(limit));
    }
}
