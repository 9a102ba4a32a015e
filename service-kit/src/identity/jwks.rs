//! An issuer's signing keys and endpoints: found by discovery, refreshed in the background.
//!
//! Verifying a token waits for a fetch only if no usable keys are known, if the token names an unknown key, or briefly
//! if the keys are old. All who wait share one fetch, and the number of fetches is limited, since outsiders can name
//! any key.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwapOption;
use jsonwebtoken::{
    DecodingKey,
    jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use tokio::{sync::watch, time::timeout};
use url::Url;

use super::issuer::{IssuerConfig, OidcEndpoints};
use crate::clock::Clock;

/// A token that arrives when the keys are older than this starts a fetch in the background.
const REFRESH_AFTER: Duration = Duration::from_secs(300);
/// A token that arrives when the keys are older than this waits for a fetch, so that a withdrawn key is rejected even
/// if no token arrived for long. It waits for at most `BRIEFLY`, and not at all if the issuer failed to respond before.
const WAIT_AFTER: Duration = Duration::from_secs(600);
const BRIEFLY: Duration = Duration::from_secs(2);
/// While the issuer is unreachable, its last keys are used until they are older than this.
const GOOD_FOR: Duration = Duration::from_secs(3_600);
/// How many fetches may begin within `WINDOW`, for all callers together.
const FETCHES: usize = 3;
const WINDOW: Duration = Duration::from_secs(30);
/// The back-off after a failure, which doubles with each further one, and its maximum.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(32);
/// The timeout of a fetch, which is two requests.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 1 << 20;

/// The keys of one issuer. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Keys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: IssuerConfig,
    http: reqwest::Client,
    clock: Clock,
    current: ArcSwapOption<Fetched>,
    flight: Mutex<Flight>,
}

/// The fetch in progress, and the history by which the next one is delayed.
#[derive(Debug, Default)]
struct Flight {
    /// Closes when the fetch ends.
    under_way: Option<watch::Receiver<()>>,
    begun: VecDeque<Instant>,
    ended: Option<Instant>,
    /// Failures in a row.
    failures: u32,
}

impl Flight {
    fn may_begin(&mut self) -> bool {
        while self.begun.front().is_some_and(|at| at.elapsed() > WINDOW) {
            self.begun.pop_front();
        }
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => PAUSE.saturating_mul(1 << (failures - 1).min(8)).min(MAX_PAUSE),
        };
        self.begun.len() < FETCHES && self.ended.is_none_or(|ended| ended.elapsed() >= pause)
    }
}

#[derive(Debug)]
struct Fetched {
    at: SystemTime,
    endpoints: OidcEndpoints,
    keys: HashMap<Option<String>, Arc<Key>>,
}

pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    pub(super) algorithm: Option<KeyAlgorithm>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The issuer is unreachable, and the keys that are known are not enough.
#[derive(Debug)]
pub(super) struct Unreachable;

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

