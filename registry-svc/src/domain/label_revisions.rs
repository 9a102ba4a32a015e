//! Since when labels select: by that, what automatic mode adds to a gateway is older or newer than the rest.

use std::collections::HashMap;

/// The revisions of labels that were set `before` and are replaced at `revision`: a label that keeps its value keeps its own, also having none.
pub(crate) fn follow(
    before: &HashMap<String, String>,
    since: &HashMap<String, i64>,
    now: &HashMap<String, String>,
    revision: i64,
) -> HashMap<String, i64> {
    let of = |(key, value): (&String, &String)| match before.get(key) == Some(value) {
        true => since.get(key).map(|&since| (key.clone(), since)),
        false => Some((key.clone(), revision)),
    };
    now.iter().filter_map(of).collect()
}

/// All labels begin to select at `revision`.
pub(crate) fn begin(labels: &HashMap<String, String>, revision: i64) -> HashMap<String, i64> {
    labels.keys().map(|key| (key.clone(), revision)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map<V: Clone + From<T>, T: Copy>(pairs: &[(&str, T)]) -> HashMap<String, V> {
        pairs
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.into()))
            .collect()
    }

    #[test]
    fn a_label_that_keeps_its_value_is_as_old_as_before() {
        let before: HashMap<String, String> = map(&[("kept", "a"), ("unknown", "a"), ("changed", "a"), ("gone", "a")]);
        let since = map(&[("kept", 3), ("changed", 3), ("gone", 3)]);
        let now = map(&[("kept", "a"), ("unknown", "a"), ("changed", "b"), ("new", "a")]);
        let expected: HashMap<String, i64> = map(&[("kept", 3), ("changed", 7), ("new", 7)]);
        assert_eq!(follow(&before, &since, &now, 7), expected);
        assert_eq!(
            begin(&since.keys().map(|key| (key.clone(), String::new())).collect(), 9).len(),
            3
        );
    }
}
