//! What this process remembers of attempts to get tokens, so that a server that is down, or refuses, is not asked by each call.

use std::{fmt::Debug, hash::Hash, time::Duration};

use moka::{Entry, policy::EvictionPolicy, sync::Cache};
use service_kit::clock::to_micros;

use super::asked::Generations;
use crate::domain::{error::Error, ports::StoreError};

/// The first pause after a failed attempt, and the longest that no server asks for (microseconds).
const FIRST: i64 = Duration::from_secs(1).as_micros() as i64;
const LAST: i64 = Duration::from_secs(60).as_micros() as i64;
/// How long after a rejected token was replaced no other is, if that is rejected, too (microseconds).
const SETTLED: i64 = Duration::from_secs(30).as_micros() as i64;

/// The most that are remembered, and for how long after anybody looked at them: longer than a server may ask for a pause.
const MOST: u64 = 50_000;
const IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The authorization server did not answer.
    Unavailable(String),
    /// It was not asked, since many others wait for it.
    Full(String),
    /// The same, and it asks for a pause.
    Busy { why: String, pause: Duration },
    /// It refused, and somebody must change the entry, its secrets or the server.
    Refused(String),
    /// The secret store did not answer.
    Store(String),
}

impl Trouble {
    /// The service's own.
    pub(super) fn own(error: &Error) -> Self {
        match error {
            Error::Store(_) | Error::Contended => Self::Store(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Full(why) => Self::AuthorizationServerBusy(why),
            Trouble::Unavailable(why) => Self::AuthorizationServerUnavailable(why),
            Trouble::Busy { why, pause } => Self::AuthorizationServerPauses { why, again: pause },
            Trouble::Refused(message) => Self::Unusable {
                message,
                condition: "AUTHORIZATION_SERVER_REFUSED",
            },
            Trouble::Store(why) => Self::Store(StoreError::Unavailable(why)),
        }
    }
}

/// What an attempt is made with. Once people have changed it, another attempt may succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Basis {
    pub(crate) generations: Generations,
    pub(crate) entry_revision: i64,
}

#[derive(Clone, Debug, Default)]
struct Attempt {
    trouble: Option<Last>,
    /// The number of the token that replaced a rejected one, and until when it and later ones are not replaced.
    replaced: Option<(i64, i64)>,
}

/// The last trouble.
#[derive(Clone, Debug)]
struct Last {
    trouble: Trouble,
    basis: Basis,
    /// How often there was any since an attempt succeeded.
    count: u32,
    /// Until when no other attempt is made.
    until: i64,
}

/// By whom they are for. Where there are many, those that were looked at least lately are forgotten.
#[derive(Debug)]
pub(super) struct Attempts<K: Clone + Debug + Eq + Hash + Send + Sync + 'static>(Cache<K, Attempt>);

impl<K: Clone + Debug + Eq + Hash + Send + Sync> Default for Attempts<K> {
    fn default() -> Self {
        Self::of_at_most(MOST)
    }
}

impl<K: Clone + Debug + Eq + Hash + Send + Sync> Attempts<K> {
    fn of_at_most(most: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(most)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(IDLE);
        Self(cache.build())
    }

    /// Why no attempt is made now; of a pause, what is left of it.
    pub(super) fn trouble(&self, key: &K, basis: Basis, now: i64) -> Option<Trouble> {
        let last = self.0.get(key)?.trouble?;
        let left = u64::try_from(last.until.saturating_sub(now)).unwrap_or_default();
        if last.basis != basis || left == 0 {
            return None;
        }
        Some(match last.trouble {
            Trouble::Busy { why, .. } => Trouble::Busy {
                why,
                pause: Duration::from_micros(left),
            },
            other => other,
        })
    }

