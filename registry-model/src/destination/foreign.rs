//! Values of a personal installation that somebody else than its owner has set.

use contracts::{
    credential::DestinationPart,
    registry::{Installation, installation::Scope},
};

use super::{
    digest::Digest,
    show::{self, Part},
};

/// Stands for the values of an installation that somebody else than its owner has set. It never comes again: to set the values of an
/// earlier time is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Foreign(Box<str>);

impl Foreign {
    /// `None` where the values are the owner's, or a team's.
    pub fn of(installation: &Installation) -> Option<Self> {
        let personal = matches!(installation.scope, Some(Scope::User(_)));
        let generation = installation.foreign_values_generation;
        if !personal || generation == 0 {
            return None;
        }
        let values = sorted(installation);
        let mut digest = Digest::new("chandlery destination: values, version 1");
        digest.number(values.len() as u64);
        for (key, value) in values {
            digest.text(key);
            digest.text(value);
        }
        Some(Self(format!("{generation}:{}", digest.hex()).into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The values of an installation, to show which have changed; bounded.
pub fn values(installation: &Installation) -> Vec<Part> {
    let values = sorted(installation).into_iter();
    let parts: Vec<_> = values
        .map(|(key, value)| super::parts::Part::new(DestinationPart::InstallationValue, key, value))
        .collect();
    show::outline(&parts)
}

fn sorted(installation: &Installation) -> Vec<(&String, &String)> {
    let mut values: Vec<_> = installation.values.iter().collect();
    values.sort();
    values
}
