//! What people do to a credential: put, confirm, delete.

use registry_model::destination::{covers, readable};
use secrecy::{ExposeSecret as _, SecretString};
use service_kit::status::Violations;
use uuid::Uuid;

use super::{
    authorization::{scopes, servers::AuthorizationServers},
    credentials::{Credentials, Current, TRIES},
    destination::{Moved, Present},
    error::Error,
    owner::{Owner, Source},
    plan::Plan,
    ports::{Registry, Store, StoreError, Written},
    queue::Owed,
    record::{Record, Value},
    replay::{Answer, Request},
    reporting::Done,
    summary::{Connection, Summary},
    validate,
    views::Subject,
};

/// A request to store values.
#[derive(Debug)]
pub(crate) struct Put {
    /// The person, for request ids.
    pub(crate) user: String,
    pub(crate) values: Vec<(String, SecretString)>,
    /// Where they may go, if the person was shown that.
    pub(crate) destination: Option<String>,
    pub(crate) request_id: Option<Uuid>,
    /// Found while the request was read.
    pub(crate) violations: Violations,
}

/// What to do with a record.
#[expect(clippy::large_enum_variant, reason = "nearly all decisions are writes")]
enum Decision {
    /// The same request was answered before.
    Answered(Summary),
    /// There is nothing to change.
    Keep,
    Write(Record),
}

impl<S: Store, R: Registry, A: AuthorizationServers> Credentials<S, R, A> {
    /// Describes the credential.
    pub(crate) async fn get(&self, subject: &Subject) -> Result<Summary, Error> {
        let owner = subject.owner();
        let record = self.record(&owner, self.reported(&owner)).await?;
        let present = self.present(subject).await?;
        let mut summary = summary(subject, present.as_ref(), &record, self.clock.now_micros());
        if let (Some(agreed), Some(present)) = (record.agreed, present)
            && summary.bound_destination != summary.present_destination
        {
            summary.changes = present.changes_since(&agreed);
            summary.bound_description = agreed.description;
        }
        Ok(summary)
    }

    /// Stores or rotates values.
    pub(crate) async fn put(&self, subject: Subject, put: Put) -> Result<Done, Error> {
        let owner = subject.owner();
        let request = put.request();
        self.change(&subject, |record, present| {
            let now = self.clock.now_micros();
            if let Some(request) = &request
                && let Some(summary) = record.answers.to(request, now).map_err(|_| Error::RequestIdReused)?
            {
                return Ok(Decision::Answered(Summary {
                    connection: connection(subject.plan(), owner.source(), record, now),
                    ..summary.clone()
                }));
            }
            let mut violations = put.violations.clone();
            validate::check(subject.plan(), owner.source(), &put.values, &mut violations);
            let Some(present) = present else {
                violations.add("", "the entry has no server to send secrets to");
                return Err(Error::Invalid(violations));
            };
            if !violations.is_empty() {
                return Err(Error::Invalid(violations));
            }
            if put
                .destination
                .as_ref()
                .is_some_and(|shown| *shown != present.destination)
            {
                return Err(stale(present));
            }
            let stays = stays(record, subject.plan(), owner.source(), &put.values, present)?;
            let destination = present.destination.clone();
            let mut next = record.changed(now, stays, &put.values, destination, Some(present.agreed.clone()));
            if let Some(request) = request.clone() {
                let summary = summary(&subject, Some(present), &next, now);
                next.answers.remember(Answer {
                    request,
                    time: now,
                    summary,
                });
            }
            Ok(Decision::Write(next))
        })
        .await
    }

    /// Deletes all values. A record that cannot be read is replaced by an empty one.
    pub(crate) async fn delete(&self, subject: Subject) -> Result<Done, Error> {
        let owner = subject.owner();
        if let Err(StoreError::Corrupt(cause)) = self.store.read(&owner).await {
            tracing::error!(credential.owner = %owner, error = %cause, "deleting a record that cannot be read");
            self.store.delete(&owner).await?;
        }
        self.change(&subject, |record, _| {
            if !record.has_secrets() {
                return Ok(Decision::Keep);
            }
            let now = self.clock.now_micros();
            let mut next = record.changed(now, false, &[], String::new(), None);
            next.answers.forget_contents();
            Ok(Decision::Write(next))
        })
        .await
    }

    /// Binds the values to the present destination, if that is still the one that was shown.
    pub(crate) async fn confirm(&self, subject: Subject, shown: &str) -> Result<Done, Error> {
        if shown.is_empty() {
            let mut violations = Violations::new();
            violations.add("destination", "must be the present_destination that was shown");
            return Err(Error::Invalid(violations));
        }
        let nowhere = Present::default();
        self.change(&subject, |record, present| {
            let present = present.unwrap_or(&nowhere);
            if shown != present.destination {
                return Err(stale(present));
            }
            let is_bound = !record.fields.is_empty() || record.tokens.grant.is_some();
            if !is_bound || record.bound_destination == present.destination {
                return Ok(Decision::Keep);
            }
            let now = self.clock.now_micros();
            let (destination, agreed) = (present.destination.clone(), present.agreed.clone());
            Ok(Decision::Write(record.changed(
                now,
                true,
                &[],
                destination,
                Some(agreed),
            )))
        })
        .await
    }

