//! Installations' servers as targets of calls.

use std::sync::Arc;

use http::HeaderMap;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::{Calls, call::Visitor};
use crate::{
    domain::{CallError, Caller, Consumer, ConsumerRef, Endpoint, Running, UpstreamFault},
    resolve,
    route::Source,
    snapshot::Store,
    upstream::{self, Revision, Scope, Target, Whose},
    vend::{self, Generations, Vended},
};

/// Targets that are kept ready: one for each installation in use and revision, or for each of its callers where the credential is theirs.
const TARGETS: u64 = 20_000;

/// Headers that do not identify the caller: calls with different values may share a session with an upstream.
const IMPERSONAL: [&str; 5] = ["traceparent", "tracestate", "baggage", "x-request-id", "user-agent"];

/// Targets that are kept ready.
pub(super) struct Targets(Cache<Key, Ready>);

/// Installation, revision, whose the credential is, and whose the session is alone.
type Key = (Arc<str>, Revision, Option<[u8; 32]>, Option<upstream::Client>);

/// A target, and what it was made from.
#[derive(Clone)]
struct Ready {
    running: Running,
    vended: Arc<Vended>,
    target: Arc<Target>,
}

impl Default for Targets {
    fn default() -> Self {
        // Longer than headers are vended for, it would only keep secrets.
        let kept = Cache::builder().max_capacity(TARGETS).time_to_live(vend::MAX_KEPT);
        Self(kept.build())
    }
}

impl Targets {
    /// The target for these headers: one kept ready, unless the client's own headers go with the call.
    pub(super) fn get(
        &self,
        running: &Running,
        vended: &Arc<Vended>,
        consumer: &Consumer,
        visitor: &Visitor<'_>,
    ) -> Result<Arc<Target>, CallError> {
        let client = running.revision.session_each.then(|| visitor.client.clone());
        let uid = Arc::clone(&running.installation.uid);
        let key = (uid, visitor.revision, vended.caller, client.clone());
        let kept = consumer.passthrough_headers.is_empty();
        if kept
            && let Some(ready) = self.0.get(&key)
            && ready.running.runs_as(running)
            && Arc::ptr_eq(&ready.vended, vended)
        {
            return Ok(ready.target);
        }
        let mut headers = HeaderMap::new();
        vend::passthrough(visitor.headers, consumer, &vended.headers, &mut headers);
        let (credential, own_headers) = (vended.caller.map(|_| visitor.subject), personal(&mut headers));
        let scope = scope(client, credential, own_headers);
        let whose = (credential.is_some() || own_headers.is_some()).then(|| Whose {
            subject: Arc::clone(visitor.subject),
            headers: own_headers,
        });
        headers.extend(vended.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let own = matches!(scope, Scope::Client(_));
        let target = target(running, vended.generations, visitor.revision, headers, scope)?;
        let mut target = target.sent_by(whose);
        if own {
            target = target.made_for(&visitor.caller.process_share());
            if let Some(profile) = visitor.profile {
                target = target.speaking_for(profile.clone());
            }
        }
        let target = Arc::new(target);
        if kept {
            let (running, vended) = (running.clone(), Arc::clone(vended));
            self.0.insert(
                key,
                Ready {
                    running,
                    vended,
                    target: Arc::clone(&target),
                },
            );
        }
        Ok(target)
    }
}

/// Who shares a session. `caller` is who the credential belongs to, if it is one caller's own; `headers` are those of the client, as [`personal`].
fn scope(client: Option<upstream::Client>, caller: Option<&Arc<str>>, headers: Option<[u8; 32]>) -> Scope {
    match (client, caller, headers) {
        // A client is one caller's.
        (Some(client), _, _) => Scope::Client(client),
        (None, Some(subject), headers) => Scope::Caller {
            subject: Arc::clone(subject),
            headers,
        },
        (None, None, Some(headers)) => Scope::Headers(headers),
        (None, None, None) => Scope::Shared,
    }
}

impl Calls {
    /// The source by which a caller of a gateway or agent reaches the installation of this uid at this moment.
    pub(super) fn source_of(&self, caller: &Caller, consumer: &ConsumerRef, installation: &str) -> Option<Arc<Source>> {
        let snapshot = self.store.load().ok()?;
        resolve::source_of(&snapshot, caller, consumer, installation)
    }

