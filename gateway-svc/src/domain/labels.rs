//! Labels of entries, gateways and agents.

use std::sync::Arc;

/// A key and its value.
pub(crate) type Label = (Arc<str>, Arc<str>);

/// All labels of something, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(Box<[Label]>);

impl Labels {
    /// Each of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter()
    }

    /// Whether this is one of them.
    pub(crate) fn contains(&self, label: &Label) -> bool {
        self.0.binary_search(label).is_ok()
    }

    /// Whether at least one key: value pair is in both.
    pub(crate) fn share(&self, other: &Self) -> bool {
        self.iter().any(|label| other.contains(label))
    }
}

impl FromIterator<Label> for Labels {
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        let mut labels: Box<[Label]> = labels.into_iter().collect();
        labels.sort_unstable();
        Self(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_shared_and_not_a_key_or_a_value_alone() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
        };
        let one = labels(&[("team", "core"), ("area", "web")]);
        assert!(one.share(&labels(&[("x", "y"), ("team", "core")])));
        assert!(!one.share(&labels(&[("team", "web"), ("core", "team")])));
        assert!(!one.share(&labels(&[])));
    }
}
