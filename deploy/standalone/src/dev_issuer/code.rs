//! The sign-in code on the terminal. It proves that the person who signs in can see the server's output.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rand::{CryptoRng, Rng as _};
use subtle::ConstantTimeEq as _;

/// Without letters and digits that look alike.
const ALPHABET: &[u8] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";
const LEN: usize = 8;
/// How many wrong codes within [`WINDOW`] are accepted before the page refuses to check more. At this rate, guessing
/// the code takes longer than a machine lives.
const ALLOWED: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// The code that the sign-in page requires, new at each start. `Display` shows it and is only for the terminal; `Debug`
/// does not.
#[derive(Clone)]
pub(crate) struct SignInCode(String);

impl SignInCode {
    /// Generates a code.
    pub(crate) fn random(rng: &mut impl CryptoRng) -> Self {
        Self(
            (0..LEN)
                .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
                .collect(),
        )
    }

    /// Whether a person typed this code. Letter case, spaces and dashes do not matter.
    pub(super) fn matches(&self, typed: &str) -> bool {
        let typed: String = typed
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_uppercase())
            .take(64)
            .collect();
        typed.as_bytes().ct_eq(self.0.as_bytes()).into()
    }
}

impl fmt::Display for SignInCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.0.split_at(LEN / 2);
        write!(f, "{first}-{second}")
    }
}

impl fmt::Debug for SignInCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInCode")
    }
}

/// Counts the wrong codes of all people together, because the server has one owner.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<VecDeque<SystemTime>>);

impl Attempts {
    /// How long to wait before the next code is checked; `None` if it can be checked now.
    pub(super) fn wait(&self, now: SystemTime) -> Option<Duration> {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // After a clock was set back, attempts in the future must not lock people out for long.
        wrong.retain(|at| now.duration_since(*at).is_ok_and(|since| since < WINDOW));
        let first = wrong.front().filter(|_| wrong.len() >= ALLOWED)?;
        Some(WINDOW.saturating_sub(now.duration_since(*first).unwrap_or_default()))
    }

    /// Counts a wrong code.
    pub(super) fn wrong(&self, now: SystemTime) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_code_as_people_type_it() {
        let code = SignInCode::random(&mut service_kit::random::rng());
        let shown = code.to_string();
        assert_eq!(shown.len(), LEN + 1);
        assert!(code.matches(&shown));
        assert!(code.matches(&format!(" {} ", shown.to_lowercase().replace('-', " "))));
        for wrong in ["", "-", &shown[..5], &format!("{shown}2")] {
            assert!(!code.matches(wrong), "{wrong}");
        }
        assert!(!format!("{code:?}").contains(&shown[..4]));
    }

    #[test]
    fn waits_after_wrong_codes() {
        let attempts = Attempts::default();
        let start = SystemTime::UNIX_EPOCH + WINDOW;
        for _ in 0..ALLOWED {
            assert_eq!(attempts.wait(start), None);
            attempts.wrong(start);
        }
        assert_eq!(attempts.wait(start + WINDOW / 2), Some(WINDOW / 2));
        assert_eq!(attempts.wait(start + WINDOW), None);
    }
}
