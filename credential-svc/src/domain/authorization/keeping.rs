//! Keeps what a server issued, which it never issues again.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use service_kit::clock::to_micros;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    asking::{Answer, Asking},
    attempts::Trouble,
    grant::Grant,
    renewing::{Order, Why},
    scopes,
    servers::{AuthorizationServers, Tokens},
};
use crate::domain::{
    credentials::{Credentials, Current, TRIES},
    error::Error,
    owner::Owner,
    ports::{Registry, Store, StoreError, Written},
    record::{Record, Value},
};

/// The first pause between attempts to store a token, and the longest.
const RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// How long one may take. One that is under way when the process begins to stop ends before the store is given up.
const ATTEMPT: Duration = Duration::from_secs(20);
/// How long they go on. While the store is away, nobody else can take the lease, either.
const STORED: Duration = Duration::from_secs(15 * 60);
/// A token is used this long at least, whatever its server says: one that is rejected earlier is reported by the upstream.
const SHORTEST: Duration = Duration::from_secs(5);

/// How an attempt to store a token ended.
enum Kept {
    Stored,
    /// Another was issued meanwhile.
    Superseded,
    /// The account was disconnected meanwhile, or its owner deleted.
    Unwanted,
}

impl<S: Store, R: Registry, A: AuthorizationServers> Credentials<S, R, A> {
    /// Stores a token, and until then nobody gets it: a refresh token that was rotated is of no use any more.
    pub(super) async fn keep(
        &self,
        owner: &Owner,
        order: &Order,
        asking: &Asking,
        Answer { tokens, asked_at }: Answer,
    ) -> Result<(), Trouble> {
        let granted = issued(&asking.grant, tokens, asked_at);
        let (answered, mut pause, mut may_be_stored) = (Instant::now(), RETRY, false);
        let until = || self.authorization.stored_until(answered + STORED);
        loop {
            let attempt = self.try_keep(owner, order.number, &granted, &mut may_be_stored);
            let attempt = timeout_at(until().min(Instant::now() + ATTEMPT), attempt).await;
            match attempt.unwrap_or_else(|_| Err(StoreError::late().into())) {
                Ok(Kept::Stored) => {
                    if matches!(order.why, Why::Rejected) {
                        self.authorization.attempts.replaced(owner, asked_at, order.number + 1);
                    }
                    tracing::info!(credential.owner = %owner, token.number = order.number + 1, "another token was issued");
                    return Ok(());
                }
                Ok(Kept::Unwanted) => {
                    tracing::info!(credential.owner = %owner, "a token was issued that nobody wants any more");
                    self.revoker.begin_unstored(owner, granted, asking.client.clone());
                    return Ok(());
                }
                Ok(Kept::Superseded) => return Ok(()),
                Err(Error::Contended) if Instant::now() < until() => {}
                Err(error) if Instant::now() >= until() => {
                    tracing::error!(credential.owner = %owner, error = %error, "a token was issued that could not be stored: it is lost");
                    // What is stored after all must go on.
                    if !may_be_stored && replaces(&granted, &asking.grant) {
                        self.revoker.begin_unstored(owner, granted, asking.client.clone());
                    }
                    return Err(Trouble::own(&error));
                }
                Err(error) => {
                    tracing::warn!(credential.owner = %owner, error = %error, "a token could not be stored yet");
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// `may_be_stored`: whether it may be, as far as the store has answered.
    async fn try_keep(
        &self,
        owner: &Owner,
        number: i64,
        granted: &Grant,
        may_be_stored: &mut bool,
    ) -> Result<Kept, Error> {
        for _ in 0..TRIES {
            let Some(Current { version, record }) = self.current(owner, 0).await? else {
                return Ok(Kept::Unwanted);
            };
            if record.tokens.number != number {
                return Ok(match &record.tokens.grant {
                    // An attempt to store it succeeded, and its answer was lost.
                    Some(grant) if grant.access.expose_secret() == granted.access.expose_secret() => Kept::Stored,
                    Some(_) => Kept::Superseded,
                    None => Kept::Unwanted,
                });
            }
            let tokens = record.tokens.with(granted.clone());
            let next = Record { tokens, ..record };
            *may_be_stored = true;
            let written = self.store.write(owner, version, Value::Record(next)).await?;
            *may_be_stored = false;
            if written == Written::Done {
                return Ok(Kept::Stored);
            }
        }
        Err(Error::Contended)
    }
}

/// The grant with what was issued.
pub(super) fn issued(before: &Grant, tokens: Tokens, asked_at: i64) -> Grant {
    let lives = tokens
        .expires_in
        .map(|life| to_micros(std::time::UNIX_EPOCH + life.max(SHORTEST)));
    Grant {
        access: tokens.access,
        expire_time: lives.map(|life| asked_at.saturating_add(life)),
        // Not every server rotates it.
        refresh: tokens.refresh.or_else(|| before.refresh.clone()),
        scopes: tokens
            .scopes
            .map_or_else(|| before.scopes.clone(), |scopes| scopes::union(scopes, [])),
        account: tokens.account.unwrap_or_else(|| before.account.clone()),
        refresh_time: asked_at,
        ..before.clone()
    }
}

/// Whether nothing of a former grant goes on in the new one. Where its refresh token does, the owner still has it, and revoking the new access
/// token would end it at many servers.
fn replaces(new: &Grant, former: &Grant) -> bool {
    let exposed = |grant: &Grant| grant.refresh.as_ref().map(|token| token.expose_secret().to_owned());
    former.refresh.is_none() || exposed(former) != exposed(new)
}
