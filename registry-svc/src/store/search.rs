//! What entries are found by: their audience, labels and words. Prefixes of words are ranges of an index, alike on both engines.

use std::collections::BTreeSet;

use contracts::registry::Entry;
use sqlx::{QueryBuilder, Row as _};

use super::{
    Tx, execute,
    list::{Bind, SEVERAL},
    on, push_list,
};
use crate::domain::{entry::words, time::micros, visibility};

/// Rows written by one statement.
const AT_ONCE: usize = 500;

/// The words that begin with this one: from the first, up to but without the second.
pub(super) fn range(word: &str) -> [Bind; 2] {
    bounds(word).map(Bind::Bytes)
}

fn bounds(word: &str) -> [Vec<u8>; 2] {
    // No text has the last byte.
    let end = [word.as_bytes(), &[0xff]].concat();
    [word.as_bytes().to_vec(), end]
}

/// The words of entries that begin with a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// All of them; the word itself where there is none.
    Few(Vec<Vec<u8>>),
    /// They are too many to read the entries of each in order.
    Many,
}

/// The words that begin with each of these. However many entries have them, each is looked up once.
pub(super) async fn spellings(tx: &mut Tx, words: &[String]) -> sqlx::Result<Vec<Spelling>> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    on!(tx, c => {
        let mut query = QueryBuilder::new("WITH RECURSIVE spelt (number, word, behind, position) AS (");
        for (number, word) in words.iter().enumerate() {
            let [from, behind] = bounds(word);
            query.push(if number == 0 { "" } else { " UNION ALL " });
            query.push(format!("SELECT CAST({number} AS BIGINT), (SELECT w.word FROM entry_words w WHERE w.word >= "));
            query.push_bind(from).push(" AND w.word < ").push_bind(behind.clone()).push(" ORDER BY w.word LIMIT 1), ");
            query.push_bind(behind).push(", 0");
        }
        query.push(format!(
            " UNION ALL SELECT s.number, (SELECT w.word FROM entry_words w WHERE w.word > s.word AND w.word < s.behind \
             ORDER BY w.word LIMIT 1), s.behind, s.position + 1 FROM spelt s WHERE s.word IS NOT NULL AND s.position < {SEVERAL}) \
             SELECT number, word FROM spelt WHERE word IS NOT NULL ORDER BY number, position"
        ));
        let mut found = vec![Vec::new(); words.len()];
        for row in query.build().fetch_all(&mut *c).await? {
            let number: i64 = row.try_get("number")?;
            if let Some(words) = usize::try_from(number).ok().and_then(|number| found.get_mut(number)) {
                words.push(row.try_get("word")?);
            }
        }
        let spelling = |(mut found, word): (Vec<Vec<u8>>, &String)| {
            // A word that no entry has is searched for as it is: the time that this takes must not show which words there are.
            if found.is_empty() {
                found.push(word.as_bytes().to_vec());
            }
            if found.len() > SEVERAL { Spelling::Many } else { Spelling::Few(found) }
        };
        Ok(found.into_iter().zip(words).map(spelling).collect())
    })
}

/// Makes an entry found by nothing.
pub(super) async fn clear(tx: &mut Tx, entry_uid: &str) -> sqlx::Result<()> {
    for statement in [
        FORGET_AUDIENCES,
        FORGET_LABELS,
        "DELETE FROM entry_words WHERE entry_uid = $1",
    ] {
        execute!(tx, statement, [entry_uid])?;
    }
    Ok(())
}

const FORGET_AUDIENCES: &str = "DELETE FROM entry_audiences WHERE entry_uid = $1";
const FORGET_LABELS: &str = "DELETE FROM entry_labels WHERE entry_uid = $1";

