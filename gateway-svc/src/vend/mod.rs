//! The headers an installation sends to its upstream.

mod error;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod fuzz;
mod headers;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use contracts::credential::{self as pb, VendHeadersRequest, vend_service_client::VendServiceClient};
use http::HeaderMap;
use moka::{Expiry, future::Cache};
use registry_model::destination;
use secrecy::ExposeSecret as _;
use service_kit::{Clock, per_caller::PerCaller};
use tonic::{Status, transport::Channel};

pub(crate) use error::VendError;
pub(crate) use headers::passthrough;

use crate::domain::{CallerToken, Running};

/// Installations, or callers of them, whose headers are kept ready.
const CACHED: u64 = 50_000;
/// The longest time headers are kept: vended ones expire within five minutes anyway.
pub(crate) const MAX_KEPT: Duration = Duration::from_secs(5 * 60);
/// How long before their expiry headers are vended again.
const MARGIN: Duration = Duration::from_secs(10);
/// How long credential-svc may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests to credential-svc at a time for one installation. Where each caller has a credential of their own, one authorization server that
/// does not answer holds one for each of them, on the connection that all installations share.
const AT_A_TIME: usize = 32;
/// How long another caller waits for a place among them: many may come at once to a server that answers.
const WAIT: Duration = Duration::from_secs(2);

/// Which credentials: those of an installation and those stored on its entry, each by the count of its puts, and the number of the token. 0 where
/// there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Generations {
    /// Of the installation's own.
    pub(crate) installation: i64,
    /// Of the entry's.
    pub(crate) entry: i64,
    /// Of the token that an authorization server issued.
    pub(crate) token: i64,
}

/// Everything to send to an installation's upstream, but what MCP itself and the client's passthrough add.
pub(crate) struct Vended {
    /// Additional headers, install fields and credential; names differ.
    pub(crate) headers: HeaderMap,
    /// Of the credentials they were made from.
    pub(crate) generations: Generations,
    /// Whose they are, as in [`CallerToken::digest`]; `None`: all callers of the installation use them.
    pub(crate) caller: Option<[u8; 32]>,
    /// When they are to be vended again.
    until: tokio::time::Instant,
    kept: Duration,
    /// Whether an upstream has refused them: then whoever keeps them must not send them again.
    refused: AtomicBool,
}

impl Vended {
    /// None that an upstream gets, for so long.
    #[cfg(test)]
    pub(crate) fn for_test(kept: Duration) -> Self {
        Self {
            headers: HeaderMap::new(),
            generations: Generations::default(),
            caller: None,
            until: tokio::time::Instant::now() + kept,
            kept,
            refused: AtomicBool::new(false),
        }
    }

    /// Whether a further call may be sent with them at this moment.
    pub(crate) fn is_good(&self, now: tokio::time::Instant) -> bool {
        self.until > now && !self.is_refused()
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    /// Whether others take their place. What has no generation cannot be replaced, and its server may change its mind.
    fn is_being_replaced(&self) -> bool {
        self.is_refused() && self.generations != Generations::default()
    }

    /// An upstream has refused them, and others are to be had: none of the calls that keep them is sent with them again, of whatever client.
    pub(crate) fn set_refused(&self) {
        self.refused.store(true, Relaxed);
    }
}

impl fmt::Debug for Vended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vended")
            .field("generations", &self.generations)
            .finish_non_exhaustive()
    }
}

/// Why the upstream refused what was vended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused<'a> {
    /// It does not accept the credential (401).
    Credential(Generations),
    /// It demands these scopes (403), separated by spaces.
    Scopes(Generations, &'a str),
}

/// Vends, once for all concurrent calls that require the same headers.
#[derive(Debug)]
pub(crate) struct Vendor {
    credentials: VendServiceClient<Channel>,
    kept: Cache<Key, Arc<Vended>>,
    /// The outcome of a refused credential: requested once for all calls to which it was refused.
    replaced: Cache<(Key, Generations, Box<str>), Arc<Vended>>,
    /// By installation.
    places: PerCaller,
    clock: Clock,
}

/// A change of any of these changes the headers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    installation: Arc<str>,
    generation: i64,
    credentials: Generations,
    destination: Option<Arc<str>>,
    /// Of the caller, where each has a credential of their own.
    caller: Option<[u8; 32]>,
}

struct KeptFor;

impl<K> Expiry<K, Arc<Vended>> for KeptFor {
    fn expire_after_create(&self, _: &K, vended: &Arc<Vended>, _: Instant) -> Option<Duration> {
        Some(vended.kept)
    }

    fn expire_after_update(&self, _: &K, vended: &Arc<Vended>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(vended.kept)
    }
}

impl Vendor {
    /// Over the gateway's channel to credential-svc.
    pub(crate) fn new(credential: Channel, clock: Clock) -> Self {
        Self {
            credentials: VendServiceClient::new(credential),
            kept: Cache::builder().max_capacity(CACHED).expire_after(KeptFor).build(),
            replaced: Cache::builder().max_capacity(CACHED).expire_after(KeptFor).build(),
            places: PerCaller::new(AT_A_TIME),
            clock,
        }
    }

