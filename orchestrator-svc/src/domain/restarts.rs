//! Recognizes a restart that was requested before.

use std::collections::VecDeque;

/// How many ids are remembered for each owner.
const REMEMBERED: usize = 16;

/// The ids of an owner's last restarts.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentRestarts(VecDeque<String>);

impl RecentRestarts {
    /// Remembers a restart. Returns false if it is one of the last ones, which must not be repeated.
    pub(crate) fn add(&mut self, id: &str) -> bool {
        if self.0.iter().any(|known| known == id) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(id.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_restarts_only() {
        let mut recent = RecentRestarts::default();
        for id in 0..=REMEMBERED {
            assert!(recent.add(&id.to_string()));
        }
        for id in 1..=REMEMBERED {
            assert!(!recent.add(&id.to_string()), "{id}");
        }
        assert!(recent.add("0"), "it is too long ago");
    }
}
