//! What is to be revoked where a grant ends.

use super::{
    client,
    grant::{Grant, Unrevoked},
    plan::Source,
    servers::{AuthorizationServers, Client},
};
use crate::domain::{
    credentials::Credentials,
    error::Error,
    owner::Owner,
    plan::Plan,
    ports::Store,
    record::{Record, Value},
    rendering::Secrets,
};

impl<S: Store, R, A: AuthorizationServers> Credentials<S, R, A> {
    /// What is to be revoked of a record whose grant ends, beside what was before.
    pub(in crate::domain) async fn unrevoked(
        &self,
        owner: &Owner,
        plan: &Plan,
        own: &Record,
        entry: Option<&Owner>,
    ) -> Vec<Unrevoked> {
        let mut unrevoked = own.tokens.unrevoked.clone();
        let Some(grant) = own.tokens.grant.clone() else {
            return unrevoked;
        };
        match self.client_of(plan, &grant, own, entry).await {
            Ok(client) => Unrevoked::add(&mut unrevoked, grant.unrevoked(client, self.clock.now_micros())),
            Err(error) => {
                tracing::warn!(credential.owner = %owner, error = %error, "tokens are not revoked");
            }
        }
        unrevoked
    }

    /// The client that a grant was issued to.
    async fn client_of(
        &self,
        plan: &Plan,
        grant: &Grant,
        own: &Record,
        entry: Option<&Owner>,
    ) -> Result<Client, Error> {
        let named = match (&grant.authentication, plan.tokens.as_ref().map(|tokens| &tokens.source)) {
            (Some(authentication), _) => {
                return Ok(Client {
                    id: grant.client_id.clone(),
                    authentication: authentication.clone(),
                });
            }
            // A client of another server would show that one its secret.
            (None, Some(Source::SignIn(plan))) if grant.is_of(plan) => plan.client.as_ref(),
            (None, Some(Source::ClientCredentials(plan))) if plan.server == grant.server => Some(&plan.client),
            (None, _) => None,
        };
        let named = named.ok_or_else(|| unknown(grant))?;
        let entry = match entry {
            Some(entry) => match self.store.read(entry).await? {
                Some((_, Value::Record(record))) => record,
                Some((_, Value::Erased { .. })) | None => Record::default(),
            },
            None => Record::default(),
        };
        let secrets = Secrets {
            own: own.clone().into(),
            entry: entry.into(),
        };
        let client = client::resolve(plan, &secrets, named)?;
        if client.id != grant.client_id {
            return Err(unknown(grant));
        }
        Ok(client)
    }
}

fn unknown(grant: &Grant) -> Error {
    Error::AuthorizationServerRefused(format!(
        "the entry no longer names the client {:?} of {}",
        grant.client_id,
        grant.server.issuer()
    ))
}
