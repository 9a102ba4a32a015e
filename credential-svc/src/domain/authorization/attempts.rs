//! What this process remembers of attempts to get tokens, so that a server that is down, or refuses, is not asked by each call.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_kit::clock::to_micros;

use super::asked::Generations;
use crate::domain::{error::Error, owner::Owner, ports::StoreError};

/// The first pause after a failed attempt, and the longest that no server asks for (microseconds).
const FIRST: i64 = Duration::from_secs(1).as_micros() as i64;
const LAST: i64 = Duration::from_secs(60).as_micros() as i64;
/// How long after a rejected token was replaced no other is, if that is rejected, too (microseconds).
const SETTLED: i64 = Duration::from_secs(30).as_micros() as i64;

/// The fewest attempts among which those that are over are looked for.
const SWEPT: usize = 1_024;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The authorization server did not answer.
    Unavailable(String),
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
            Trouble::Unavailable(why) | Trouble::Busy { why, .. } => Self::AuthorizationServerUnavailable(why),
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

#[derive(Debug, Default)]
struct Attempt {
    trouble: Option<Last>,
    /// The number of the token that replaced a rejected one, and until when it and later ones are not replaced.
    replaced: Option<(i64, i64)>,
}

/// The last trouble.
#[derive(Debug)]
struct Last {
    trouble: Trouble,
    basis: Basis,
    /// How often there was any since an attempt succeeded.
    count: u32,
    /// Until when no other attempt is made.
    until: i64,
}

impl Attempt {
    fn is_over(&self, now: i64) -> bool {
        // The count of troubles outlives their pause, so that pauses grow.
        self.trouble
            .as_ref()
            .is_none_or(|last| last.until.saturating_add(LAST) < now)
            && self.replaced.is_none_or(|(_, until)| until < now)
    }
}

/// By owner.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    of: HashMap<Owner, Attempt>,
    /// How many there are when those that are over are removed next: twice as many as were left last time.
    full: usize,
}

impl Attempts {
    /// Why no attempt is made now.
    pub(super) fn trouble(&self, owner: &Owner, basis: Basis, now: i64) -> Option<Trouble> {
        let attempts = self.lock();
        let last = attempts.of.get(owner)?.trouble.as_ref()?;
        (last.basis == basis && last.until > now).then(|| last.trouble.clone())
    }

    /// An attempt failed.
    pub(super) fn failed(&self, owner: &Owner, basis: Basis, now: i64, trouble: Trouble) {
        self.note(owner, now, |attempt| {
            let before = attempt.trouble.as_ref().filter(|last| last.basis == basis);
            let before = before.map_or(0, |last| last.count);
            let mut pause = FIRST.saturating_mul(1 << before.min(10)).min(LAST);
            if let Trouble::Busy { pause: asked, .. } = &trouble {
                pause = pause.max(to_micros(std::time::UNIX_EPOCH + *asked));
            }
            attempt.trouble = Some(Last {
                trouble,
                basis,
                count: before + 1,
                until: now.saturating_add(pause),
            });
        });
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&self, owner: &Owner) {
        if let Some(attempt) = self.lock().of.get_mut(owner) {
            attempt.trouble = None;
        }
    }

    /// Whether the token with this number has replaced a rejected one lately: another would be rejected as well. False for the one before,
    /// which a caller may have read a moment ago.
    pub(super) fn has_replaced(&self, owner: &Owner, now: i64, number: i64) -> bool {
        let attempts = self.lock();
        let replaced = attempts.of.get(owner).and_then(|attempt| attempt.replaced);
        replaced.is_some_and(|(replacement, until)| number >= replacement && until > now)
    }

    /// The token with this number has replaced a rejected one.
    pub(super) fn replaced(&self, owner: &Owner, now: i64, number: i64) {
        self.note(owner, now, |attempt| {
            attempt.replaced = Some((number, now.saturating_add(SETTLED)));
        });
    }

    fn note(&self, owner: &Owner, now: i64, note: impl FnOnce(&mut Attempt)) {
        let mut attempts = self.lock();
        let Kept { of, full } = &mut *attempts;
        if of.len() >= *full {
            of.retain(|_, attempt| !attempt.is_over(now));
            *full = (of.len() * 2).max(SWEPT);
        }
        note(of.entry(owner.clone()).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let (attempts, owner) = (Attempts::default(), Owner::Installation("a".to_owned()));
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
        attempts.failed(&owner, changed, now, trouble());
        assert_eq!(attempts.trouble(&owner, changed, now + 1_000_000), None);
        attempts.failed(&owner, basis, now, trouble());
        assert_eq!(attempts.trouble(&owner, basis, now + 1_000_000), None);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let attempts = Attempts::default();
        for number in 0..10_000 {
            let owner = Owner::Installation(number.to_string());
            let trouble = Trouble::Unavailable("down".to_owned());
            attempts.failed(&owner, Basis::default(), number * 1_000_000, trouble);
        }
        assert!(attempts.lock().of.len() <= SWEPT);
    }
}
