//! `requestState`: what a client sends back when it repeats a request with what it was asked for.
//!
//! It is sealed, and bound to the caller, the gateway or agent, and the request. That goes for the state of a server, too: callers who share
//! an installation are one caller to it.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use data_encoding::BASE64URL_NOPAD;
use service_kit::keys::{Ring, Sealing};
use sha2::{Digest as _, Sha256};

use super::parking::Place;
use crate::{domain::ConsumerRef, json};

const CONTEXT: &[u8] = b"chandlery mcp state 1";
/// How long a state is accepted that nothing waits for.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What a state says.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::mcp) enum State {
    /// A call waits in this place for the answer.
    Parked(Place),
    /// The client was asked to open a link.
    Link,
    /// The server's own.
    Server(String),
}

/// What a state is bound to: a digest, made when the first state is sealed or opened. Most requests have none.
#[derive(Debug)]
pub(super) struct Binding<'a> {
    request: Option<Bound<'a>>,
    digest: OnceLock<[u8; 32]>,
}

/// A request to which a state may be bound.
#[derive(Debug)]
pub(super) struct Bound<'a> {
    pub(super) subject: &'a str,
    pub(super) consumer: &'a ConsumerRef,
    pub(super) method: &'a str,
    /// The member of `params` that decides where the request goes, as JSON.
    pub(super) key: &'a str,
    /// The others, without those that differ when it is repeated. Their values are JSON, and may be written otherwise then.
    pub(super) params: Vec<(&'a str, &'a str)>,
}

impl<'a> Binding<'a> {
    pub(super) const fn to(request: Bound<'a>) -> Self {
        Self {
            request: Some(request),
            digest: OnceLock::new(),
        }
    }

    /// For how many bytes the digest is yet to be made.
    pub(super) fn unread(&self) -> usize {
        let request = self.request.as_ref().filter(|_| self.digest.get().is_none());
        request.map_or(0, |request| request.params.iter().map(|(_, value)| value.len()).sum())
    }

    /// Makes the digest, so that nothing of the request is needed any more.
    pub(super) fn made(self) -> Binding<'static> {
        self.digest();
        Binding {
            request: None,
            digest: self.digest,
        }
    }

    fn digest(&self) -> [u8; 32] {
        let made = || self.request.as_ref().map(Bound::digest).unwrap_or_default();
        *self.digest.get_or_init(made)
    }

    fn context(&self) -> Vec<u8> {
        [CONTEXT, &self.digest()].concat()
    }
}

impl Bound<'_> {
    fn digest(&self) -> [u8; 32] {
        let Self {
            subject,
            consumer,
            method,
            key,
            params,
        } = self;
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        // What is no JSON is the same only as it stands.
        let said = |value: &str| json::digest(value).map_or_else(|_| value.as_bytes().to_vec(), Vec::from);
        add(subject.as_bytes());
        add(consumer.to_string().as_bytes());
        add(method.as_bytes());
        add(&said(key));
        let mut params = params.clone();
        params.sort_unstable();
        for (name, value) in params {
            add(name.as_bytes());
            add(&said(value));
        }
        hash.finalize().into()
    }
}

/// Seals and opens states.
#[derive(Debug)]
pub(in crate::mcp) struct States(Sealing);

impl States {
    /// With keys of 32 random bytes, which all replicas share.
    pub(in crate::mcp) fn new(keys: &Ring) -> Self {
        Self(Sealing::new(keys))
    }

    pub(super) fn seal(&self, binding: &Binding<'_>, state: &State, now: SystemTime) -> String {
        let (kind, payload): (u8, &[u8]) = match state {
            State::Parked(place) => (0, place),
            State::Link => (1, &[]),
            State::Server(text) => (2, text.as_bytes()),
        };
        let mut plain = vec![kind];
        plain.extend_from_slice(&seconds(now + LIFETIME).to_be_bytes());
        plain.extend_from_slice(payload);
        BASE64URL_NOPAD.encode(&self.0.seal(&binding.context(), &plain))
    }

