//! A person comes back from the authorization server.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use service_kit::status::Violations;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    client,
    grant::Grant,
    keeping::issued,
    pending::{self, Pending},
    plan::SignIn,
    requests,
    servers::{AuthorizationServers, Client, Metadata, ServerError},
    starting::{CALLBACK, signs_in},
};
use crate::domain::{
    changing::{stays, summary},
    credentials::{Credentials, Current, TRIES},
    destination::Present,
    error::Error,
    owner::Owner,
    ports::{Registry, Store, StoreError, Written},
    queue::Owed,
    record::{Record, Value},
    reporting::Done,
    views::Subject,
};

/// How long the authorization server may take. A browser waits, and the page behind it for 20 s.
const ANSWER: Duration = Duration::from_secs(15);
/// How long the code may wait to be sent.
const SENT: Duration = Duration::from_secs(4);
/// How long the store may be unavailable when there are tokens to store, and between two attempts.
const PATIENCE: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(50);

/// What the browser brought back.
#[derive(Debug)]
pub(crate) struct Returned {
    /// Whose browser it is.
    pub(crate) user: String,
    pub(crate) state: SecretString,
    pub(crate) code: SecretString,
    /// These are empty where the browser brought none.
    pub(crate) issuer: String,
    pub(crate) error: String,
    pub(crate) error_description: String,
    pub(crate) redirect_uri: String,
}

/// What a sign-in brought.
struct Connected {
    /// What stands for it in the record.
    taken: [u8; 32],
    grant: Grant,
    client: Client,
}

impl<S: Store, R: Registry, A: AuthorizationServers> Credentials<S, R, A> {
    /// Ends a sign-in, for the person who began it and once. `permits` asks whether the person still may: the server takes its time.
    pub(crate) async fn finish_authorization<F: Future<Output = Result<(), Error>> + Send>(
        &self,
        subject: Subject,
        returned: Returned,
        permits: impl Fn() -> F + Send + Sync,
    ) -> Result<Done, Error> {
        self.admit(&subject)?;
        let (plan, entry) = signs_in(&subject)?;
        let owner = subject.owner();
        // Before anything is sent anywhere: of two browsers with the same code, one goes on.
        let pending = self.take(&owner, &returned).await?;
        let present = self.present(&subject).await?.unwrap_or_default();
        if present.destination != pending.destination {
            return Err(Error::DestinationStale {
                present: present.destination,
            });
        }
        let metadata = self.authorization.servers.metadata(&pending.server).await?;
        if let Err(error) = check_answer(&metadata, &pending, &returned) {
            if returned.error == "invalid_scope" {
                // The upstream may have demanded what no server knows: nobody could ever connect again.
                self.forget_demanded(&owner).await?;
            }
            return Err(error);
        }
        let now = self.clock.now_micros();
        let before = without_tokens(&pending, now);
        if !before.fits(plan) {
            return Err(Error::AuthorizationStateInvalid);
        }
        let client = self.client_for(&subject, plan, &owner, &entry, &pending).await?;
        let request = requests::code(&pending, returned.code);
        let servers = &self.authorization.servers;
        let unavailable =
            |why: &str| Error::AuthorizationServerUnavailable(format!("{why}; connect the account again"));
        let turn = timeout(SENT, servers.turn(&metadata)).await;
        let turn = turn.map_err(|_| unavailable("the authorization server answers slowly"))??;
        if self.is_stopping() {
            return Err(unavailable("Chandlery is being stopped"));
        }
        let tokens = match timeout(ANSWER, servers.token(turn, &metadata, &client, &request)).await {
            Ok(Ok(tokens)) => tokens,
            Ok(Err(error)) => return Err(self.not_exchanged(&entry, &pending, error).await),
            Err(_) => return Err(unavailable("the authorization server did not answer in time")),
        };
        let mut grant = issued(&before, tokens, now);
        grant.declined = grant.lacks(&before.scopes);
        let connected = Connected {
            taken: pending.state,
            grant,
            client,
        };
        self.connect(subject, &owner, &entry, &present, connected, permits)
            .await
    }

