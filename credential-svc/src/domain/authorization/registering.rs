//! Registers clients where the entry names none, and keeps them with the entry.

use service_kit::clock::to_micros;

use super::{
    plan::Server,
    registered::{self, Registered},
    servers::{AuthorizationServers, Client, Metadata},
};
use crate::domain::{
    credentials::{Credentials, Current, TRIES},
    error::Error,
    owner::Owner,
    ports::{Store, Written},
    record::{Record, Value},
};

impl<S: Store, R, A: AuthorizationServers> Credentials<S, R, A> {
    /// The client of an entry at a server: the one that was registered before, or a new one.
    pub(super) async fn registered(
        &self,
        entry: &Owner,
        server: &Server,
        metadata: &Metadata,
        redirect_uri: &str,
    ) -> Result<Client, Error> {
        let (issuer, mut new) = (server.issuer(), None);
        for _ in 0..TRIES {
            let current = self.current(entry, 0).await?;
            let Current { version, record } = current.ok_or_else(|| Error::NotFound("the entry".to_owned()))?;
            let now = self.clock.now_micros();
            if let Some(known) = registered::find(&record.clients, issuer, redirect_uri, now) {
                return Ok(known.client.clone());
            }
            let client = match &new {
                Some(client) => client,
                None => new.insert(self.register(server, metadata, redirect_uri).await?),
            };
            let mut next = record;
            next.clients = registered::with(&next.clients, client.clone());
            if self.store.write(entry, version, Value::Record(next)).await? == Written::Done {
                return Ok(client.client.clone());
            }
        }
        Err(Error::Contended)
    }

    async fn register(&self, server: &Server, metadata: &Metadata, redirect_uri: &str) -> Result<Registered, Error> {
        let issuer = server.issuer();
        if metadata.registration_endpoint.is_empty() {
            let redirect_uri = self.redirect_uri(true, server, metadata)?;
            return Err(Error::AuthorizationServerRefused(format!(
                "the authorization server {issuer} neither accepts a client metadata document nor registers clients; an admin must register a \
                 client there with the redirect URI {redirect_uri}, and name it in the entry"
            )));
        }
        let registration = self.authorization.servers.register(metadata, redirect_uri).await?;
        tracing::info!(server.issuer = issuer, "registered a client");
        Ok(Registered {
            issuer: issuer.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            client: registration.client,
            expire_time: registration.secret_expires.map(to_micros),
        })
    }

    /// Removes a client that its server does not know any more, so that the next sign-in registers another.
    pub(super) async fn forget(&self, entry: &Owner, server: &Server, client_id: &str) {
        let remove = |record: &mut Record| {
            let left = registered::without(&record.clients, server.issuer(), client_id);
            let is_known = left.len() < record.clients.len();
            record.clients = left;
            is_known
        };
        if let Err(error) = self.amend(entry, remove).await {
            tracing::debug!(credential.owner = %entry, error = %error, "a client that its server does not know was not removed");
        }
    }
}
