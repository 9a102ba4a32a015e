//! `_meta` of a request: what its client can do, and which log messages it wants.

use std::borrow::Cow;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::super::{
    initialize::{opens_links, profile},
    message::LEVELS,
    rpc::{INVALID_PARAMS, RpcError},
};
use crate::{
    json::{self, Object},
    upstream::{
        Profile,
        modern_names::{CAPABILITIES, INFO, LEVEL, TASKS, VERSION},
    },
};

/// The members that a request says it in.
pub(super) const OWN: [&str; 4] = [VERSION, CAPABILITIES, INFO, LEVEL];

const MISSING_CAPABILITY: i64 = -32021;

/// What a request says of its client.
#[derive(Clone, Debug)]
pub(super) struct Stated {
    /// As servers learn it.
    pub(super) profile: Profile,
    /// Whether the client opens links for its user.
    pub(super) opens_links: bool,
    /// Whether the client takes tasks.
    tasks: bool,
    /// The least severe log messages that it gets, as an index in [`LEVELS`]; `None`: it gets none.
    level: Option<usize>,
}

impl Stated {
    /// Fails if the client did not say that it takes tasks.
    pub(super) fn require_tasks(&self) -> Result<(), RpcError> {
        if self.tasks {
            return Ok(());
        }
        let required = json!({"requiredCapabilities": {"extensions": {TASKS: {}}}});
        Err(RpcError {
            data: Some(required.to_string()),
            ..RpcError::new(MISSING_CAPABILITY, "Missing required client capability")
        })
    }

    /// The level of log messages, as JSON.
    pub(super) fn level(&self) -> Option<&'static str> {
        self.level.map(|level| LEVELS[level])
    }

    /// Whether the client gets log messages of this level, which is JSON.
    pub(super) fn logs(&self, level: &str) -> bool {
        let severity = LEVELS.iter().position(|known| *known == level);
        self.level
            .is_some_and(|least| severity.is_some_and(|severity| severity >= least))
    }

    /// The same for all requests that can share a session with a server.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [
            self.profile.capabilities(),
            self.profile.info(),
            self.level().unwrap_or_default(),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

fn takes_tasks(capabilities: &Object<'_>) -> bool {
    let extensions = capabilities.get("extensions").and_then(|text| Object::parse(text).ok());
    extensions.is_some_and(|extensions| extensions.get(TASKS).is_some_and(|tasks| tasks.starts_with('{')))
}

/// The revision that a message says it is of.
pub(super) fn version<'a>(params: Option<&Object<'a>>) -> Option<Cow<'a, str>> {
    let meta = Object::parse(params?.get("_meta")?).ok()?;
    json::unescape(meta.get(VERSION)?)
}

/// Reads what a request must say.
pub(super) fn read(params: Option<&Object<'_>>) -> Result<Stated, RpcError> {
    let invalid = |what: String| RpcError::new(INVALID_PARAMS, what);
    let meta = params
        .and_then(|params| Object::parse(params.get("_meta")?).ok())
        .ok_or_else(|| invalid("params._meta is missing".to_owned()))?;
    if meta.get(VERSION).is_none() {
        return Err(invalid(format!("params._meta.{VERSION:?} is missing")));
    }
    if let Some(name) = meta.lookalike(&OWN) {
        return Err(invalid(format!(
            "the member {name:?} of params._meta can be mistaken for another; send the exact name"
        )));
    }
    let object = |name: &str| match meta.get(name) {
        None => Ok(None),
        Some(text) => Object::parse(text)
            .map(Some)
            .map_err(|_| invalid(format!("params._meta.{name:?} must be an object"))),
    };
    let capabilities =
        object(CAPABILITIES)?.ok_or_else(|| invalid(format!("params._meta.{CAPABILITIES:?} is missing")))?;
    let level = match meta.get(LEVEL) {
        None => None,
        Some(level) => {
            let known = LEVELS.iter().position(|known| *known == level);
            Some(known.ok_or_else(|| invalid(format!("params._meta.{LEVEL:?} must be a level of log messages")))?)
        }
    };
    Ok(Stated {
        profile: profile(Some(&capabilities), object(INFO)?.as_ref()),
        opens_links: opens_links(&capabilities),
        tasks: takes_tasks(&capabilities),
        level,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(further: &str) -> Result<Stated, RpcError> {
        let params = format!(r#"{{"_meta":{{"{VERSION}":"2026-07-28"{further}}}}}"#);
        read(Some(&Object::parse(&params).unwrap()))
    }

    #[test]
    fn a_request_says_what_its_client_can_do() {
        let plain = of(&format!(
            r#","{CAPABILITIES}":{{"tasks":[],"elicitation":{{"url":{{}}}}}}"#
        ))
        .unwrap();
        assert!(plain.opens_links);
        assert_eq!(plain.profile.capabilities(), r#"{"elicitation":{"url":{}}}"#);
        assert!(!plain.logs("\"emergency\""));
        let logs = of(&format!(
            r#","{CAPABILITIES}":{{}},"{INFO}":{{"name":"c"}},"{LEVEL}":"warning""#
        ))
        .unwrap();
        assert!(logs.logs("\"error\"") && logs.logs("\"warning\"") && !logs.logs("\"info\"") && !logs.logs("5"));
        assert_ne!(plain.digest(), logs.digest());
        for odd in [
            String::new(),
            format!(r#","{CAPABILITIES}":[]"#),
            format!(r#","{CAPABILITIES}":{{}},"{INFO}":"c""#),
            format!(r#","{CAPABILITIES}":{{}},"{LEVEL}":"loud""#),
        ] {
            assert_eq!(of(&odd).unwrap_err().code, INVALID_PARAMS, "{odd}");
        }
        assert!(read(None).is_err());
    }
}
