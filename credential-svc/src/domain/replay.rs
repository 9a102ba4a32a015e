//! Answers that are kept in a record, so that a request that is sent again gets the answer it got before.

use aws_lc_rs::hmac;
use uuid::Uuid;

use super::summary::Summary;

/// An answer is kept for 7 days (microseconds).
const LIFETIME: i64 = 7 * 24 * 3600 * 1_000_000;
/// A record keeps the last 16 answers.
const KEPT: usize = 16;
/// The digest of no content.
const UNKNOWN: [u8; 32] = [0; 32];

/// A request that carries an id. Two users may choose the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) user: String,
    pub(crate) id: Uuid,
    /// Tells requests with the same id apart.
    pub(crate) digest: [u8; 32],
}

impl Request {
    /// `content` is everything the request asks for. The digest is keyed by user and id: equal contents of two requests have
    /// different digests.
    pub(crate) fn new<'a>(user: String, id: Uuid, content: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, id.as_bytes());
        let mut context = hmac::Context::with_key(&key);
        // Each part with its length, so that no two lists of parts give the same bytes.
        let mut update = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        update(user.as_bytes());
        content.into_iter().for_each(&mut update);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        Self { user, id, digest }
    }
}

/// A request and its answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) request: Request,
    /// When it was given, in microseconds since 1970.
    pub(crate) time: i64,
    pub(crate) summary: Summary,
}

/// The answers of one record, the oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answers(Vec<Answer>);

/// The id was used for a request with another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reused;

impl Answers {
    /// Keeps the newest of these, which are in the order in which they were given.
    pub(crate) fn new(mut answers: Vec<Answer>) -> Self {
        let excess = answers.len().saturating_sub(KEPT);
        answers.drain(..excess);
        Self(answers)
    }

    /// The answer that the request got before, if it is still kept at `now` (microseconds since 1970).
    pub(crate) fn to(&self, request: &Request, now: i64) -> Result<Option<&Summary>, Reused> {
        let same = |answer: &&Answer| answer.request.user == request.user && answer.request.id == request.id;
        let kept = self.0.iter().filter(|answer| !is_over(answer, now));
        match kept.rev().find(same) {
            Some(answer) if answer.request.digest == request.digest => Ok(Some(&answer.summary)),
            Some(_) => Err(Reused),
            None => Ok(None),
        }
    }

    /// Those that are still kept at `now`.
    pub(crate) fn at(&self, now: i64) -> Self {
        let kept = self.0.iter().filter(|answer| !is_over(answer, now));
        Self(kept.cloned().collect())
    }

    /// Forgets what was asked for: a digest would help to guess a secret that was deleted. A request that is sent again is refused as
    /// another one, rather than made a second time.
    pub(crate) fn forget_contents(&mut self) {
        for answer in &mut self.0 {
            answer.request.digest = UNKNOWN;
        }
    }

    /// Adds an answer, and forgets those that are too old or too many.
    pub(crate) fn remember(&mut self, answer: Answer) {
        *self = self.at(answer.time);
        self.0.push(answer);
        *self = Self::new(std::mem::take(&mut self.0));
    }

    /// The oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Answer> {
        self.0.iter()
    }
}

fn is_over(answer: &Answer, now: i64) -> bool {
    answer.time < now.saturating_sub(LIFETIME)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn request(user: &str, id: u128, content: &[&[u8]]) -> Request {
        Request::new(user.to_owned(), Uuid::from_u128(id), content.iter().copied())
    }

    fn answer(request: Request, time: i64) -> Answer {
        let summary = Summary {
            name: "installations/a/credential".to_owned(),
            generation: time,
            fields: BTreeMap::new(),
            missing: Vec::new(),
            bound_destination: String::new(),
            present_destination: String::new(),
            bound_description: String::new(),
            present_description: String::new(),
            changes: Vec::new(),
            connection: None,
        };
        Answer { request, time, summary }
    }

    #[test]
    fn finds_the_same_request_of_the_same_user() {
        let mut answers = Answers::default();
        let asked = request("alice", 1, &[b"token", b"one"]);
        answers.remember(answer(asked.clone(), 5));
        assert_eq!(answers.to(&asked, 6).unwrap().unwrap().generation, 5);
        assert_eq!(answers.to(&request("alice", 1, &[b"token", b"two"]), 6), Err(Reused));
        assert_eq!(answers.to(&request("alice", 1, &[b"tokeno", b"ne"]), 6), Err(Reused));
        assert_eq!(answers.to(&request("alice", 2, &[b"token", b"one"]), 6), Ok(None));
        assert_eq!(answers.to(&request("bob", 1, &[b"token", b"one"]), 6), Ok(None));
        assert_ne!(
            asked.digest,
            request("alice", 2, &[b"token", b"one"]).digest,
            "equal secrets do not show"
        );
    }

    #[test]
    fn keeps_a_bounded_number_for_a_bounded_time() {
        let mut answers = Answers::default();
        for id in 0..20 {
            answers.remember(answer(request("alice", id, &[]), 10));
        }
        assert_eq!(answers.iter().count(), KEPT);
        assert_eq!(
            answers.to(&request("alice", 3, &[]), 10),
            Ok(None),
            "too many came after it"
        );
        assert!(answers.to(&request("alice", 4, &[]), 10).unwrap().is_some());
        assert!(answers.to(&request("alice", 4, &[]), 10 + LIFETIME).unwrap().is_some());
        assert_eq!(
            answers.to(&request("alice", 4, &[]), 11 + LIFETIME),
            Ok(None),
            "too old"
        );
        answers.remember(answer(request("alice", 30, &[]), 11 + LIFETIME));
        assert_eq!(answers.iter().count(), 1);
    }
}
