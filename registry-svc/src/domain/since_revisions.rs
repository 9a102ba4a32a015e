//! Since when an entry has each of its tools: by that, a tool is older or newer than one of the same name.
//!
//! Of a sorted set, the registry revision of each; a single one where it is the same for all, and none where all are 0, from before this was recorded.

use contracts::registry::FeatureRef;

/// The revisions of what is there `now`, from those of what was there `before`: what is new has come at `revision`.
pub(crate) fn follow(before: &[FeatureRef], since: &[i64], now: &[FeatureRef], revision: i64) -> Vec<i64> {
    let of = |feature: &FeatureRef| {
        let known = before.binary_search_by(|known| known.name.cmp(&feature.name));
        known.map_or(revision, |index| match since {
            [same] => *same,
            each => each.get(index).copied().unwrap_or_default(),
        })
    };
    let mut followed: Vec<i64> = now.iter().map(of).collect();
    if let Some(&first) = followed.first()
        && followed.iter().all(|&one| one == first)
    {
        followed.truncate(usize::from(first != 0));
    }
    followed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(names: &[&str]) -> Vec<FeatureRef> {
        let named = |name: &&str| FeatureRef {
            name: (*name).to_owned(),
            ..FeatureRef::default()
        };
        names.iter().map(named).collect()
    }

    #[test]
    fn what_stays_is_as_old_as_before() {
        let ab = features(&["a", "b"]);
        let abc = features(&["a", "b", "c"]);
        assert_eq!(follow(&[], &[], &ab, 3), [3], "all are new");
        assert_eq!(follow(&ab, &[3], &abc, 7), [3, 3, 7]);
        assert_eq!(follow(&abc, &[3, 3, 7], &features(&["a", "c"]), 8), [3, 7]);
        assert_eq!(follow(&abc, &[3, 3, 7], &features(&["c"]), 8), [7]);
        assert_eq!(follow(&abc, &[3, 3, 7], &features(&["b", "d"]), 8), [3, 8]);
        assert_eq!(
            follow(&features(&["a", "c"]), &[3, 7], &abc, 9),
            [3, 9, 7],
            "it was gone"
        );
        assert_eq!(follow(&ab, &[3], &ab, 9), [3], "other definitions");
        assert!(follow(&ab, &[3], &[], 9).is_empty());
    }

    /// Names do not change at the upgrade.
    #[test]
    fn what_was_there_before_this_was_recorded_is_the_oldest() {
        let ab = features(&["a", "b"]);
        assert_eq!(follow(&features(&["b"]), &[], &ab, 7), [7, 0]);
        assert!(follow(&ab, &[], &features(&["b"]), 7).is_empty());
        assert!(follow(&ab, &[7, 0], &features(&["b"]), 8).is_empty());
    }
}
