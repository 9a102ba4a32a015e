//! Who set the values of a personal installation: its owner's secrets are vended only with values that the owner has agreed to.

use contracts::registry::{Installation, installation::Scope};

use super::Values;
use crate::domain::{Caller, entry::EntrySpec};

/// `Installation.foreign_values_generation` after `caller` has given these values, or none, and the installation runs `next`.
/// What somebody else leaves as it was does not become theirs, and what the owner sends becomes the owner's, also where it is the same.
pub(crate) fn values_author(
    caller: &Caller,
    installation: &Installation,
    next: &EntrySpec,
    given: Option<&Values>,
) -> i64 {
    let present = installation.foreign_values_generation;
    let (Some(Scope::User(owner)), Some(given)) = (&installation.scope, given) else {
        return present;
    };
    if *owner == caller.name() {
        return 0;
    }
    let kept = installation.values.iter().filter(|(key, _)| next.field(key).is_some());
    let kept: Values = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    if kept == *given {
        present
    } else {
        // The one that the change makes.
        installation.generation + 1
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::{Entry, InstallField};

    use super::*;

    fn caller(uid: &str) -> Caller {
        Caller {
            uid: uid.to_owned(),
            admin: uid == "admin",
            machine: false,
            teams: Vec::new(),
        }
    }

    #[test]
    fn values_are_the_word_of_who_gave_them_last() {
        let spec = EntrySpec::from_stored(Entry {
            install_fields: vec![InstallField {
                key: "a".to_owned(),
                ..InstallField::default()
            }],
            ..Entry::default()
        });
        let mut installation = Installation {
            scope: Some(Scope::User("users/alice".to_owned())),
            values: [("a", "1"), ("gone", "x")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            generation: 4,
            ..Installation::default()
        };
        let values = |value: &str| Values::from([("a".to_owned(), value.to_owned())]);
        let given = |who: &str, installation: &Installation, values: Option<Values>| {
            values_author(&caller(who), installation, &spec, values.as_ref())
        };
        assert_eq!(given("alice", &installation, Some(values("2"))), 0);
        assert_eq!(
            given("admin", &installation, Some(values("1"))),
            0,
            "nothing that still counts changed"
        );
        assert_eq!(given("admin", &installation, None), 0);
        assert_eq!(given("admin", &installation, Some(values("2"))), 5);
        assert_eq!(
            given("admin", &installation, Some(Values::new())),
            5,
            "to take one away is a change"
        );
        installation.foreign_values_generation = 3;
        assert_eq!(given("admin", &installation, Some(values("1"))), 3);
        assert_eq!(
            given("alice", &installation, None),
            3,
            "a word on nothing is none on the values"
        );
        assert_eq!(given("alice", &installation, Some(values("1"))), 0);
        installation.scope = Some(Scope::Team("teams/ops".to_owned()));
        installation.foreign_values_generation = 0;
        assert_eq!(given("admin", &installation, Some(values("2"))), 0);
    }
}
