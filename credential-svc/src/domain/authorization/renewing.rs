//! Gets another token: once for all callers and all replicas, and stored before anybody uses it.
//!
//! Who asks the authorization server holds a lease in the owner's record, and the number of the token that is replaced decides whether
//! the answer is still wanted. Whatever happens in between, the record has a token that works, or the next attempt finds out why it does
//! not: a process that dies leaves its lease to expire, or to the next one where that has the store for itself.

use std::time::Duration;

use service_kit::clock::to_micros;
use tokio::time::{Instant, sleep};

use super::{
    asking::{ANSWER, Asking, SENT},
    attempts::{Basis, Trouble},
    grant::Lease,
    servers::{AuthorizationServers, ServerError},
};
use crate::domain::{
    credentials::{Credentials, Current},
    error::Error,
    owner::Owner,
    ports::{Registry, Store, Written},
    record::{Record, Value},
    state::State,
};

/// How long a lease lasts. The request is sent within [`SENT`] of it, and the server has [`ANSWER`] from then on: well before the end of the
/// lease, so that the answer can be stored.
const LEASE: Duration = Duration::from_secs(40);
const _: () = assert!(SENT.as_secs() + ANSWER.as_secs() + 5 < LEASE.as_secs());
/// How often a record is read while another process has the lease.
const POLL: Duration = Duration::from_millis(100);
/// The token that is to be replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// As `Tokens::number`.
    pub(crate) number: i64,
    pub(crate) basis: Basis,
    pub(crate) why: Why,
}

/// Why another token is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// There is none, or it expires.
    Age,
    /// The upstream rejected it.
    Rejected,
}

impl<S: Store, R: Registry, A: AuthorizationServers> Credentials<S, R, A> {
    /// Replaces a token. Whether it succeeded is seen in the record and in the attempts.
    pub(crate) async fn renew(&self, uid: &str, order: Order) {
        let owner = Owner::Installation(uid.to_owned());
        let outcome = self.try_renew(&owner, &order).await;
        let (now, attempts) = (self.clock.now_micros(), &self.authorization.attempts);
        match outcome {
            Ok(()) => attempts.succeeded(&owner),
            Err(trouble) => {
                tracing::warn!(credential.owner = %owner, error = ?trouble, "no other token was issued");
                attempts.failed(&owner, order.basis, now, trouble);
            }
        }
    }

    async fn try_renew(&self, owner: &Owner, order: &Order) -> Result<(), Trouble> {
        let until = Instant::now() + LEASE;
        let Some(leased) = self.lease(owner, order.number, until).await? else {
            return Ok(());
        };
        // With the present secrets of the client, which may have been replaced while another process had the lease.
        let state = self.state(owner).await.map_err(|error| Trouble::own(&error))?;
        let state = state.filter(|state| !state.deleted && state.secrets.own.tokens.number == order.number);
        let Some(state) = state else { return Ok(()) };
        let Some(asking) = self.asking(&state)? else {
            return Ok(());
        };
        match self.ask(&asking, leased + SENT).await {
            Ok(answer) => self.keep(owner, order, &asking, answer).await,
            Err(error) => self.refused(owner, order, &state, &asking, error).await,
        }
    }

    /// Takes the lease, or waits while another process has it. Returns since when it lasts; `None`: the token was replaced meanwhile, or
    /// nobody wants it any more.
    async fn lease(&self, owner: &Owner, number: i64, until: Instant) -> Result<Option<Instant>, Trouble> {
        let holder = self.authorization.holder;
        loop {
            let current = self.current(owner, 0).await.map_err(|error| Trouble::own(&error))?;
            let Some(Current { version, record }) = current else {
                return Ok(None);
            };
            if record.tokens.number != number || record.tokens.failure.is_some() {
                return Ok(None);
            }
            let (now, since) = (self.clock.now_micros(), Instant::now());
            // An own lease is left over: there is one attempt at a time in this process. What its server answered is lost; whether it has rotated
            // the refresh token, the next answer says.
            if record
                .tokens
                .lease
                .is_some_and(|lease| lease.holder != holder && lease.until > now)
            {
                if Instant::now() > until {
                    return Err(Trouble::Unavailable(
                        "another replica has been getting a token for too long".to_owned(),
                    ));
                }
                sleep(POLL).await;
                continue;
            }
            let mut next = record;
            next.tokens.lease = Some(Lease {
                holder,
                until: now + to_micros(std::time::UNIX_EPOCH + LEASE),
            });
            let written = self.store.write(owner, version, Value::Record(next)).await;
            if written.map_err(|error| Trouble::own(&error.into()))? == Written::Done {
                return Ok(Some(since));
            }
        }
    }