    /// Whether they reach it.
    pub(crate) fn reaches(&self, caller: &Caller, consumer: &ConsumerRef, installation: &str) -> bool {
        self.source_of(caller, consumer, installation).is_some()
    }
}

/// Where an installation's server is called; `None`: nowhere.
pub(super) fn endpoint(running: &Running) -> Option<upstream::Endpoint> {
    match running.endpoint.as_ref()? {
        Endpoint::Remote(url) => upstream::Endpoint::remote(url),
        Endpoint::Hosted(endpoint) => upstream::Endpoint::hosted(endpoint),
    }
}

/// Whether the installation's server is another than the one of this target by now, or gone. One that is being started is not, nor is any while the
/// registry is away.
pub(super) fn is_elsewhere(store: &Store, target: &Target) -> bool {
    let Ok(snapshot) = store.load() else { return false };
    let installation = snapshot.installation(target.installation());
    let running = installation.and_then(|installation| snapshot.running(installation));
    let stays = running.is_some_and(|running| match &running.endpoint {
        None => target.is_hosted(),
        Some(_) => endpoint(&running).is_some_and(|now| target.is_at(&now)),
    });
    !stays
}

/// An installation's server as a target.
pub(crate) fn target(
    running: &Running,
    generations: Generations,
    revision: Revision,
    headers: HeaderMap,
    scope: Scope,
) -> Result<Target, CallError> {
    let Running {
        entry, installation, ..
    } = running;
    let endpoint = endpoint(running).ok_or_else(|| CallError::Upstream {
        entry: Arc::clone(&entry.slug),
        fault: UpstreamFault::Unreachable,
        message: format!(
            "The MCP server of {} has no address that can be called. Try again in a moment. If this happens again, an admin must check its entry.",
            entry.display_name
        ),
        again: None,
    })?;
    let generation = [installation.generation, generations.installation, generations.entry];
    let uid = Arc::clone(&installation.uid);
    let target = Target::new(endpoint, uid, generation, revision, headers, scope);
    Ok(match running.revision.session_each {
        true => target,
        false => target.taking_no_questions(),
    })
}

/// A digest of those passthrough headers that may identify the caller; `None` if there are none. They may be secrets, and
/// are marked as sensitive.
fn personal(passed: &mut HeaderMap) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut personal = false;
    for (name, value) in passed
        .iter_mut()
        .filter(|(name, _)| !IMPERSONAL.contains(&name.as_str()))
    {
        personal = true;
        value.set_sensitive(true);
        // Neither a name nor a value contains a line feed.
        hash.update(name.as_str());
        hash.update("\n");
        hash.update(value.as_bytes());
        hash.update("\n");
    }
    personal.then(|| hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two callers never share a session of an upstream.
    #[test]
    fn callers_whose_headers_pass_through_are_kept_apart() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_static(value));
            let digest = personal(&mut headers);
            assert_eq!(digest.is_some(), headers[name].is_sensitive());
            digest
        };
        assert_eq!(personal(&mut HeaderMap::new()), None);
        assert_eq!(with("traceparent", "1"), None);
        assert_ne!(with("x-user", "alice"), with("x-user", "bob"));
        assert_ne!(with("x-user", "alice"), None);
    }
    /// Neither do two whose credentials are their own; a caller's new token goes on with their session.
    #[test]
    fn callers_with_a_credential_of_their_own_are_kept_apart() {
        let (alice, bob): (Arc<str>, Arc<str>) = ("users/alice".into(), "users/bob".into());
        let client = upstream::Client::Session([1; 12]);
        let scopes = [
            scope(None, None, None),
            scope(None, None, Some([1; 32])),
            scope(None, Some(&alice), None),
            scope(None, Some(&bob), None),
            scope(None, Some(&alice), Some([1; 32])),
            scope(None, Some(&alice), Some([2; 32])),
            scope(Some(client), Some(&alice), None),
        ];
        for (index, one) in scopes.iter().enumerate() {
            assert!(!scopes[index + 1..].contains(one), "{one:?}");
        }
        assert_eq!(scope(None, Some(&alice), None), scopes[2]);
    }
}