impl Keys {
    pub(super) fn new(config: IssuerConfig, http: reqwest::Client, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            config,
            http,
            clock,
            current: ArcSwapOption::empty(),
            flight: Mutex::default(),
        }))
    }

    /// Returns the key with this id; `None` if the issuer has no such key.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Option<Arc<Key>>, Unreachable> {
        let id = id.map(str::to_owned);
        if let Some(key) = self.known().await.and_then(|known| known.find(&id)) {
            return Ok(Some(key));
        }
        // The key may be new: it is unknown only to those who have seen the issuer's present keys.
        if !self.fetched(TIMEOUT).await {
            return Err(Unreachable);
        }
        let known = self.known().await.ok_or(Unreachable)?;
        Ok(known.find(&id))
    }

    /// The issuer's endpoints.
    pub(super) async fn endpoints(&self) -> Result<OidcEndpoints, Unreachable> {
        if self.known().await.is_none() {
            self.fetched(TIMEOUT).await;
        }
        let known = self.known().await.ok_or(Unreachable)?;
        Ok(known.endpoints.clone())
    }

    /// The last keys that were fetched, unless they are too old.
    async fn known(&self) -> Option<Arc<Fetched>> {
        let age = |known: &Fetched| self.0.clock.now().duration_since(known.at).unwrap_or_default();
        let last = age(&*self.0.current.load_full()?);
        if last > WAIT_AFTER && self.flight().failures == 0 {
            self.fetched(BRIEFLY).await;
        } else if last > REFRESH_AFTER {
            self.fetch();
        }
        self.0.current.load_full().filter(|known| age(known) < GOOD_FOR)
    }

    /// Waits for the fetch in progress, or for one that begins now. Returns whether there were keys: not if it failed, takes longer, or may not
    /// begin yet.
    async fn fetched(&self, patience: Duration) -> bool {
        let Some(mut ended) = self.fetch() else { return false };
        timeout(patience, ended.changed()).await.is_ok() && self.flight().failures == 0
    }

    /// Begins a fetch, unless one is in progress or it is too soon. The receiver closes when the fetch ends.
    fn fetch(&self) -> Option<watch::Receiver<()>> {
        let mut flight = self.flight();
        if let Some(ended) = &flight.under_way {
            return Some(ended.clone());
        }
        if !flight.may_begin() {
            return None;
        }
        flight.begun.push_back(Instant::now());
        let (end, ended) = watch::channel(());
        flight.under_way = Some(ended.clone());
        let keys = self.clone();
        // A separate task: the caller that started the fetch may be cancelled.
        tokio::spawn(async move {
            let fetched = timeout(TIMEOUT, fetch(&keys.0)).await;
            let failure = match fetched {
                Ok(Ok(fetched)) => {
                    keys.0.current.store(Some(Arc::new(fetched)));
                    None
                }
                Ok(Err(error)) => Some(error),
                Err(_late) => Some(Failed("it does not answer".to_owned())),
            };
            let mut flight = keys.flight();
            flight.under_way = None;
            flight.ended = Some(Instant::now());
            flight.failures = failure.as_ref().map_or(0, |_| flight.failures.saturating_add(1));
            drop(flight);
            if let Some(error) = failure {
                tracing::warn!(oidc.issuer = %keys.0.config.issuer, error = %error, "the issuer's keys could not be fetched");
            }
            drop(end);
        });
        Some(ended)
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.0.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(inner: &Inner) -> Result<Fetched, Failed> {
    let endpoints: OidcEndpoints = get_json(&inner.http, &inner.config.metadata_url()).await?;
    if endpoints.issuer != inner.config.issuer {
        return Err(Failed(format!(
            "its metadata names another issuer, {}",
            endpoints.issuer
        )));
    }
    let set: JwkSet = get_json(&inner.http, &endpoints.jwks_uri).await?;
    let keys = set
        .keys
        .iter()
        .filter(|jwk| is_for_signatures(jwk))
        .filter_map(|jwk| {
            let decoding = DecodingKey::from_jwk(jwk).ok()?;
            let key = Key {
                decoding,
                algorithm: jwk.common.key_algorithm,
            };
            Some((jwk.common.key_id.clone(), Arc::new(key)))
        })
        .collect();
    Ok(Fetched {
        at: inner.clock.now(),
        endpoints,
        keys,
    })
}

impl Fetched {
    /// A token without a key id is verified by the only key, if there is exactly one.
    fn find(&self, id: &Option<String>) -> Option<Arc<Key>> {
        match id {
            Some(_) => self.keys.get(id).cloned(),
            None if self.keys.len() == 1 => self.keys.values().next().cloned(),
            None => None,
        }
    }
}

/// Symmetric keys do not belong in a public set: with one, anybody could sign tokens.
fn is_for_signatures(jwk: &Jwk) -> bool {
    let symmetric = matches!(jwk.algorithm, jsonwebtoken::jwk::AlgorithmParameters::OctetKey(_));
    let encryption = matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
    !symmetric && !encryption
}

async fn get_json<T: serde::de::DeserializeOwned>(http: &reqwest::Client, url: &str) -> Result<T, Failed> {
    let fail = |error: &dyn std::fmt::Display| Failed(format!("{url}: {error}"));
    if !is_trustworthy(url) {
        return Err(fail(&"keys are fetched by https only, except from this machine"));
    }
    let mut response = http
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| fail(&error.without_url()))?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| fail(&error.without_url()))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(fail(&"the answer is too large"));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|error| fail(&error))
}

/// Whether the response comes unchanged from the issuer. Without TLS, an attacker in between could insert keys.
pub(super) fn is_trustworthy(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let is_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || url.scheme() == "http" && is_here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        for url in [
            "https://id.example.com/keys",
            "http://localhost:1/k",
            "http://127.0.0.1/k",
            "http://[::1]:8080/",
        ] {
            assert!(is_trustworthy(url), "{url}");
        }
        for url in [
            "http://id.example.com/",
            "http://10.0.0.1/",
            "file:///keys",
            "http://localhost.example.com/",
            "keys",
        ] {
            assert!(!is_trustworthy(url), "{url}");
        }
    }
}
