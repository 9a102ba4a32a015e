//! Sessions that were signed out of, until they would have expired: a copy of their cookie is not accepted.
//!
//! Each replica remembers those that ended at it, and a restart forgets them. What a copied cookie is worth then ends with the ID token in
//! it, which is for minutes or an hour at most issuers.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Mutex, PoisonError},
};

/// If there are more, those that would expire first are forgotten. Ending a session requires having signed in.
const MAX: usize = 100_000;

/// The sessions that were signed out of.
#[derive(Debug, Default)]
pub(super) struct Revoked(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    ids: HashSet<String>,
    /// When each would have ended, in seconds since 1970.
    ends: BTreeSet<(u64, String)>,
}

impl Revoked {
    /// A session that would have ended at `until` ends now.
    pub(super) fn revoke(&self, id: &str, until: u64, now: u64) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.ids.insert(id.to_owned()) {
            sessions.ends.insert((until, id.to_owned()));
        }
        while let Some((first, _)) = sessions.ends.first()
            && (*first <= now || sessions.ends.len() > MAX)
            && let Some((_, id)) = sessions.ends.pop_first()
        {
            sessions.ids.remove(&id);
        }
    }

    /// Whether somebody signed out of a session.
    pub(super) fn contains(&self, id: &str) -> bool {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.ids.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_sessions_until_they_would_have_ended() {
        let revoked = Revoked::default();
        revoked.revoke("a", 10, 0);
        revoked.revoke("b", 20, 0);
        assert!(revoked.contains("a") && revoked.contains("b") && !revoked.contains("c"));
        revoked.revoke("c", 30, 15);
        assert!(!revoked.contains("a") && revoked.contains("b") && revoked.contains("c"));
    }

    #[test]
    fn remembers_no_more_than_so_many() {
        let revoked = Revoked::default();
        for id in 0..=MAX as u64 {
            revoked.revoke(&id.to_string(), 1000 + id, 0);
        }
        assert!(!revoked.contains("0") && revoked.contains("1"));
        assert_eq!(revoked.0.lock().unwrap().ids.len(), MAX);
    }
}