/// Makes an entry found by what it is, which was found by what it was `before`. Writes only what is different.
pub(super) async fn update(
    tx: &mut Tx,
    before: Option<&Entry>,
    entry: &Entry,
    team_uids: &[String],
) -> sqlx::Result<()> {
    let time = entry.create_time.as_ref().map(micros).unwrap_or_default();
    let audiences: BTreeSet<String> = visibility::audiences(entry.visibility.as_ref(), team_uids, &entry.creator)
        .into_iter()
        .collect();
    let is_seen_as_before = before.is_some_and(|before| before.visibility == entry.visibility);
    if !is_seen_as_before {
        if before.is_some() {
            execute!(tx, FORGET_AUDIENCES, [&entry.uid])?;
        }
        on!(tx, c => {
            let mut insert =
                QueryBuilder::new("INSERT INTO entry_audiences (audience, lifecycle, create_time, entry_uid) ");
            insert.push_values(&audiences, |mut row, audience| {
                row.push_bind(audience).push_bind(i64::from(entry.lifecycle)).push_bind(time).push_bind(&entry.uid);
            });
            insert.build().execute(&mut *c).await.map(drop)
        })?;
    }
    // Of one that is seen as before, the labels that stay need no writing.
    let stays = |label: (&String, &String)| {
        is_seen_as_before && before.is_some_and(|before| before.labels.get(label.0) == Some(label.1))
    };
    if let Some(before) = before {
        if is_seen_as_before {
            let gone = before
                .labels
                .iter()
                .filter(|(key, value)| entry.labels.get(*key) != Some(*value));
            for (key, value) in gone {
                const FORGET: &str =
                    "DELETE FROM entry_labels WHERE entry_uid = $1 AND label_key = $2 AND label_value = $3";
                execute!(tx, FORGET, [&entry.uid, key, value])?;
            }
        } else {
            execute!(tx, FORGET_LABELS, [&entry.uid])?;
        }
    }
    let labels: Vec<_> = audiences
        .iter()
        .flat_map(|audience| entry.labels.iter().map(move |label| (audience, label)))
        .filter(|(_, label)| !stays(*label))
        .collect();
    for some in labels.chunks(AT_ONCE) {
        on!(tx, c => {
            let mut insert = QueryBuilder::new(
                "INSERT INTO entry_labels (audience, label_key, label_value, create_time, entry_uid) ",
            );
            insert.push_values(some, |mut row, (audience, (key, value))| {
                row.push_bind(audience).push_bind(key).push_bind(value).push_bind(time).push_bind(&entry.uid);
            });
            insert.build().execute(&mut *c).await.map(drop)
        })?;
    }
    let (old, new) = (before.map(words).unwrap_or_default(), words(entry));
    let gone: Vec<&String> = old.difference(&new).collect();
    for some in gone.chunks(AT_ONCE) {
        on!(tx, c => {
            let mut delete = QueryBuilder::new("DELETE FROM entry_words WHERE entry_uid = ");
            delete.push_bind(&entry.uid).push(" AND word IN ");
            push_list!(delete, some.iter().map(|word| word.as_bytes()));
            delete.build().execute(&mut *c).await.map(drop)
        })?;
    }
    let added: Vec<&String> = new.difference(&old).collect();
    for some in added.chunks(AT_ONCE) {
        on!(tx, c => {
            let mut insert = QueryBuilder::new("INSERT INTO entry_words (word, create_time, entry_uid) ");
            insert.push_values(some, |mut row, word| {
                row.push_bind(word.as_bytes()).push_bind(time).push_bind(&entry.uid);
            });
            insert.build().execute(&mut *c).await.map(drop)
        })?;
    }
    Ok(())
}

/// Makes an entry found by another lifecycle.
pub(super) async fn set_lifecycle(tx: &mut Tx, entry: &Entry) -> sqlx::Result<()> {
    const SET: &str = "UPDATE entry_audiences SET lifecycle = $1 WHERE entry_uid = $2";
    execute!(tx, SET, [i64::from(entry.lifecycle), &entry.uid]).map(drop)
}

#[cfg(test)]
mod tests {
    use contracts::registry::{
        AuthorAudience, EntryLifecycle, OrganizationAudience, TeamsAudience, Visibility, visibility::Audience,
    };

    use super::*;
    use crate::{
        domain::{Actor, Caller, caller::CallerTeam, time::timestamp},
        store::{
            document::decode,
            entries,
            entry_list::{self, Filter},
            testing::on_each_engine,
        },
    };

    const ENTRIES: usize = 40;
    const WORDS: [&str; 5] = ["tracker", "track", "mail", "search", "server"];

