//! Revokes tokens that are no longer used (RFC 7009). Nothing waits for it: a server that does not answer keeps no deletion.

use std::{sync::Arc, time::Duration};

use super::{
    client,
    grant::Grant,
    plan::Source,
    servers::{AuthorizationServers, Client, ServerError, TokenKind},
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

/// How long the revocation of one grant may take.
const TIMEOUT: Duration = Duration::from_secs(5);

impl<S: Store, R, A: AuthorizationServers> Credentials<S, R, A> {
    /// Begins to revoke the tokens of a grant. `own` is the record that it was taken from.
    pub(in crate::domain) async fn revoke(&self, owner: &Owner, plan: &Plan, own: Record, entry: Option<&Owner>) {
        let Some(grant) = own.tokens.grant.clone() else { return };
        match self.client_of(plan, &grant, own, entry).await {
            Ok(client) => self.revoke_as(owner, grant, client),
            Err(error) => {
                tracing::warn!(credential.owner = %owner, error = %error, "tokens are not revoked: their client is not known any more");
            }
        }
    }

    /// The client that a grant was issued to.
    async fn client_of(&self, plan: &Plan, grant: &Grant, own: Record, entry: Option<&Owner>) -> Result<Client, Error> {
        let named = match (&grant.authentication, plan.tokens.as_ref().map(|tokens| &tokens.source)) {
            (Some(authentication), _) => {
                return Ok(Client {
                    id: grant.client_id.clone(),
                    authentication: authentication.clone(),
                });
            }
            (None, Some(Source::SignIn(plan))) => plan.client.as_ref(),
            (None, Some(Source::ClientCredentials(plan))) => Some(&plan.client),
            (None, _) => None,
        };
        let named = named.ok_or(Error::RegistryUnavailable)?;
        let entry = match entry {
            Some(entry) => match self.store.read(entry).await? {
                Some((_, Value::Record(record))) => record,
                Some((_, Value::Erased { .. })) | None => Record::default(),
            },
            None => Record::default(),
        };
        let secrets = Secrets {
            own: own.into(),
            entry: entry.into(),
        };
        client::resolve(plan, &secrets, named)
    }

    /// Begins to revoke the tokens of a grant: the refresh token first, since access tokens end with it at most servers, and by themselves.
    pub(super) fn revoke_as(&self, owner: &Owner, grant: Grant, client: Client) {
        let (servers, turns) = (
            Arc::clone(&self.authorization.servers),
            Arc::clone(&self.authorization.revocations),
        );
        let owner = owner.clone();
        tokio::spawn(async move {
            let Ok(_turn) = turns.acquire().await else { return };
            let revoked = tokio::time::timeout(TIMEOUT, revoke(&*servers, &grant, &client)).await;
            let failed = match revoked {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the authorization server did not answer in time".to_owned(),
            };
            tracing::warn!(credential.owner = %owner, error = %failed, "tokens that are deleted could not be revoked");
        });
    }
}

async fn revoke(servers: &impl AuthorizationServers, grant: &Grant, client: &Client) -> Result<(), ServerError> {
    let metadata = servers.metadata(&grant.server).await?;
    if let Some(refresh) = &grant.refresh {
        servers.revoke(&metadata, client, refresh, TokenKind::Refresh).await?;
    }
    servers
        .revoke(&metadata, client, &grant.access, TokenKind::Access)
        .await
}
