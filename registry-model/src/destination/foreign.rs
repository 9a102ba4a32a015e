//! Values of a personal installation that somebody other than its owner has set.

use contracts::{
    credential::DestinationPart,
    registry::{Installation, installation::Scope},
};

use super::{
    digest::Digest,
    show::{self, Part},
};

/// Identifies the values of an installation that somebody other than its owner has set. It never recurs: setting the
/// same values again gives another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ValuesByOthers(Box<str>);

impl ValuesByOthers {
    /// `None` if the owner has set the values, or if the installation belongs to a team.
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

/// The values of an installation, bounded, to show which have changed.
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
