//! What differs between two destinations.

use contracts::credential::DestinationPart as Kind;

use super::show::{Part, Text};

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Number of a `DestinationPart`.
    pub kind: i32,
    /// As [`Part::name`].
    pub name: String,
    /// `None`: it was not there.
    pub before: Option<Text>,
    /// `None`: it is not there any more.
    pub after: Option<Text>,
}

/// Differences between what was agreed to and what is now, in the order in which they are told. Cost is linear.
pub fn changes(before: &[Part], after: &[Part]) -> Vec<Change> {
    let mut changes = Vec::new();
    for kind in order() {
        let of = |parts: &[Part]| -> Vec<Part> { parts.iter().filter(|part| belongs(part, kind)).cloned().collect() };
        let (before, after) = (of(before), of(after));
        if kind == Kind::Argument {
            arguments(&before, &after, &mut changes);
        } else {
            named(&before, &after, &mut changes);
        }
    }
    changes
}

fn order() -> [Kind; 12] {
    [
        Kind::Origin,
        Kind::Command,
        Kind::Argument,
        Kind::Environment,
        Kind::File,
        Kind::Template,
        Kind::FieldValue,
        Kind::StoredSecret,
        Kind::InstallationValue,
        Kind::Transport,
        Kind::ConfirmNewVersions,
        Kind::Rest,
    ]
}

/// The argument that names a package is one of the arguments.
fn belongs(part: &Part, kind: Kind) -> bool {
    part.kind == i32::from(kind) || (kind == Kind::Argument && part.kind == i32::from(Kind::Package))
}

/// Arguments have an order: what is the same before and behind is left out.
fn arguments(before: &[Part], after: &[Part], changes: &mut Vec<Change>) {
    let same = |(a, b): &(&Part, &Part)| a.text.sha256 == b.text.sha256;
    let begin = before.iter().zip(after).take_while(same).count();
    let (before, after) = (&before[begin..], &after[begin..]);
    let end = before.iter().rev().zip(after.iter().rev()).take_while(same).count();
    let (before, after) = (&before[..before.len() - end], &after[..after.len() - end]);
    for index in 0..before.len().max(after.len()) {
        let (before, after) = (before.get(index), after.get(index));
        if before.map(|part| &part.text) != after.map(|part| &part.text) {
            changes.extend(change(before, after));
        }
    }
}

/// Parts of one kind, each with a name that no other has, in any order.
fn named(before: &[Part], after: &[Part], changes: &mut Vec<Change>) {
    let mut sides: std::collections::BTreeMap<&str, (Option<&Part>, Option<&Part>)> = Default::default();
    for part in before {
        sides.entry(&part.name).or_default().0 = Some(part);
    }
    for part in after {
        sides.entry(&part.name).or_default().1 = Some(part);
    }
    for (before, after) in sides.into_values() {
        if before.map(|part| &part.text) != after.map(|part| &part.text) {
            changes.extend(change(before, after));
        }
    }
}

fn change(before: Option<&Part>, after: Option<&Part>) -> Option<Change> {
    let part = after.or(before)?;
    Some(Change {
        kind: part.kind,
        name: part.name.clone(),
        before: before.map(|part| part.text.clone()),
        after: after.map(|part| part.text.clone()),
    })
}
