//! URIs under which clients know what several servers have.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

use crate::route::Source;

/// What a URI gets that an older source has, too; then the slug of its entry follows, and of what is pinned, what tells it from others.
const DISTINGUISHED: &str = "#chandlery:";
/// Characters of the hash of what a source is pinned to.
const OF_PINNED: usize = 8;

/// What is appended to the URIs of a source that an older one has. `entry` is the slug of its entry.
pub(super) fn tag(source: &Source, entry: &str) -> Box<str> {
    let mut tag = format!("{DISTINGUISHED}{entry}");
    if let Some(pinned) = &source.pinned {
        let hash = BASE32_NOPAD.encode(&Sha256::digest(&*pinned.installation));
        tag.push('.');
        tag.push_str(&hash.to_ascii_lowercase()[..OF_PINNED]);
    }
    tag.into()
}

/// Whether a URI may be one with a tag.
pub(super) fn may_be_tagged(uri: &str) -> bool {
    uri.contains(DISTINGUISHED)
}

/// The URIs of sources as clients know them, from the oldest source to the newest: each has a tag, and URIs. They stay what they are, since
/// servers and clients read them; but one that an older source has gets the tag, and so does one with the tag of an older source, by which that is found.
pub(super) fn exposed<'a>(sources: impl IntoIterator<Item = (&'a str, Vec<&'a Arc<str>>)>) -> Vec<Arc<str>> {
    // Whose each is, and what that source calls it.
    let mut taken: HashMap<Arc<str>, (usize, &Arc<str>)> = HashMap::new();
    let mut older: HashSet<&str> = HashSet::new();
    let mut all = Vec::new();
    for (index, (tag, uris)) in sources.into_iter().enumerate() {
        for own in uris {
            let mut exposed = Arc::clone(own);
            let is_older = |exposed: &str| exposed.rfind('#').is_some_and(|at| older.contains(&exposed[at..]));
            while is_older(&exposed) || taken.get(&exposed).is_some_and(|known| *known != (index, own)) {
                exposed = format!("{exposed}{tag}").into();
            }
            taken.insert(Arc::clone(&exposed), (index, own));
            all.push(exposed);
        }
        older.insert(tag);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(sources: &[(&str, &[&str])]) -> Vec<String> {
        let owned: Vec<(&str, Vec<Arc<str>>)> = sources
            .iter()
            .map(|(tag, uris)| (*tag, uris.iter().map(|&uri| uri.into()).collect()))
            .collect();
        let all = exposed(owned.iter().map(|(tag, uris)| (*tag, uris.iter().collect())));
        all.iter().map(ToString::to_string).collect()
    }

    /// Also where a server's own URIs look like those that another's get.
    #[test]
    fn the_oldest_keeps_its_uri_and_none_changes_because_another_joins() {
        let sources: [(&str, &[&str]); 4] = [
            ("#a", &["u:1", "u:2", "u:1"]),
            ("#b", &["u:1#b", "u:1", "u:3"]),
            ("#c", &["u:1", "u:1#b", "u:1#c", "u:4"]),
            ("#d", &["u:4", "u:1#b#b", "u:5"]),
        ];
        let all = named(&sources);
        assert_eq!(
            all,
            [
                "u:1",
                "u:2",
                "u:1",
                "u:1#b",
                "u:1#b#b",
                "u:3",
                "u:1#c",
                "u:1#b#c",
                "u:1#c#c",
                "u:4",
                "u:4#d",
                "u:1#b#b#d",
                "u:5"
            ]
        );
        for joined in 1..sources.len() {
            let before = named(&sources[..joined]);
            assert_eq!(before, all[..before.len()]);
        }
    }

    /// It may have had the tag, and clients may still say so.
    #[test]
    fn what_an_older_source_is_found_by_is_its_own() {
        let left: [(&str, &[&str]); 2] = [("#b", &["u:1"]), ("#c", &["u:1#b", "u:2#b", "u:3#d"])];
        assert_eq!(named(&left), ["u:1", "u:1#b#c", "u:2#b#c", "u:3#d"]);
    }
}
