//! An issuer's signing keys: found by discovery, fetched again when a token names a key that is not known.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use jsonwebtoken::{
    DecodingKey,
    jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use tokio::sync::Mutex;

use super::issuer::{IssuerConfig, OidcEndpoints};

/// Keys are fetched again after this time, so that a withdrawn key dies.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Unknown key ids cause at most so many fetches in this time: anybody can send them.
const FETCHES: usize = 5;
const WINDOW: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 1 << 20;

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    config: IssuerConfig,
    http: reqwest::Client,
    current: ArcSwapOption<Fetched>,
    attempts: Mutex<VecDeque<Instant>>,
}

#[derive(Debug)]
struct Fetched {
    at: Instant,
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

/// The issuer cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreachable(String);

impl Keys {
    pub(super) fn new(config: IssuerConfig, http: reqwest::Client) -> Self {
        Self {
            config,
            http,
            current: ArcSwapOption::empty(),
            attempts: Mutex::default(),
        }
    }

    /// The key with this id, fetching when it is not known; `None` if the issuer has no such key.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Option<Arc<Key>>, Unreachable> {
        let id = id.map(str::to_owned);
        if let Some(fetched) = self.current.load().as_ref()
            && fetched.at.elapsed() < MAX_AGE
            && let Some(key) = fetched.find(&id)
        {
            return Ok(Some(key));
        }
        let mut attempts = self.attempts.lock().await;
        let known = self.current.load_full();
        // Somebody else may have fetched while this call waited for the lock.
        if let Some(fetched) = &known
            && fetched.at.elapsed() < MAX_AGE
            && let Some(key) = fetched.find(&id)
        {
            return Ok(Some(key));
        }
        while attempts.front().is_some_and(|at| at.elapsed() > WINDOW) {
            attempts.pop_front();
        }
        if let Some(fetched) = &known
            && attempts.len() >= FETCHES
        {
            return Ok(fetched.find(&id));
        }
        attempts.push_back(Instant::now());
        match self.fetch().await {
            Ok(fetched) => {
                let key = fetched.find(&id);
                self.current.store(Some(Arc::new(fetched)));
                Ok(key)
            }
            Err(error) => {
                tracing::warn!(oidc.issuer = %self.config.issuer, error = %error, "the issuer's keys could not be fetched");
                // Old keys are better than none while the issuer is away.
                match known.and_then(|fetched| fetched.find(&id)) {
                    Some(key) => Ok(Some(key)),
                    None => Err(error),
                }
            }
        }
    }

    async fn fetch(&self) -> Result<Fetched, Unreachable> {
        let metadata = endpoints(&self.http, &self.config).await?;
        let set: JwkSet = get_json(&self.http, &metadata.jwks_uri).await?;
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
            at: Instant::now(),
            keys,
        })
    }
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

/// The issuer's metadata, checked to be that issuer's.
pub(super) async fn endpoints(http: &reqwest::Client, config: &IssuerConfig) -> Result<OidcEndpoints, Unreachable> {
    let metadata: OidcEndpoints = get_json(http, &config.metadata_url()).await?;
    if metadata.issuer != config.issuer {
        return Err(Unreachable(format!(
            "its metadata names another issuer, {}",
            metadata.issuer
        )));
    }
    Ok(metadata)
}

async fn get_json<T: serde::de::DeserializeOwned>(http: &reqwest::Client, url: &str) -> Result<T, Unreachable> {
    let fail = |error: &dyn std::fmt::Display| Unreachable(format!("{url}: {error}"));
    let mut response = http
        .get(url)
        .timeout(Duration::from_secs(10))
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
