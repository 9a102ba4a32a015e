//! Compares two destinations part by part.

use contracts::credential::DestinationPart as Kind;

use super::show::{Part, Text};

/// A part that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The number of a `DestinationPart`.
    pub kind: i32,
    /// The name of the part; see [`Part::name`].
    pub name: String,
    /// The part in the first destination; `None` if it was added.
    pub before: Option<Text>,
    /// The part in the second destination; `None` if it was removed.
    pub after: Option<Text>,
}

/// The differences between the confirmed and the present destination, in the order in which they are shown. Takes
/// linear time.
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

fn order() -> [Kind; 13] {
    [
        Kind::Origin,
        Kind::AuthorizationServer,
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

/// Shows the argument that names a package among the other arguments.
fn belongs(part: &Part, kind: Kind) -> bool {
    part.kind == i32::from(kind) || (kind == Kind::Argument && part.kind == i32::from(Kind::Package))
}

/// Compares arguments, which are ordered: the common beginning and end are skipped.
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

/// Compares parts of one kind, each of which has a unique name.
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