    /// Marks the sign-in, so that nobody else finishes it. It stays in the record until then: whoever disconnects meanwhile removes it.
    async fn take(&self, owner: &Owner, returned: &Returned) -> Result<Pending, Error> {
        let hash = pending::hash(returned.state.expose_secret());
        for _ in 0..TRIES {
            let Some(Current { version, record }) = self.current(owner, 0).await? else {
                return Err(Error::AuthorizationStateInvalid);
            };
            let now = self.clock.now_micros();
            let mine = |one: &Pending| one.state == hash && one.user == returned.user && one.expire_time > now;
            let Some(index) = record.tokens.pending.iter().position(mine) else {
                return Err(Error::AuthorizationStateInvalid);
            };
            let mut next = record;
            let pending = next
                .tokens
                .pending
                .get_mut(index)
                .ok_or(Error::AuthorizationStateInvalid)?;
            pending.state = pending::taken(&hash);
            let pending = pending.clone();
            if self.store.write(owner, version, Value::Record(next)).await? == Written::Done {
                return Ok(pending);
            }
        }
        Err(Error::Contended)
    }

    async fn forget_demanded(&self, owner: &Owner) -> Result<(), Error> {
        self.amend(owner, |record| !std::mem::take(&mut record.tokens.demanded).is_empty())
            .await
            .map(drop)
    }

    async fn client_for(
        &self,
        subject: &Subject,
        plan: &SignIn,
        owner: &Owner,
        entry: &Owner,
        pending: &Pending,
    ) -> Result<Client, Error> {
        if let Some(authentication) = &pending.authentication {
            return Ok(Client {
                id: pending.client_id.clone(),
                authentication: authentication.clone(),
            });
        }
        let named = plan.client.as_ref().ok_or(Error::AuthorizationStateInvalid)?;
        let secrets = self.secrets(subject, owner, entry).await?;
        client::resolve(subject.plan(), &secrets, named)
    }

    async fn not_exchanged(&self, entry: &Owner, pending: &Pending, error: ServerError) -> Error {
        let ServerError::Refused { code, .. } = &error else {
            return error.into();
        };
        if code == "invalid_grant" {
            return Error::AuthorizationDenied(format!("the authorization server did not accept the sign-in: {error}"));
        }
        if matches!(code.as_str(), "invalid_client" | "unauthorized_client") && pending.authentication.is_some() {
            self.forget(entry, &pending.server, &pending.client_id).await;
        }
        error.into()
    }

    /// Stores the tokens, bound to what the person was shown. They cannot be issued again, so this waits for a registry or a store that is
    /// unavailable.
    async fn connect<F: Future<Output = Result<(), Error>> + Send>(
        &self,
        subject: Subject,
        owner: &Owner,
        entry: &Owner,
        present: &Present,
        connected: Connected,
        permits: impl Fn() -> F + Send + Sync,
    ) -> Result<Done, Error> {
        let answered = Instant::now();
        let owed = Owed::new(&self.queue, owner.clone());
        let next = loop {
            let until = self.authorization.stored_until(answered + PATIENCE);
            let permitted = timeout_at(until, permits()).await;
            let stored = match permitted.unwrap_or(Err(Error::RegistryUnavailable)) {
                Ok(()) => {
                    let attempt = self.try_connect(&subject, owner, entry, present, &connected);
                    let attempt = timeout_at(until, attempt).await;
                    attempt.unwrap_or_else(|_| Err(StoreError::late().into()))
                }
                Err(error) => Err(error),
            };
            match stored {
                Ok(stored) => break stored,
                Err(error @ (Error::Store(_) | Error::RegistryUnavailable)) if Instant::now() < until => {
                    tracing::warn!(credential.owner = %owner, error = %error, "a token could not be stored yet");
                    sleep(RETRY).await;
                }
                Err(error) => {
                    self.revoker.begin_unstored(owner, connected.grant, connected.client);
                    return Err(error);
                }
            }
        };
        tracing::info!(credential.owner = %owner, server.issuer = connected.grant.server.issuer(), "an account was connected");
        if !next.tokens.unrevoked.is_empty() {
            self.revoker.begin(owner);
        }
        let summary = summary(&subject, Some(present), &next, self.clock.now_micros());
        self.announce(&subject, owed, summary).await
    }

