//! The token in use. It is renewed before it ends, and replaced where Vault no longer accepts it.

use std::{sync::Arc, time::Duration};

use rustify::Endpoint;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Answer, Client},
    failure::Failure,
    login::{Login, Token},
};

/// After a login failed, how long other requests get its failure instead of another attempt.
const PAUSE: Duration = Duration::from_secs(1);
/// A token of this age is replaced where Vault denies something: it may have been made before its role got the policy.
const OLD: Duration = Duration::from_secs(60);
/// The shortest time between two attempts to renew a token.
const SHORTEST: Duration = Duration::from_millis(500);
/// The longest time between them.
const LONGEST: Duration = Duration::from_secs(3600);

/// A session with Vault.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    login: Login,
    pub(super) current: watch::Sender<Option<Arc<Token>>>,
    /// Held during a login, so that there is one at a time. When the last one failed, and why.
    failed: Mutex<Option<(Instant, Failure)>>,
}

impl Session {
    pub(super) fn new(client: Client, login: Login) -> Self {
        Self {
            client,
            login,
            current: watch::Sender::new(None),
            failed: Mutex::new(None),
        }
    }

    /// The answer to a request. If Vault denies it because the token has ended, it is sent once more with another: what was denied was
    /// not done.
    pub(super) async fn ask<E: Endpoint>(&self, request: impl Fn() -> E) -> Result<Answer, Failure> {
        let token = self.token().await?;
        let answer = self.client.ask(Some(&token.secret), request()).await?;
        if answer.status() != 403 {
            return Ok(answer);
        }
        match self.instead(&token).await? {
            Some(token) => self.client.ask(Some(&token.secret), request()).await,
            None => Ok(answer),
        }
    }

    /// A token that has not ended.
    pub(super) async fn token(&self) -> Result<Arc<Token>, Failure> {
        if let Some(token) = self.usable() {
            return Ok(token);
        }
        let mut failed = self.failed.lock().await;
        match self.usable() {
            Some(token) => Ok(token),
            None => self.log_in(&mut failed).await,
        }
    }

    /// A token to use instead of one with which a request was denied; `None` where another token would not help.
    pub(super) async fn instead(&self, denied: &Arc<Token>) -> Result<Option<Arc<Token>>, Failure> {
        let mut failed = self.failed.lock().await;
        if let Some(token) = self.usable()
            && !Arc::ptr_eq(&token, denied)
        {
            return Ok(Some(token));
        }
        let may_help = denied.since.elapsed() > OLD && self.login.has_other(denied).await;
        if !may_help && denied.is_valid(&self.client).await? {
            return Ok(None);
        }
        self.log_in(&mut failed).await.map(Some)
    }

    async fn log_in(&self, failed: &mut Option<(Instant, Failure)>) -> Result<Arc<Token>, Failure> {
        if let Some((since, failure)) = failed
            && since.elapsed() < PAUSE
        {
            return Err(failure.clone());
        }
        match self.login.token(&self.client).await {
            Ok(token) => {
                *failed = None;
                tracing::info!(
                    vault.token_seconds = token.lifetime.map(|lifetime| lifetime.as_secs()),
                    "logged in to Vault"
                );
                let token = Arc::new(token);
                self.current.send_replace(Some(Arc::clone(&token)));
                Ok(token)
            }
            Err(failure) => {
                *failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    fn usable(&self) -> Option<Arc<Token>> {
        let token = self.current.borrow().clone()?;
        (token.left() != Some(Duration::ZERO)).then_some(token)
    }

    /// Renews the token at two thirds of its life, and replaces one that cannot be renewed, until `stop` is cancelled.
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let forever = async {
            let mut changes = self.current.subscribe();
            loop {
                let token = changes.borrow_and_update().clone();
                let Some((token, lifetime)) = token.and_then(|token| Some((Arc::clone(&token), token.lifetime?)))
                else {
                    // The session itself has the sender.
                    let _ = changes.changed().await;
                    continue;
                };
                let due = token.since + lifetime * 2 / 3;
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    _ = changes.changed() => continue,
                }
                if self.prolong(&token).await {
                    continue;
                }
                // More often toward the end. After it, the next request logs in.
                let left = token.left().unwrap_or_default();
                tokio::select! {
                    () = sleep((left / 3).clamp(SHORTEST, LONGEST)), if !left.is_zero() => {}
                    _ = changes.changed() => {}
                }
            }
        };
        tokio::select! {
            () = forever => {}
            () = stop.cancelled() => {}
        }
    }

    /// Renews or replaces a token; whether that succeeded.
    async fn prolong(&self, token: &Arc<Token>) -> bool {
        let mut failed = self.failed.lock().await;
        if self
            .current
            .borrow()
            .as_ref()
            .is_none_or(|current| !Arc::ptr_eq(current, token))
        {
            return true;
        }
        let left = token.left();
        let seconds_left = left.map(|left| left.as_secs());
        let tried_again = |failure: &Failure| {
            tracing::warn!(vault.seconds_left = seconds_left, error = %failure, "the token for Vault was not renewed; it is tried again");
            false
        };
        if token.is_renewable && left != Some(Duration::ZERO) {
            match token.renewed(&self.client).await {
                // Near the end of the longest life that Vault allows it, it gets no more than was left.
                Ok(renewed) if renewed.left() > left.map(|left| left + SHORTEST) => {
                    tracing::debug!("renewed the token for Vault");
                    self.current.send_replace(Some(Arc::new(renewed)));
                    return true;
                }
                Ok(_) | Err(Failure::Denied { .. } | Failure::Failed(400)) => {}
                Err(failure) => return tried_again(&failure),
            }
        }
        if !self.login.has_other(token).await {
            tracing::warn!(
                vault.seconds_left = seconds_left,
                "the token for Vault cannot be renewed, and there is no other: put a new one into its file, or restart with one"
            );
            return false;
        }
        match self.log_in(&mut failed).await {
            Ok(_) => true,
            Err(failure) => tried_again(&failure),
        }
    }
}
