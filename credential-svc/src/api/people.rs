//! CredentialService, for people.

use std::{collections::BTreeSet, sync::Arc};

use contracts::{
    credential::{
        ConfirmEntryDestinationRequest, ConfirmInstallationDestinationRequest, Connection, Credential,
        DeleteEntryCredentialRequest, DeleteInstallationCredentialRequest, DestinationChange, DestinationText,
        FinishAuthorizationRequest, GetEntryCredentialRequest, GetInstallationCredentialRequest,
        PutEntryCredentialRequest, PutInstallationCredentialRequest, SecretValue, StartAuthorizationRequest,
        StartAuthorizationResponse, StoredField, credential_service_server::CredentialService,
    },
    registry::AccessAction,
};
use registry_client::access::Access;
use registry_model::destination::{Change, Text};
use secrecy::{ExposeSecret as _, SecretString};
use service_kit::{User, clock::from_micros, identity::require_user, status::Violations};
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;
use zeroize::Zeroize as _;

use super::status::from_registry;
use crate::{
    convert,
    domain::{
        authorization::{finishing::Returned, pending, servers::AuthorizationServers},
        changing::Put,
        credentials::Credentials,
        error::Error,
        ports::{Registry, Store},
        reporting::Done,
        summary::{self, Summary},
        views::Subject,
    },
};

/// Serves people.
#[derive(Debug)]
pub(crate) struct People<S, R, A> {
    credentials: Arc<Credentials<S, R, A>>,
    access: Access,
}

impl<S: Store, R: Registry, A: AuthorizationServers> People<S, R, A> {
    pub(crate) fn new(credentials: Arc<Credentials<S, R, A>>, access: Access) -> Self {
        Self { credentials, access }
    }

    /// Completes a change even if the caller disconnects.
    async fn change<F, Fut>(&self, change: F) -> Result<Response<Credential>, Status>
    where
        F: FnOnce(Arc<Credentials<S, R, A>>) -> Fut,
        Fut: Future<Output = Result<Done, Error>> + Send + 'static,
    {
        let tasks = self.credentials.tasks();
        let changed = tasks.spawn(change(Arc::clone(&self.credentials))).await;
        let changed = changed.inspect_err(|error| tracing::error!(error = %error, "a change of a credential failed"));
        Ok(answer(changed.map_err(|_| service_kit::status::internal())??))
    }

    /// The installation, if the registry authorizes this person to do this to it now.
    async fn installation(&self, name: &str, user: &User, action: AccessAction) -> Result<Subject, Status> {
        installation(&self.access, name, user, action).await
    }

    /// The entry, if the registry authorizes this person to manage it now. Only admins are.
    async fn entry(&self, name: &str, user: &User) -> Result<Subject, Status> {
        check_name("entry", "entries/", name)?;
        let answer = self
            .access
            .entry(name, user, AccessAction::Manage)
            .await
            .map_err(from_registry)?;
        let entry = answer.entry.ok_or_else(service_kit::status::internal)?;
        Ok(Subject::Entry(convert::entry(entry)))
    }
}

#[tonic::async_trait]
impl<S: Store, R: Registry, A: AuthorizationServers> CredentialService for People<S, R, A> {
    async fn put_installation_credential(
        &self,
        request: Request<PutInstallationCredentialRequest>,
    ) -> Result<Response<Credential>, Status> {
        let user = require_user(&request)?;
        let PutInstallationCredentialRequest {
            installation,
            values,
            request_id,
            destination,
        } = request.into_inner();
        let put = parse_put(&user, values, &request_id, destination);
        let subject = self.installation(&installation, &user, AccessAction::Entrust).await?;
        self.change(move |credentials| async move { credentials.put(subject, put).await })
            .await
    }

    async fn get_installation_credential(
        &self,
        request: Request<GetInstallationCredentialRequest>,
    ) -> Result<Response<Credential>, Status> {
        let user = require_user(&request)?;
        let subject = self
            .installation(&request.into_inner().installation, &user, AccessAction::Manage)
            .await?;
        Ok(Response::new(self.credentials.get(&subject).await?.into()))
    }