    /// Numbers as if by chance, the same in each run.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(self.0 >> 33).unwrap() % end
        }

        fn of<'a>(&mut self, some: &[&'a str]) -> &'a str {
            some[self.below(some.len())]
        }
    }

    /// An entry with other texts, labels, audience and lifecycle, and the uids of the teams that it is for.
    fn changed(entry: &Entry, chance: &mut Chance) -> (Entry, Vec<String>) {
        let mut entry = entry.clone();
        let mut teams = Vec::new();
        if chance.below(2) == 0 {
            entry.description = format!("{} {}", chance.of(&WORDS), chance.of(&WORDS));
        }
        if chance.below(2) == 0 {
            entry.labels = [("env", chance.of(&["prod", "test"])), ("area", chance.of(&["a", "b"]))]
                .into_iter()
                .take(chance.below(3))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
        }
        let audience = match chance.below(3) {
            0 => Audience::Organization(OrganizationAudience {}),
            1 => Audience::Author(AuthorAudience {}),
            _ => {
                teams = vec![chance.of(&["ops", "dev"]).to_owned()];
                Audience::Teams(TeamsAudience {
                    teams: teams.iter().map(|team| format!("teams/{team}")).collect(),
                })
            }
        };
        entry.visibility = Some(Visibility {
            audience: Some(audience),
        });
        (entry, teams)
    }

    async fn fill(tx: &mut Tx) -> Vec<Entry> {
        let mut chance = Chance(7);
        let mut kept = Vec::new();
        for index in 0..ENTRIES {
            let uid = format!("e{index:02}");
            let new = Entry {
                name: format!("entries/{uid}"),
                uid,
                creator: format!("users/{}", chance.of(&["ann", "bob"])),
                create_time: Some(timestamp(i64::try_from(index / 2).unwrap())),
                lifecycle: EntryLifecycle::Draft.into(),
                ..Entry::default()
            };
            let (mut entry, teams) = changed(&new, &mut chance);
            entries::put(tx, &mut entry).await.unwrap();
            entries::index(tx, None, &entry, &teams).await.unwrap();
            for _ in 0..chance.below(4) {
                let before = entry;
                let teams;
                (entry, teams) = changed(&before, &mut chance);
                entries::put(tx, &mut entry).await.unwrap();
                entries::index(tx, Some(&before), &entry, &teams).await.unwrap();
            }
            if chance.below(2) == 0 {
                entry.set_lifecycle(EntryLifecycle::Approved);
                entries::put(tx, &mut entry).await.unwrap();
                entries::index_lifecycle(tx, &entry).await.unwrap();
            }
            if chance.below(6) == 0 {
                entry.delete_time = Some(timestamp(99));
                entries::put(tx, &mut entry).await.unwrap();
                entries::index(tx, None, &entry, &[]).await.unwrap();
            } else {
                kept.push(entry);
            }
        }
        kept
    }

    fn filters() -> Vec<Filter> {
        let mut filters = Vec::new();
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        for labels in [
            vec![],
            vec![label("env", "prod")],
            vec![label("area", "a"), label("env", "test")],
        ] {
            for lifecycle in [
                EntryLifecycle::Unspecified,
                EntryLifecycle::Approved,
                EntryLifecycle::Draft,
            ] {
                for some in [
                    vec![],
                    vec!["tr"],
                    vec!["track", "tracker"],
                    vec!["mail", "s"],
                    vec!["e1"],
                    vec!["none"],
                ] {
                    filters.push(Filter {
                        labels: labels.clone(),
                        lifecycle,
                        words: some.into_iter().map(str::to_owned).collect(),
                    });
                }
            }
        }
        filters
    }

    fn fulfils(entry: &Entry, filter: &Filter) -> bool {
        let all = words(entry);
        filter
            .labels
            .iter()
            .all(|(key, value)| entry.labels.get(key) == Some(value))
            && [EntryLifecycle::Unspecified, entry.lifecycle()].contains(&filter.lifecycle)
            && filter
                .words
                .iter()
                .all(|begin| all.iter().any(|word| word.starts_with(begin.as_str())))
    }

    #[tokio::test]
    async fn a_list_is_the_same_whatever_it_is_read_by() {
        on_each_engine(async |opened| {
            let mut tx = opened.db.write(Actor::Registry, || 1).await.unwrap();
            let kept = fill(&mut tx).await;
            let caller = |uid: &str, admin, teams: &[&str]| Caller {
                uid: uid.to_owned(),
                admin,
                machine: false,
                teams: teams
                    .iter()
                    .map(|&team| CallerTeam {
                        uid: team.to_owned(),
                        slug: team.to_owned(),
                        members_manage_installations: false,
                    })
                    .collect(),
            };
            let callers = [
                caller("root", true, &[]),
                caller("ann", false, &["ops"]),
                caller("eve", false, &[]),
                caller(
                    "joe",
                    false,
                    &[
                        "dev", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9", "u1", "u2", "u3", "u4", "u5", "u6",
                    ],
                ),
            ];
            let mut found_some = 0;
            for (caller, filter) in callers
                .iter()
                .flat_map(|caller| filters().into_iter().map(move |one| (caller, one)))
            {
                let expected: Vec<&str> = kept
                    .iter()
                    .filter(|entry| caller.sees(entry.visibility.as_ref(), &entry.creator) && fulfils(entry, &filter))
                    .map(|entry| entry.uid.as_str())
                    .collect();
                found_some += usize::from(!expected.is_empty());
                let spellings = spellings(&mut tx, &filter.words).await.unwrap();
                let many = vec![Spelling::Many; spellings.len()];
                let mut lists: Vec<_> = [spellings, many]
                    .iter()
                    .flat_map(|spellings| entry_list::ways(caller, &filter, spellings))
                    .map(|way| entry_list::list_by(caller, &filter, way, &[]))
                    .filter(|list| !list.arms.is_empty())
                    .collect();
                match entry_list::list(&mut tx, caller, &filter).await.unwrap() {
                    Some(list) => lists.push(list),
                    None => assert!(expected.is_empty(), "{filter:?} of {}", caller.uid),
                }
                for list in lists {
                    let (mut found, mut after) = (Vec::new(), (0, String::new()));
                    loop {
                        let page = list.page(&mut tx, (after.0, &after.1), 7).await.unwrap();
                        let Some(last) = page.last() else { break };
                        after = last.position.clone();
                        found.extend(page.iter().map(|one| decode::<Entry>(&one.document).unwrap().uid));
                    }
                    assert_eq!(found, expected, "{filter:?} of {}: {list:?}", caller.uid);
                }
            }
            assert!(found_some > 50, "{found_some}");
        })
        .await;
    }
}