    /// Applies the decision that `decide` makes on the subject's record and the present destination of its secrets. Decides again where
    /// another writer was faster.
    async fn change(
        &self,
        subject: &Subject,
        decide: impl Fn(&Record, Option<&Present>) -> Result<Decision, Error>,
    ) -> Result<Done, Error> {
        let owner = subject.owner();
        for _ in 0..TRIES {
            self.admit(subject)?;
            let current = self.current(&owner, self.reported(&owner)).await?;
            let Current { version, record } = current.ok_or_else(|| Error::NotFound(subject.name()))?;
            let present = self.present(subject).await?;
            let decision = decide(&record, present.as_ref())?;
            let owed = Owed::new(&self.queue, owner.clone());
            // Reported even where nothing is written: an earlier attempt may have been stored without a report.
            let now = self.clock.now_micros();
            let summary = match decision {
                Decision::Answered(summary) => summary,
                Decision::Keep => summary(subject, present.as_ref(), &record, now),
                Decision::Write(mut next) => {
                    let summary = summary(subject, present.as_ref(), &next, now);
                    if next.tokens.grant.is_none() {
                        let entry = subject.entry();
                        next.tokens.unrevoked = self.unrevoked(&owner, subject.plan(), &record, entry.as_ref()).await;
                    }
                    let revokes = !next.tokens.unrevoked.is_empty();
                    let written = self.store.write(&owner, version, Value::Record(next)).await?;
                    if written == Written::Conflict {
                        continue;
                    }
                    tracing::info!(credential.owner = %owner, "the credential was changed");
                    if revokes {
                        self.revoker.begin(&owner);
                    }
                    summary
                }
            };
            return self.announce(subject, owed, summary).await;
        }
        Err(Error::Contended)
    }

    /// The present destination of the subject's secrets.
    pub(super) async fn present(&self, subject: &Subject) -> Result<Option<Present>, Error> {
        let entry = self.mixed_record(subject.mixed_with().as_ref()).await?;
        Ok(subject.present(entry.as_ref()))
    }

    pub(super) fn reported(&self, owner: &Owner) -> i64 {
        self.views().reported(owner)
    }
}

impl Put {
    fn request(&self) -> Option<Request> {
        let values = self.values.iter();
        let pairs = values.flat_map(|(key, value)| [key.as_bytes(), value.expose_secret().as_bytes()]);
        // After the pairs, an odd part: it cannot be taken for one of them.
        let content = pairs.chain(self.destination.iter().map(|shown| shown.as_bytes()));
        self.request_id.map(|id| Request::new(self.user.clone(), id, content))
    }
}

/// Whether a put to `present` keeps the values it does not name. Values that are bound to another destination go to `present` only if
/// their owner confirms it, or enters all of them again; then fields that the entry no longer has are deleted.
pub(super) fn stays(
    record: &Record,
    plan: &Plan,
    source: Source,
    values: &[(String, SecretString)],
    present: &Present,
) -> Result<bool, Error> {
    // Nothing is bound where there are no values and no tokens, but clients may be registered, and sign-ins begun.
    if record.bound_destination.is_empty() || covers(&record.bound_destination, &present.destination) {
        return Ok(true);
    }
    let unnamed = |key: &&String| !values.iter().any(|(put, _)| put == *key);
    let mut left = record.fields.keys().filter(unnamed);
    if left.any(|key| plan.field(key, source).is_some()) {
        let moved = Moved {
            bound: record.bound_destination.clone(),
            present: present.destination.clone(),
        };
        return Err(Error::DestinationChanged(source, moved));
    }
    Ok(false)
}

/// As it is at the time `now` (microseconds since 1970).
pub(super) fn summary(subject: &Subject, present: Option<&Present>, record: &Record, now: i64) -> Summary {
    let present = present.cloned().unwrap_or_default();
    let (plan, source) = (subject.plan(), subject.owner().source());
    let record = validate::fitting(plan, source, record.clone());
    let covered = covers(&record.bound_destination, &present.destination);
    let description = present.agreed.description;
    Summary {
        name: format!("{}/credential", subject.name()),
        missing: plan.missing(source, &record),
        generation: record.generation,
        fields: record
            .fields
            .iter()
            .map(|(key, field)| (key.clone(), field.stored))
            .collect(),
        // A destination that needs no confirmation is shown as the present one.
        bound_destination: if covered {
            present.destination.clone()
        } else {
            record.bound_destination.clone()
        },
        bound_description: if covered {
            description.clone()
        } else {
            readable(&record.bound_destination)
        },
        present_destination: present.destination,
        present_description: description,
        changes: Vec::new(),
        connection: connection(plan, source, &record, now),
    }
}

/// The caller was shown another destination than the present one.
fn stale(present: &Present) -> Error {
    Error::DestinationStale {
        present: present.destination.clone(),
    }
}

fn connection(plan: &Plan, source: Source, record: &Record, now: i64) -> Option<Connection> {
    let tokens = &record.tokens;
    if !plan.keeps_tokens(source) {
        return None;
    }
    let refusal = tokens.refusal.clone().unwrap_or_default();
    let Some(grant) = &tokens.grant else {
        // Of a machine that was never issued a token, there is the refusal to tell.
        return plan
            .machine()
            .filter(|_| !refusal.is_empty())
            .map(|machine| Connection {
                issuer: machine.server.issuer().to_owned(),
                resource: machine.resource.clone(),
                refusal,
                ..Connection::default()
            });
    };
    let machine = plan.machine();
    let unasked = plan.sign_in().map(|plan| grant.unasked(plan)).unwrap_or_default();
    let failure = tokens.over(now).filter(|_| machine.is_none());
    Some(Connection {
        issuer: grant.server.issuer().to_owned(),
        client_id: grant.client_id.clone(),
        account: grant.account.clone(),
        scopes: grant.scopes.clone(),
        resource: grant.resource.clone(),
        connect_time: Some(grant.connect_time),
        refresh_time: Some(grant.refresh_time),
        expire_time: grant.expire_time,
        is_refreshable: failure.is_none() && (grant.refresh.is_some() || machine.is_some()),
        failure: failure.unwrap_or_default().to_owned(),
        demanded: scopes::union(grant.lacks(&tokens.demanded), unasked),
        refusal,
    })
}