    async fn delete_installation_credential(
        &self,
        request: Request<DeleteInstallationCredentialRequest>,
    ) -> Result<Response<Credential>, Status> {
        let user = require_user(&request)?;
        let subject = self
            .installation(&request.into_inner().installation, &user, AccessAction::Manage)
            .await?;
        self.change(move |credentials| async move { credentials.delete(subject).await })
            .await
    }

    async fn confirm_installation_destination(
        &self,
        request: Request<ConfirmInstallationDestinationRequest>,
    ) -> Result<Response<Credential>, Status> {
        let user = require_user(&request)?;
        let request = request.into_inner();
        let subject = self
            .installation(&request.installation, &user, AccessAction::Entrust)
            .await?;
        self.change(move |credentials| async move { credentials.confirm(subject, &request.destination).await })
            .await
    }

    async fn put_entry_credential(
        &self,
        request: Request<PutEntryCredentialRequest>,
    ) -> Result<Response<Credential>, Status> {
        let user = require_user(&request)?;
        let PutEntryCredentialRequest {
            entry,
            values,
            request_id,
            destination,
        } = request.into_inner();
        let put = parse_put(&user, values, &request_id, destination);
        let subject = self.entry(&entry, &user).await?;
        self.change(move |credentials| async move { credentials.put(subject, put).await })
            .await
    }

    async fn get_entry_credential(
        &self,
        request: Request<GetEntryCredentialRequest>,
    ) -> Result<Response<Credential>, Status> {
        let user = require_user(&request)?;
        let subject = self.entry(&request.into_inner().entry, &user).await?;
        Ok(Response::new(self.credentials.get(&subject).await?.into()))
    }

    async fn delete_entry_credential(
        &self,
        request: Request<DeleteEntryCredentialRequest>,
    ) -> Result<Response<Credential>, Status> {
        let user = require_user(&request)?;
        let subject = self.entry(&request.into_inner().entry, &user).await?;
        self.change(move |credentials| async move { credentials.delete(subject).await })
            .await
    }

    async fn confirm_entry_destination(
        &self,
        request: Request<ConfirmEntryDestinationRequest>,
    ) -> Result<Response<Credential>, Status> {
        let user = require_user(&request)?;
        let request = request.into_inner();
        let subject = self.entry(&request.entry, &user).await?;
        self.change(move |credentials| async move { credentials.confirm(subject, &request.destination).await })
            .await
    }

    async fn start_authorization(
        &self,
        request: Request<StartAuthorizationRequest>,
    ) -> Result<Response<StartAuthorizationResponse>, Status> {
        let user = require_user(&request)?;
        let StartAuthorizationRequest {
            installation,
            destination,
        } = request.into_inner();
        let subject = self.installation(&installation, &user, AccessAction::Entrust).await?;
        let shown = Some(destination.as_str()).filter(|shown| !shown.is_empty());
        let started = self
            .credentials
            .start_authorization(&subject, &user.id.to_string(), shown)
            .await?;
        Ok(Response::new(StartAuthorizationResponse {
            authorization_url: started.url,
            expire_time: Some(from_micros(started.expire_time).into()),
            state: started.state.expose_secret().to_owned(),
        }))
    }

    async fn finish_authorization(
        &self,
        request: Request<FinishAuthorizationRequest>,
    ) -> Result<Response<Credential>, Status> {
        let user = require_user(&request)?;
        let FinishAuthorizationRequest {
            state,
            code,
            issuer,
            error,
            error_description,
            redirect_uri,
        } = request.into_inner();
        let returned = Returned {
            user: user.id.to_string(),
            state: take(state),
            code: take(code),
            issuer,
            error,
            error_description,
            redirect_uri,
        };
        let uid = pending::uid_of(returned.state.expose_secret());
        let name = uid.map(|uid| format!("installations/{uid}")).unwrap_or_default();
        let subject = self.installation(&name, &user, AccessAction::Entrust).await;
        // Nobody learns from a state which installations others have.
        let subject = subject.map_err(|status| match status.code() {
            Code::NotFound | Code::PermissionDenied | Code::InvalidArgument => Error::AuthorizationStateInvalid.into(),
            _ => status,
        })?;
        let access = self.access.clone();
        self.change(move |credentials| async move {
            let permits = || async {
                match installation(&access, &name, &user, AccessAction::Entrust).await {
                    Ok(_) => Ok(()),
                    Err(status) if status.code() == Code::Unavailable => Err(Error::RegistryUnavailable),
                    Err(_) => Err(Error::AuthorizationStateInvalid),
                }
            };
            credentials.finish_authorization(subject, returned, permits).await
        })
        .await
    }
}

