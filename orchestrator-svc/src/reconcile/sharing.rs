//! Which installations use the server that those of their entry share.
//!
//! An entry may have very many: of each, only the two uids are kept, and a change of one looks at no other.

use std::{collections::HashMap, sync::Arc};

/// The installations that share a server.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// The uid of the entry, by that of the installation.
    installations: HashMap<String, Arc<str>>,
    /// How many installations of an entry share its server; none: it is not here.
    entries: HashMap<Arc<str>, usize>,
}

impl Sharing {
    /// Notes that an installation shares the server of `entry`, or none. Returns the entry whose server came into use by that, or is no longer
    /// in use. An installation never belongs to another entry.
    pub(super) fn set(&mut self, installation: &str, entry: Option<&str>) -> Option<String> {
        match entry {
            Some(entry) => self.add(installation, entry),
            None => self.remove(installation),
        }
    }

    fn add(&mut self, installation: &str, entry: &str) -> Option<String> {
        if self.installations.contains_key(installation) {
            return None;
        }
        let known = self.entries.get_key_value(entry);
        let key = known.map_or_else(|| Arc::from(entry), |(known, _)| Arc::clone(known));
        self.installations.insert(installation.to_owned(), Arc::clone(&key));
        let count = self.entries.entry(key).or_default();
        *count += 1;
        (*count == 1).then(|| entry.to_owned())
    }

    fn remove(&mut self, installation: &str) -> Option<String> {
        let entry = self.installations.remove(installation)?;
        let count = self.entries.get_mut(&entry)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.entries.remove(&entry);
        Some(entry.to_string())
    }

    /// Whether an installation shares the server of this entry.
    pub(super) fn in_use(&self, entry: &str) -> bool {
        self.entries.contains_key(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_and_the_last_concern_the_entry() {
        let mut sharing = Sharing::default();
        assert_eq!(sharing.set("a", Some("e")).as_deref(), Some("e"));
        for again in ["a", "b", "b"] {
            assert_eq!(sharing.set(again, Some("e")), None);
        }
        assert_eq!(sharing.set("c", Some("f")).as_deref(), Some("f"));
        assert_eq!(sharing.set("a", None), None);
        assert!(sharing.in_use("e"));
        assert_eq!(sharing.set("a", None), None, "it was not there");
        assert_eq!(sharing.set("b", None).as_deref(), Some("e"));
        assert!(!sharing.in_use("e") && sharing.in_use("f"));
        assert!(sharing.installations.len() == 1 && sharing.entries.len() == 1);
    }
}
