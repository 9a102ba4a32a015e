//! Lists of entries: by what they are read, so that a page is found soon.

use std::cmp::Reverse;

use contracts::registry::EntryLifecycle;

use super::{
    Tx,
    entries::seen,
    list::{self, Arm, Bind, Condition, Extent, List, SEVERAL, audiences},
    search::{self, Spelling},
};
use crate::domain::{Caller, visibility};

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

/// A way to read a list: all of its entries, and others, are found by it.
#[derive(Clone, Debug)]
pub(super) struct Way {
    by: By,
    /// What is found is read through in the order of the list. Else all of it is read and sorted.
    ordered: bool,
    /// It finds entries that the caller does not see.
    everybodys: bool,
    arms: Vec<Arm>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// What the caller sees, of one lifecycle or of all.
    Audience,
    /// This label.
    Label(usize),
    /// This word.
    Word(usize),
}

/// The entries that a caller sees; `None`: there are none.
///
/// They are read by the condition that fewest entries fulfil, as estimated from the beginning of the list. The other conditions are
/// looked up for each entry that is found. If many entries fulfil each condition but hardly any fulfils all, many are read for a page: at
/// most as many as fulfil the condition that they are read by.
pub(crate) async fn list(tx: &mut Tx, caller: &Caller, filter: &Filter) -> sqlx::Result<Option<List>> {
    let spellings = search::spellings(tx, &filter.words).await?;
    let mut ways = ways(caller, filter, &spellings);
    // Of what the caller sees, those with a label are a part.
    let last_is_best = match (filter.labels.len(), filter.words.len()) {
        (0, 0) => true,
        (1, 0) => filter.lifecycle == EntryLifecycle::Unspecified,
        _ => false,
    };
    if last_is_best && audiences(caller).len() <= SEVERAL {
        ways.reverse();
    } else {
        let arms: Vec<_> = ways.iter().map(|way| way.arms.as_slice()).collect();
        let extents = list::extents(tx, &arms).await?;
        // Others must not learn from the time it takes what those that they do not see are found by.
        if caller.admin && extents.iter().any(|extent| extent.found == 0) {
            return Ok(None);
        }
        ways = fewest_first(ways, extents);
    }
    let mut ways = ways.into_iter();
    let by = ways.next();
    Ok(by.map(|way| list_by(caller, filter, way, ways.as_slice())))
}

/// All ways to read a list. The first needs no more than what the caller sees, the last is what has the least to do with that.
pub(super) fn ways(caller: &Caller, filter: &Filter, spellings: &[Spelling]) -> Vec<Way> {
    let audiences = audiences(caller);
    let everybody = [Bind::from(visibility::ADMINS)];
    let several = audiences.len() > SEVERAL;
    let merged = |by| Way {
        by,
        ordered: true,
        everybodys: false,
        arms: audiences.chunks(1).map(|one| filter.arm(by, one)).collect(),
    };
    let sought = |by| Way {
        by,
        ordered: true,
        everybodys: !caller.admin,
        arms: vec![filter.arm(by, &everybody)],
    };
    let mut ways = Vec::new();
    // Those of many audiences, each in order, would be too many lists to merge.
    if several {
        let mut arm = filter.arm(By::Audience, &audiences);
        arm.unordered = true;
        ways.push(Way {
            by: By::Audience,
            ordered: false,
            everybodys: false,
            arms: vec![arm],
        });
        ways.push(sought(By::Audience));
    } else {
        ways.push(merged(By::Audience));
    }
    for by in (0..filter.labels.len()).map(By::Label) {
        ways.push(if several { sought(by) } else { merged(by) });
    }
    for (index, spelling) in spellings.iter().enumerate() {
        let arms = match spelling {
            Spelling::Few(words) => words
                .iter()
                .map(|word| word_arm(Condition::new("d.word = ?", [Bind::Bytes(word.clone())])))
                .collect(),
            Spelling::Many => vec![Arm {
                unordered: true,
                ..word_arm(Condition::new(
                    "d.word >= ? AND d.word < ?",
                    search::range(&filter.words[index]),
                ))
            }],
        };
        ways.push(Way {
            by: By::Word(index),
            ordered: matches!(spelling, Spelling::Few(_)),
            everybodys: !caller.admin,
            arms,
        });
    }
    ways
}