    /// The record with the grant, and with those that it replaces and that are to be revoked.
    async fn try_connect(
        &self,
        subject: &Subject,
        owner: &Owner,
        entry: &Owner,
        present: &Present,
        Connected { taken, grant, .. }: &Connected,
    ) -> Result<Record, Error> {
        for _ in 0..TRIES {
            let current = self.current(owner, self.reported(owner)).await?;
            let Current { version, record } = current.ok_or_else(|| Error::NotFound(subject.name()))?;
            let is_stored = |grant_: &Grant| grant_.access.expose_secret() == grant.access.expose_secret();
            if record.tokens.grant.as_ref().is_some_and(is_stored) {
                // The answer of an earlier attempt was lost.
                return Ok(record);
            }
            if !record.tokens.pending.iter().any(|one| one.state == *taken) {
                // Somebody disconnected while the server took its time.
                return Err(Error::AuthorizationStateInvalid);
            }
            let now = self.clock.now_micros();
            let stays = stays(&record, subject.plan(), owner.source(), &[], present)?;
            let (destination, agreed) = (present.destination.clone(), present.agreed.clone());
            let mut next = record.changed(now, stays, &[], destination, Some(agreed));
            let mut unrevoked = self.unrevoked(owner, subject.plan(), &record, Some(entry)).await;
            unrevoked.retain(|one| one.is_apart_from(grant));
            next.tokens = record.tokens.with(grant.clone());
            next.tokens.pending.retain(|one| one.state != *taken);
            next.tokens.unrevoked = unrevoked;
            let written = self.store.write(owner, version, Value::Record(next.clone())).await?;
            if written == Written::Done {
                return Ok(next);
            }
        }
        Err(Error::Contended)
    }
}

/// Who answered, and whether they say yes (RFC 9207, section 2.4; RFC 9700, section 4.4; RFC 6749, section 4.1.2.1).
fn check_answer(metadata: &Metadata, pending: &Pending, returned: &Returned) -> Result<(), Error> {
    let is_foreign = !metadata.issuer.is_empty() && returned.issuer != metadata.issuer;
    // Whoever does not say where the browser came back to must bring the name of who answered.
    let is_named = !returned.issuer.is_empty() && !is_foreign;
    let is_elsewhere = returned.redirect_uri != pending.redirect_uri && !(returned.redirect_uri.is_empty() && is_named);
    // What the server said when the sign-in began counts, too: then it got the redirect URI that others share.
    let must_be_named = metadata.sends_issuer || pending.redirect_uri.ends_with(CALLBACK);
    if is_elsewhere || is_foreign && (must_be_named || !returned.issuer.is_empty()) {
        tracing::warn!(server.issuer = %metadata.issuer, "a sign-in was answered by another authorization server, or by one that does not say who it is");
        return Err(Error::AuthorizationAnswerForeign(pending.server.issuer().to_owned()));
    }
    if !returned.error.is_empty() {
        let code = readable(&returned.error, 100);
        return Err(Error::AuthorizationDenied(
            match readable(&returned.error_description, 300) {
                description if description.is_empty() => format!("the authorization server answered {code}"),
                description => format!("the authorization server answered {code}: {description}"),
            },
        ));
    }
    if returned.code.expose_secret().is_empty() {
        let mut violations = Violations::new();
        violations.add("code", "must be set unless `error` is");
        return Err(Error::Invalid(violations));
    }
    Ok(())
}

/// A text of a stranger, which people read: printable ASCII (RFC 6749, appendix A.7), bounded.
fn readable(text: &str, length: usize) -> String {
    text.chars()
        .filter(|char| matches!(char, ' '..='~'))
        .take(length)
        .collect()
}

fn without_tokens(pending: &Pending, now: i64) -> Grant {
    Grant {
        server: pending.server.clone(),
        client_id: pending.client_id.clone(),
        authentication: pending.authentication.clone(),
        resource: pending.resource.clone(),
        scopes: pending.scopes.clone(),
        declined: Vec::new(),
        basis: [0; 32],
        access: "".into(),
        expire_time: None,
        refresh: None,
        account: String::new(),
        connect_time: now,
        refresh_time: now,
    }
}