    /// Another token was refused, or cannot be had now.
    async fn refused(
        &self,
        owner: &Owner,
        order: &Order,
        state: &State,
        asking: &Asking,
        error: ServerError,
    ) -> Result<(), Trouble> {
        let code = match &error {
            ServerError::Refused { code, .. } if !is_transient(code) => code.as_str(),
            _ => "",
        };
        let is_account = asking.grant.refresh.is_some();
        let is_registered = asking.grant.authentication.is_some();
        let client_is_unknown = matches!(code, "invalid_client" | "unauthorized_client") && is_registered;
        if client_is_unknown {
            self.forget(&state.entry, &asking.server, &asking.client.id).await;
        }
        if is_account && (ends_the_grant(&error) || client_is_unknown) {
            let why = format!("the authorization server does not renew the token: {error}");
            return self
                .fail(owner, order.number, &why)
                .await
                .map_err(|error| Trouble::own(&error));
        }
        let (trouble, refusal) = match error {
            ServerError::Refused { .. } if code.is_empty() => (Trouble::Unavailable(error.to_string()), None),
            ServerError::Unreachable(why) | ServerError::Unavailable(why) => (Trouble::Unavailable(why), None),
            ServerError::Full(why) => (Trouble::Full(why), None),
            ServerError::Busy { why, pause } => (Trouble::Busy { why, pause }, None),
            // What it answers is no OAuth, as where something stands before it: no person who connects again mends that.
            ServerError::Unusable(why) if is_account => (Trouble::Unavailable(why.clone()), Some(why)),
            ServerError::Refused { .. } | ServerError::Unusable(_) => {
                let why = format!(
                    "the authorization server issues no token: {error}; an admin must check the client, its secret and what the entry asks for"
                );
                (Trouble::Refused(why.clone()), Some(why))
            }
        };
        self.release(owner, order.number, refusal).await;
        Err(trouble)
    }

    /// Marks an installation: a person must connect again.
    async fn fail(&self, owner: &Owner, number: i64, why: &str) -> Result<(), Error> {
        let mark = |record: &mut Record| {
            let is_wanted = record.tokens.number == number;
            if is_wanted {
                record.tokens.lease = None;
                record.tokens.failure = Some(why.to_owned());
            }
            is_wanted
        };
        if self.amend(owner, mark).await? {
            tracing::warn!(credential.owner = %owner, reason = why, "a person must connect the account again");
            self.queue.add([owner.clone()]);
        }
        Ok(())
    }

    /// Notes that a token is refused that nothing renews. The account stays connected: some upstreams reject a token for one tool, and take it
    /// for others.
    pub(super) async fn note_refusal(&self, owner: &Owner, number: i64, why: &str) -> Result<(), Error> {
        let note = |record: &mut Record| {
            let is_news = record.tokens.number == number && record.tokens.refusal.is_none();
            if is_news {
                record.tokens.refusal = Some(why.to_owned());
            }
            is_news
        };
        self.amend(owner, note).await.map(drop)
    }

    /// Gives the lease back, and notes a refusal. If that fails, the lease expires.
    async fn release(&self, owner: &Owner, number: i64, refusal: Option<String>) {
        let Ok(Some(Current { version, record })) = self.current(owner, 0).await else {
            return;
        };
        let holder = self.authorization.holder;
        if record.tokens.number == number && record.tokens.lease.is_some_and(|lease| lease.holder == holder) {
            let mut next = record;
            next.tokens.lease = None;
            next.tokens.refusal = refusal.or(next.tokens.refusal);
            if let Err(error) = self.store.write(owner, version, Value::Record(next)).await {
                tracing::debug!(credential.owner = %owner, error = %error, "a lease was not given back; it expires");
            }
        }
    }
}

/// Whether a server will never renew a token again. By RFC 6749, section 5.2, it says `invalid_grant`. Others have codes of their own for it, such
/// as GitHub's `bad_refresh_token` or `interaction_required` of Microsoft Entra ID; Atlassian says `unauthorized_client`, and that the refresh
/// token is invalid. What remains is a fault of the entry, its client or the request, which a person who connects again does not mend.
fn ends_the_grant(error: &ServerError) -> bool {
    let ServerError::Refused { code, description } = error else {
        return false;
    };
    match code.as_str() {
        "unauthorized_client" => description.contains("refresh"),
        "invalid_client" | "invalid_request" | "invalid_scope" | "invalid_target" | "unsupported_grant_type" => false,
        code => !is_transient(code),
    }
}

/// Errors that some servers answer with 400 although a retry may succeed.
fn is_transient(code: &str) -> bool {
    matches!(code, "temporarily_unavailable" | "server_error" | "slow_down")
}