    /// An attempt failed.
    pub(super) fn failed(&self, key: &K, basis: Basis, now: i64, trouble: Trouble) {
        self.note(key, |attempt| {
            let before = attempt.trouble.as_ref().filter(|last| last.basis == basis);
            let before = before.map_or(0, |last| last.count);
            let mut pause = FIRST.saturating_mul(1 << before.min(10)).min(LAST);
            let mut count = before + 1;
            match &trouble {
                Trouble::Busy { pause: asked, .. } => pause = pause.max(to_micros(std::time::UNIX_EPOCH + *asked)),
                // Nothing was attempted. Whoever waited for it learns why.
                Trouble::Full(_) => (pause, count) = (FIRST, before),
                Trouble::Unavailable(_) | Trouble::Refused(_) | Trouble::Store(_) => {}
            }
            attempt.trouble = Some(Last {
                trouble,
                basis,
                count,
                until: now.saturating_add(pause),
            });
        });
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&self, key: &K) {
        if self.0.get(key).is_some_and(|attempt| attempt.trouble.is_some()) {
            self.note(key, |attempt| attempt.trouble = None);
        }
    }

    /// Whether the token with this number has replaced a rejected one lately: another would be rejected as well. False for the one before,
    /// which a caller may have read a moment ago.
    pub(super) fn has_replaced(&self, key: &K, now: i64, number: i64) -> bool {
        let replaced = self.0.get(key).and_then(|attempt| attempt.replaced);
        replaced.is_some_and(|(replacement, until)| number >= replacement && until > now)
    }

    /// The token with this number has replaced a rejected one.
    pub(super) fn replaced(&self, key: &K, now: i64, number: i64) {
        self.note(key, |attempt| {
            attempt.replaced = Some((number, now.saturating_add(SETTLED)));
        });
    }

    fn note(&self, key: &K, note: impl FnOnce(&mut Attempt)) {
        self.0.entry_by_ref(key).and_upsert_with(|before| {
            let mut attempt = before.map(Entry::into_value).unwrap_or_default();
            note(&mut attempt);
            attempt
        });
    }
}

/// What a call fails with after [`Attempts::has_replaced`].
pub(super) fn rejected_again() -> Error {
    Error::Unusable {
        message: "the upstream rejects the token, and rejected the one before it: ask an admin whether the entry names the right authorization \
                  server, resource and scopes"
            .to_owned(),
        condition: "TOKEN_REJECTED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let (attempts, owner) = (Attempts::default(), "a");
        let trouble = || Trouble::Unavailable("down".to_owned());
        let (basis, changed) = (
            Basis::default(),
            Basis {
                entry_revision: 2,
                ..Basis::default()
            },
        );
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            attempts.failed(&owner, basis, now, trouble());
            now += pause * 1_000_000;
            assert_eq!(attempts.trouble(&owner, basis, now - 1), Some(trouble()), "{pause}");
            assert_eq!(attempts.trouble(&owner, changed, now - 1), None, "{pause}");
            assert_eq!(attempts.trouble(&owner, basis, now), None, "{pause}");
        }
        // Others before it are no reason to wait for longer.
        for _ in 0..10 {
            attempts.failed(&owner, changed, now, Trouble::Full("others wait".to_owned()));
            now += 1_000_000;
            assert_ne!(attempts.trouble(&owner, changed, now - 1), None);
            assert_eq!(attempts.trouble(&owner, changed, now), None);
        }
        attempts.failed(&owner, changed, now, trouble());
        assert_eq!(attempts.trouble(&owner, changed, now + 1_000_000), None);
        attempts.failed(&owner, basis, now, trouble());
        assert_eq!(attempts.trouble(&owner, basis, now + 1_000_000), None);
    }

    #[test]
    fn the_latest_are_remembered() {
        let attempts = Attempts::of_at_most(100);
        let trouble = || Trouble::Unavailable("down".to_owned());
        for number in 0..10_000 {
            attempts.failed(&number, Basis::default(), 0, trouble());
        }
        attempts.0.run_pending_tasks();
        assert!(attempts.0.entry_count() <= 100, "{}", attempts.0.entry_count());
        assert_eq!(attempts.trouble(&9_999, Basis::default(), 0), Some(trouble()));
    }
}