    /// `None`: it is none of this request's, or has expired.
    pub(super) fn open(&self, binding: &Binding<'_>, text: &str, now: SystemTime) -> Option<State> {
        let sealed = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let (_, plain) = self.0.open(&binding.context(), &sealed)?;
        let ([kind], rest) = plain.split_first_chunk()?;
        let (expires, payload) = rest.split_first_chunk()?;
        if seconds(now) >= u64::from_be_bytes(*expires) {
            return None;
        }
        match kind {
            0 => Some(State::Parked(payload.try_into().ok()?)),
            1 => Some(State::Link),
            2 => Some(State::Server(std::str::from_utf8(payload).ok()?.to_owned())),
            _ => None,
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ConsumerKind;

    fn binding(subject: &str, gateway: &str, method: &str, params: &[(&str, &str)]) -> Binding<'static> {
        let bound = Bound {
            subject,
            consumer: &ConsumerRef::new(ConsumerKind::Gateway, gateway),
            method,
            key: "\"a\"",
            params: params.to_vec(),
        };
        Binding::to(bound).made()
    }

    #[test]
    fn a_request_is_read_when_a_state_is_sealed_or_opened() {
        let (states, now) = (States::new(&Ring::from([1; 32])), UNIX_EPOCH);
        let consumer = ConsumerRef::new(ConsumerKind::Gateway, "g");
        let bound = |arguments| {
            Binding::to(Bound {
                subject: "users/a",
                consumer: &consumer,
                method: "tools/call",
                key: "\"a\"",
                params: vec![("arguments", arguments)],
            })
        };
        let (first, again, other) = (bound("{\"x\":1}"), bound("{ \"x\": 1 }"), bound("{\"x\":2}"));
        assert_eq!((first.unread(), again.unread()), (7, 10));
        let sealed = states.seal(&first, &State::Link, now);
        assert_eq!(first.unread(), 0);
        assert_eq!(states.open(&again, &sealed, now), Some(State::Link));
        assert_eq!(states.open(&other, &sealed, now), None);
        let made = bound("{\"x\":1}").made();
        assert_eq!(
            (made.unread(), states.open(&made, &sealed, now)),
            (0, Some(State::Link))
        );
    }

    #[test]
    fn a_state_is_one_callers_for_one_request() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let ring = || Ring::from([1; 32]);
        let own = binding("users/a", "g", "tools/call", &[("x", "1"), ("y", "2")]);
        for state in [State::Parked([7; 16]), State::Link, State::Server("s".to_owned())] {
            let sealed = States::new(&ring()).seal(&own, &state, now);
            let open = |binding: &Binding<'_>| States::new(&ring()).open(binding, &sealed, now);
            assert_eq!(open(&own), Some(state));
            let turned = binding("users/a", "g", "tools/call", &[("y", "2"), ("x", "1")]);
            assert!(open(&turned).is_some());
            let (written, otherwise) = (r#"{"a":"é","b":[1]}"#, r#"{ "b": [1], "a": "\u00e9" }"#);
            let sealed_of = |x| {
                let own = binding("users/a", "g", "tools/call", &[("x", x)]);
                States::new(&ring()).seal(&own, &State::Link, now)
            };
            let again = binding("users/a", "g", "tools/call", &[("x", otherwise)]);
            let opened = States::new(&ring()).open(&again, &sealed_of(written), now);
            assert_eq!(opened, Some(State::Link));
            for other in [
                binding("users/b", "g", "tools/call", &[("x", "1"), ("y", "2")]),
                binding("users/a", "h", "tools/call", &[("x", "1"), ("y", "2")]),
                binding("users/a", "g", "prompts/get", &[("x", "1"), ("y", "2")]),
                binding("users/a", "g", "tools/call", &[("x", "1"), ("y", "3")]),
                binding("users/a", "g", "tools/call", &[("x", "1y2")]),
            ] {
                assert_eq!(open(&other), None);
            }
            assert_eq!(States::new(&ring()).open(&own, &sealed, now + LIFETIME), None);
            assert_eq!(States::new(&Ring::from([2; 32])).open(&own, &sealed, now), None);
            for forged in ["", "AAAA", "\u{fc}", &sealed[1..]] {
                assert_eq!(States::new(&ring()).open(&own, forged, now), None, "{forged}");
            }
        }
    }
}
