//! An issuer's signing keys and endpoints: found by discovery, fetched again in the background.
//!
//! A token waits for a fetch only where no usable keys are known, where it names a key that is not, or for a moment where nobody has asked
//! for long: such a fetch is one for all who wait, and outsiders, who can name any key, cause few of them.

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

/// Keys older than this are fetched again beside the token that came.
const REFRESH_AFTER: Duration = Duration::from_secs(300);
/// A token waits until keys older than this were fetched again, so that a withdrawn key is refused from then on, also where no token came
/// for long. It waits for `BRIEFLY`, and not at all for an issuer that failed to answer before.
const WAIT_AFTER: Duration = Duration::from_secs(600);
const BRIEFLY: Duration = Duration::from_secs(2);
/// While the issuer does not answer, its last keys are good until they are older than this.
const GOOD_FOR: Duration = Duration::from_secs(3_600);
/// How many fetches may begin within this time, for all callers together.
const FETCHES: usize = 3;
const WINDOW: Duration = Duration::from_secs(30);
/// The pause after a failure, which doubles with each further one, and where that ends.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(32);
/// A fetch takes no longer, however many requests it is made of.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 1 << 20;

/// The keys of one issuer; clones share them.
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

/// The fetch that is under way, and the ones before.
#[derive(Debug, Default)]
struct Flight {
    /// Ends when it does.
    under_way: Option<watch::Receiver<()>>,
    begun: VecDeque<Instant>,
    ended: Option<Instant>,
    /// In a row.
    failures: u32,
}

impl Flight {
    /// Whether another fetch may begin.
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

/// A key that verifies signatures.
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

/// The issuer cannot be asked, and what is known of it does not tell.
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

    /// The key with this id; `None` if the issuer has no such key.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Option<Arc<Key>>, Unreachable> {
        let id = id.map(str::to_owned);
        if let Some(key) = self.known().await.and_then(|known| known.find(&id)) {
            return Ok(Some(key));
        }
        // It may be new.
        if !self.fetched(PATIENCE).await {
            return Err(Unreachable);
        }
        let known = self.known().await.ok_or(Unreachable)?;
        Ok(known.find(&id))
    }

    /// What the issuer is asked through.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    /// Where the issuer is to be asked for what.
    pub(super) async fn endpoints(&self) -> Result<OidcEndpoints, Unreachable> {
        if self.known().await.is_none() {
            self.fetched(PATIENCE).await;
        }
        let known = self.known().await.ok_or(Unreachable)?;
        Ok(known.endpoints.clone())
    }

    /// What was fetched last, as long as it is good.
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

    /// Waits for the fetch that is under way, or one that begins now. `false`: it is too soon for another.
    async fn fetched(&self, patience: Duration) -> bool {
        let Some(mut ended) = self.fetch() else { return false };
        let _late = timeout(patience, ended.changed()).await;
        true
    }

    /// Begins a fetch, unless one is under way or it is too soon. The receiver closes when it ends.
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
        // Of its own: whoever asked for it may go away.
        tokio::spawn(async move {
            let fetched = timeout(PATIENCE, fetch(&keys.0)).await;
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
    /// A token without a key id is verified by the only key there is.
    fn find(&self, id: &Option<String>) -> Option<Arc<Key>> {
        match id {
            Some(_) => self.keys.get(id).cloned(),
            None if self.keys.len() == 1 => self.keys.values().next().cloned(),
            None => None,
        }
    }
}

/// Symmetric keys have no place in a public set, and one that came in would verify what anybody signed.
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

/// Whether what comes from there is what its owner sent: whoever sits between could put in keys of their own.
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