    /// The headers for a call of this caller to an installation. `refused` are those that the upstream has just refused: if it did not accept
    /// the credential, another is required, and an error means that there is none. If it demands scopes, the same headers mean that there are
    /// no others.
    pub(crate) async fn headers(
        &self,
        running: &Running,
        caller: Option<&CallerToken>,
        refused: Option<Refused<'_>>,
    ) -> Result<Arc<Vended>, VendError> {
        let Running {
            installation, entry, ..
        } = running;
        let caller = caller.filter(|_| running.revision.per_caller);
        let key = Key {
            installation: Arc::clone(&installation.uid),
            generation: installation.generation,
            credentials: Generations {
                installation: installation.credential_generation,
                entry: entry.credential_generation,
                token: 0,
            },
            destination: destination(running),
            caller: caller.map(CallerToken::digest),
        };
        let kept = self.kept.get(&key).await;
        // What another call was refused, and is about to replace, is not sent once more: the replacement is for all.
        let replacing = kept.as_ref().filter(|kept| kept.is_being_replaced());
        let replacing = replacing.map(|kept| Refused::Credential(kept.generations));
        let Some(refused) = replacing.or(refused) else {
            // The usual case first: it allocates no future.
            if let Some(kept) = kept {
                return Ok(kept);
            }
            // By itself: each call has room for what it waits for, and this is large.
            let vended = Box::pin(self.kept.try_get_with(key, self.vend(running, caller, None)));
            return vended.await.map_err(|error| (*error).clone());
        };
        let (generations, scopes) = match refused {
            // Nothing was sent that could be replaced.
            Refused::Credential(generations) if generations == Generations::default() => {
                return Err(VendError::Expired);
            }
            Refused::Credential(generations) => (generations, ""),
            Refused::Scopes(generations, scopes) => (generations, scopes),
        };
        if let Some(kept) = kept
            && kept.generations != generations
        {
            return Ok(kept);
        }
        let replaced = Box::pin(self.replaced.try_get_with(
            (key.clone(), generations, scopes.into()),
            self.vend(running, caller, Some(refused)),
        ));
        match replaced.await {
            Ok(replaced) => {
                self.kept.insert(key, Arc::clone(&replaced)).await;
                Ok(replaced)
            }
            Err(error) => {
                // It may have been refused by mistake: the next call finds out.
                self.kept.invalidate(&key).await;
                Err((*error).clone())
            }
        }
    }

    async fn vend(
        &self,
        running: &Running,
        caller: Option<&CallerToken>,
        refused: Option<Refused<'_>>,
    ) -> Result<Arc<Vended>, VendError> {
        let mut headers = headers::fixed(running);
        if !running.revision.vends_headers {
            return Ok(Arc::new(Vended {
                headers,
                generations: Generations::default(),
                caller: None,
                until: tokio::time::Instant::now() + MAX_KEPT,
                kept: MAX_KEPT,
                refused: AtomicBool::new(false),
            }));
        }
        let (rejected, scopes) = match refused {
            None => (Generations::default(), ""),
            Some(Refused::Credential(generations)) => (generations, ""),
            Some(Refused::Scopes(_, scopes)) => (Generations::default(), scopes),
        };
        let request = VendHeadersRequest {
            installation_uid: running.installation.uid.to_string(),
            destination: destination(running).as_deref().unwrap_or_default().to_owned(),
            rejected_credential_generation: rejected.installation,
            rejected_entry_credential_generation: rejected.entry,
            rejected_token_number: rejected.token,
            demanded_scopes: scopes.to_owned(),
            caller: caller.map(message),
            known_credential_generation: running.installation.credential_generation,
            known_entry_credential_generation: running.entry.credential_generation,
        };
        let place = self.places.of(&running.installation.uid).acquire_owned();
        let _place = tokio::time::timeout(WAIT, place)
            .await
            .map_err(|_elapsed| VendError::Busy)?;
        let mut credentials = self.credentials.clone();
        let answer = tokio::time::timeout(TIMEOUT, credentials.vend_headers(request)).await;
        let vended = answer
            .map_err(|_| Status::deadline_exceeded("no answer in time"))
            .and_then(|answer| answer)
            .map_err(|status| VendError::of(&status, running, caller.is_some()))?
            .into_inner();
        // What is one caller's own must not be kept for others, whoever is mistaken.
        let per_caller = running.revision.per_caller;
        if vended.for_caller_only != per_caller || (per_caller && caller.is_none()) {
            tracing::error!(
                installation.uid = %running.installation.uid, revision.per_caller = per_caller, vended.for_caller_only,
                "credential-svc and the entry revision disagree on whose the credential is"
            );
            return Err(VendError::Inconsistent);
        }
        headers::add_secret(&mut headers, vended.headers, running);
        let now = self.clock.now();
        let ends = vended.expire_time.and_then(|time| SystemTime::try_from(time).ok());
        let left = ends
            .and_then(|ends| ends.duration_since(now).ok())
            .unwrap_or_default()
            .saturating_sub(MARGIN);
        let token_left = caller.map_or(MAX_KEPT, |caller| {
            caller.user.expires_at.duration_since(now).unwrap_or_default()
        });
        let kept = left.min(token_left).min(MAX_KEPT);
        Ok(Arc::new(Vended {
            headers,
            generations: Generations {
                installation: vended.credential_generation,
                entry: vended.entry_credential_generation,
                token: vended.token_number,
            },
            caller: caller.map(CallerToken::digest),
            until: tokio::time::Instant::now() + kept,
            kept,
            refused: AtomicBool::new(false),
        }))
    }
}

/// The caller as credential-svc gets them.
fn message(caller: &CallerToken) -> pb::Caller {
    let user = &caller.user;
    pb::Caller {
        issuer: user.issuer.clone(),
        subject: user.subject.clone(),
        audiences: user.audiences.clone(),
        expire_time: Some(user.expires_at.into()),
        token: caller.secret.expose_secret().to_owned(),
        is_id_token: caller.is_id_token,
    }
}

/// Where the secrets of an installation go.
fn destination(running: &Running) -> Option<Arc<str>> {
    let code = running.revision.destination.as_ref()?;
    Some(match &running.installation.foreign {
        None => Arc::clone(code),
        foreign => destination::with(code, foreign.as_ref()).into(),
    })
}