/// The ways in the order of how many entries they find, or how few at the beginning of the list; first the one to read the list by.
fn fewest_first(ways: Vec<Way>, extents: Vec<Extent>) -> Vec<Way> {
    let mut candidates: Vec<_> = ways.into_iter().zip(extents).collect();
    candidates.sort_by_key(|(way, extent)| {
        // To sort many takes longer than to look through them in order.
        let sorts_many = !way.ordered && !extent.is_all();
        (sorts_many, extent.found, Reverse(extent.reach), way.by == By::Audience)
    });
    candidates.into_iter().map(|(way, _)| way).collect()
}

impl Filter {
    /// What one way finds for these audiences.
    fn arm(&self, by: By, audiences: &[Bind]) -> Arm {
        let condition = Condition::any_of("d.audience IN ({})", audiences.to_vec());
        match by {
            By::Label(index) => {
                let (key, value) = &self.labels[index];
                let label = [Bind::from(key.as_str()), Bind::from(value.as_str())];
                found_in(
                    "entry_labels d",
                    condition.and(" AND d.label_key = ? AND d.label_value = ?", label),
                )
            }
            By::Audience | By::Word(_) if self.lifecycle == EntryLifecycle::Unspecified => {
                found_in("entry_audiences d", condition)
            }
            By::Audience | By::Word(_) => found_in(
                "entry_audiences d",
                condition.and(" AND d.lifecycle = ?", [Bind::Int(self.lifecycle as i64)]),
            ),
        }
    }
}

fn word_arm(condition: Condition) -> Arm {
    found_in("entry_words d", condition)
}

const fn found_in(from: &'static str, condition: Condition) -> Arm {
    Arm {
        from,
        time: "d.create_time",
        uid: "d.entry_uid",
        condition,
        unordered: false,
    }
}

/// The entries of a filter that a caller sees, read in one way. For each entry that it finds, what else is asked for is looked up, in the
/// order of the other ways: what fewest have comes first.
pub(super) fn list_by(caller: &Caller, filter: &Filter, way: Way, others: &[Way]) -> List {
    // Each is a separate look-up for an entry that is found: no engine makes a join of all entries out of them.
    let mut filters = Vec::new();
    for (index, word) in filter.words.iter().enumerate() {
        let has = Condition::new(
            "(SELECT 1 FROM entry_words w WHERE w.entry_uid = d.entry_uid AND w.word >= ? AND w.word < ? LIMIT 1) IS NOT NULL",
            search::range(word),
        );
        filters.push((By::Word(index), has));
    }
    for (index, (key, value)) in filter.labels.iter().enumerate() {
        let carries = Condition::new(
            "(SELECT 1 FROM entry_labels l WHERE l.entry_uid = d.entry_uid AND l.audience = ? \
             AND l.label_key = ? AND l.label_value = ?) IS NOT NULL",
            [visibility::ADMINS, key, value].map(Bind::from),
        );
        filters.push((By::Label(index), carries));
    }
    if filter.lifecycle != EntryLifecycle::Unspecified {
        let is = Condition::new(
            "(SELECT e.lifecycle FROM entries e WHERE e.uid = d.entry_uid) = ?",
            [Bind::Int(filter.lifecycle as i64)],
        );
        filters.push((By::Audience, is));
    }
    filters.retain(|(by, _)| *by != way.by);
    if way.everybodys {
        filters.push((By::Audience, Condition::any_of(seen!("d.entry_uid"), audiences(caller))));
    }
    filters.sort_by_key(|(by, _)| others.iter().position(|other| other.by == *by));
    List {
        table: "entries",
        extra: "NULL",
        arms: way.arms,
        filters: filters.into_iter().map(|(_, condition)| condition).collect(),
    }
}
