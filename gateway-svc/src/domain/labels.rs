//! Labels of entries, gateways and agents.

use std::sync::Arc;

/// A key and its value.
pub(crate) type Label = (Arc<str>, Arc<str>);

/// All labels of something, sorted, each with the registry revision since which it selects; 0 where that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(Box<[(Label, i64)]>);

impl Labels {
    /// Each of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter().map(|(label, _)| label)
    }

    /// Since when this one of them selects.
    pub(crate) fn since(&self, label: &Label) -> Option<i64> {
        let found = self.0.binary_search_by(|(known, _)| known.cmp(label)).ok()?;
        Some(self.0[found].1)
    }

    /// Whether this is one of them.
    pub(crate) fn contains(&self, label: &Label) -> bool {
        self.since(label).is_some()
    }

    /// Since when at least one key: value pair of both selects; `None`: none is in both.
    pub(crate) fn shared_since(&self, other: &Self) -> Option<i64> {
        let both = |(label, since): &(Label, i64)| Some(other.since(label)?.max(*since));
        self.0.iter().filter_map(both).min()
    }
}

impl FromIterator<(Label, i64)> for Labels {
    fn from_iter<I: IntoIterator<Item = (Label, i64)>>(labels: I) -> Self {
        let mut labels: Box<[(Label, i64)]> = labels.into_iter().collect();
        labels.sort_unstable();
        Self(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str, i64)]) -> Labels {
        let label = |&(key, value, since): &(&str, &str, i64)| ((key.into(), value.into()), since);
        pairs.iter().map(label).collect()
    }

    #[test]
    fn a_pair_is_shared_and_not_a_key_or_a_value_alone() {
        let one = labels(&[("team", "core", 0), ("area", "web", 0)]);
        assert_eq!(
            one.shared_since(&labels(&[("x", "y", 0), ("team", "core", 0)])),
            Some(0)
        );
        assert_eq!(
            one.shared_since(&labels(&[("team", "web", 0), ("core", "team", 0)])),
            None
        );
        assert_eq!(one.shared_since(&labels(&[])), None);
    }

    #[test]
    fn they_are_shared_since_both_have_had_the_first() {
        let one = labels(&[("team", "core", 3), ("area", "web", 9), ("kind", "clock", 1)]);
        let both = |since| labels(&[("team", "core", since), ("area", "web", 5)]);
        assert_eq!(
            [2, 4, 12].map(|since| one.shared_since(&both(since))),
            [Some(3), Some(4), Some(9)]
        );
        assert_eq!(both(2).shared_since(&one), Some(3));
    }
}
