//! `requestState`: what a client sends back when it repeats a request with what it was asked for.
//!
//! It is sealed, and bound to the caller, the gateway or agent, and the request. That goes for the state of a server, too: callers who share
//! an installation are one caller to it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// What a state is bound to.
#[derive(Clone, Debug)]
pub(super) struct Binding([u8; 32]);

impl Binding {
    /// `key` is the member of `params` that decides where the request goes, `params` are the others, without those that differ when it is
    /// repeated. Their values are JSON, and may be written otherwise then.
    pub(super) fn new(subject: &str, consumer: &ConsumerRef, method: &str, key: &str, params: &[(&str, &str)]) -> Self {
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
        let mut params: Vec<_> = params.iter().collect();
        params.sort_unstable();
        for (name, value) in params {
            add(name.as_bytes());
            add(&said(value));
        }
        Self(hash.finalize().into())
    }

    fn context(&self) -> Vec<u8> {
        [CONTEXT, &self.0].concat()
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

    pub(super) fn seal(&self, binding: &Binding, state: &State, now: SystemTime) -> String {
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
    pub(super) fn open(&self, binding: &Binding, text: &str, now: SystemTime) -> Option<State> {
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

    fn binding(subject: &str, gateway: &str, method: &str, params: &[(&str, &str)]) -> Binding {
        let consumer = ConsumerRef::new(ConsumerKind::Gateway, gateway);
        Binding::new(subject, &consumer, method, "\"a\"", params)
    }

    #[test]
    fn a_state_is_one_callers_for_one_request() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let ring = || Ring::from([1; 32]);
        let own = binding("users/a", "g", "tools/call", &[("x", "1"), ("y", "2")]);
        for state in [State::Parked([7; 16]), State::Link, State::Server("s".to_owned())] {
            let sealed = States::new(&ring()).seal(&own, &state, now);
            let open = |binding: &Binding| States::new(&ring()).open(binding, &sealed, now);
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