/// As [`People::installation`].
async fn installation(access: &Access, name: &str, user: &User, action: AccessAction) -> Result<Subject, Status> {
    check_name("installation", "installations/", name)?;
    let answer = access.installation(name, user, action).await.map_err(from_registry)?;
    convert::authorized(answer).ok_or_else(service_kit::status::internal)
}

fn check_name(field: &str, prefix: &str, name: &str) -> Result<(), Status> {
    let well_formed = name.strip_prefix(prefix).is_some_and(|id| {
        (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    if well_formed {
        return Ok(());
    }
    let mut violations = Violations::new();
    violations.add(
        field,
        format!("must be a resource name: {prefix} and the id, of letters, digits and -"),
    );
    Err(violations.into())
}

fn parse_put(user: &User, values: Vec<SecretValue>, request_id: &str, destination: String) -> Put {
    let mut violations = Violations::new();
    let id = match request_id {
        "" => None,
        text => Uuid::try_parse(text)
            .inspect_err(|_| violations.add("request_id", "must be a UUID"))
            .ok(),
    };
    let values = values
        .into_iter()
        .map(|SecretValue { key, value }| (key, take(value)))
        .collect();
    Put {
        user: user.id.to_string(),
        values,
        destination: Some(destination).filter(|destination| !destination.is_empty()),
        request_id: id,
        violations,
    }
}

/// The text as a secret. A conversion in place could leave a copy in memory.
fn take(mut text: String) -> SecretString {
    let secret = SecretString::from(text.as_str());
    text.zeroize();
    secret
}

fn answer(done: Done) -> Response<Credential> {
    let mut response = Response::new(done.summary.into());
    convert::tell_lagging(done.lagging, response.metadata_mut());
    response
}

impl From<Summary> for Credential {
    fn from(summary: Summary) -> Self {
        let field = |(key, stored): (String, summary::StoredField)| StoredField {
            key,
            credential_generation: stored.generation,
            update_time: Some(from_micros(stored.update_time).into()),
        };
        let missing: BTreeSet<String> = summary.missing.into_iter().collect();
        Self {
            name: summary.name,
            credential_generation: summary.generation,
            fields: summary.fields.into_iter().map(field).collect(),
            missing_fields: missing.into_iter().collect(),
            bound_destination: summary.bound_destination,
            present_destination: summary.present_destination,
            bound_description: summary.bound_description,
            present_description: summary.present_description,
            changes: summary.changes.into_iter().map(change).collect(),
            connection: summary.connection.map(connection),
        }
    }
}

fn connection(connection: summary::Connection) -> Connection {
    let time = |micros| from_micros(micros).into();
    Connection {
        issuer: connection.issuer,
        client_id: connection.client_id,
        account: connection.account,
        scopes: connection.scopes,
        resource: connection.resource,
        connect_time: connection.connect_time.map(time),
        refresh_time: connection.refresh_time.map(time),
        expire_time: connection.expire_time.map(time),
        refreshable: connection.is_refreshable,
        failure: connection.failure,
        demanded_scopes: connection.demanded,
        refusal: connection.refusal,
    }
}

fn change(change: Change) -> DestinationChange {
    let text = |Text { text, omitted, sha256 }| DestinationText {
        text,
        omitted_bytes: i64::try_from(omitted).unwrap_or(i64::MAX),
        sha256,
    };
    DestinationChange {
        part: change.kind,
        name: change.name,
        before: change.before.map(text),
        after: change.after.map(text),
    }
}
