//! Calls to the other services, each with the opener's own token.

use std::time::Duration;

use contracts::{
    credential as c,
    credential::credential_service_client::CredentialServiceClient,
    registry as r,
    registry::{
        entry_service_client::EntryServiceClient, installation_service_client::InstallationServiceClient,
        team_service_client::TeamServiceClient, user_service_client::UserServiceClient,
    },
};
use prost_types::FieldMask;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Status, transport::Channel};

/// A mutation waits up to 2 s for the gateways, and one submission makes several.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The most pages of a list that are read for one page.
const MAX_PAGES: usize = 20;
/// How many installations of others a page shows.
const MAX_SHOWN: i32 = 20;

/// Connections to the services.
#[derive(Clone)]
pub(super) struct Services {
    registry: Channel,
    credential: Channel,
}

/// The services, for one opener.
pub(super) struct Opener<'a> {
    services: &'a Services,
    token: &'a SecretString,
}

impl Services {
    pub(super) fn new(registry: Channel, credential: Channel) -> Self {
        Self { registry, credential }
    }

    /// With this person's token.
    pub(super) fn of<'a>(&'a self, token: &'a SecretString) -> Opener<'a> {
        Opener { services: self, token }
    }
}

impl Opener<'_> {
    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        request.set_timeout(TIMEOUT);
        let mut bearer: tonic::metadata::MetadataValue<_> = format!("Bearer {}", self.token.expose_secret())
            .parse()
            .map_err(|_| Status::unauthenticated("the token cannot be sent"))?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
        Ok(request)
    }

    pub(super) async fn entry(&self, name: &str) -> Result<r::Entry, Status> {
        let request = self.request(r::GetEntryRequest { name: name.to_owned() })?;
        Ok(EntryServiceClient::new(self.services.registry.clone())
            .get_entry(request)
            .await?
            .into_inner())
    }

    /// Who the opener is to the registry, with their teams.
    pub(super) async fn me(&self) -> Result<r::User, Status> {
        self.user("users/me").await
    }

    pub(super) async fn user(&self, name: &str) -> Result<r::User, Status> {
        let request = self.request(r::GetUserRequest { name: name.to_owned() })?;
        Ok(UserServiceClient::new(self.services.registry.clone())
            .get_user(request)
            .await?
            .into_inner())
    }

    pub(super) async fn team(&self, name: &str) -> Result<r::Team, Status> {
        let request = self.request(r::GetTeamRequest { name: name.to_owned() })?;
        Ok(TeamServiceClient::new(self.services.registry.clone())
            .get_team(request)
            .await?
            .into_inner())
    }

    /// The installation of an entry that belongs to the opener, or to `team`.
    pub(super) async fn installation_of(
        &self,
        entry: &str,
        team: Option<&str>,
    ) -> Result<Option<r::Installation>, Status> {
        let mut page_token = String::new();
        for _ in 0..MAX_PAGES {
            let request = self.request(r::ListInstallationsRequest {
                page_size: 500,
                page_token,
                entry: entry.to_owned(),
                team: team.unwrap_or_default().to_owned(),
                user: if team.is_some() {
                    String::new()
                } else {
                    "users/me".to_owned()
                },
                ..r::ListInstallationsRequest::default()
            })?;
            let mut client = InstallationServiceClient::new(self.services.registry.clone());
            let page = client.list_installations(request).await?.into_inner();
            let found = page
                .installations
                .into_iter()
                .find(|installation| installation.delete_time.is_none());
            if found.is_some() || page.next_page_token.is_empty() {
                return Ok(found);
            }
            page_token = page.next_page_token;
        }
        Ok(None)
    }

    /// The first installations of an entry that the opener may see, whoever owns them, and whether there are others.
    pub(super) async fn installations(&self, entry: &str) -> Result<(Vec<r::Installation>, bool), Status> {
        let request = self.request(r::ListInstallationsRequest {
            page_size: MAX_SHOWN,
            entry: entry.to_owned(),
            ..r::ListInstallationsRequest::default()
        })?;
        let mut client = InstallationServiceClient::new(self.services.registry.clone());
        let page = client.list_installations(request).await?.into_inner();
        Ok((page.installations, !page.next_page_token.is_empty()))
    }

    pub(super) async fn installation(&self, name: &str) -> Result<r::Installation, Status> {
        let request = self.request(r::GetInstallationRequest { name: name.to_owned() })?;
        Ok(InstallationServiceClient::new(self.services.registry.clone())
            .get_installation(request)
            .await?
            .into_inner())
    }

    pub(super) async fn create(
        &self,
        installation: r::Installation,
        request_id: String,
    ) -> Result<r::Installation, Status> {
        let request = self.request(r::CreateInstallationRequest {
            installation: Some(installation),
            request_id,
        })?;
        let mut client = InstallationServiceClient::new(self.services.registry.clone());
        Ok(client.create_installation(request).await?.into_inner())
    }

    pub(super) async fn update(&self, installation: r::Installation) -> Result<r::Installation, Status> {
        let update_mask = Some(FieldMask {
            paths: vec!["values".to_owned()],
        });
        let request = self.request(r::UpdateInstallationRequest {
            installation: Some(installation),
            update_mask,
        })?;
        let mut client = InstallationServiceClient::new(self.services.registry.clone());
        Ok(client.update_installation(request).await?.into_inner())
    }

    /// How many tools were discovered.
    pub(super) async fn count_tools(&self, installation: &str) -> Result<usize, Status> {
        let (mut count, mut page_token) = (0, String::new());
        for _ in 0..MAX_PAGES {
            let request = self.request(r::ListInstallationToolsRequest {
                parent: installation.to_owned(),
                page_size: 500,
                page_token,
            })?;
            let mut client =
                InstallationServiceClient::new(self.services.registry.clone()).max_decoding_message_size(64 << 20);
            let page = client.list_installation_tools(request).await?.into_inner();
            count += page.tools.len();
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(count)
    }

    /// What is known of an installation's secrets.
    pub(super) async fn credential(&self, installation: &str) -> Result<c::Credential, Status> {
        let request = self.request(c::GetInstallationCredentialRequest {
            installation: installation.to_owned(),
        })?;
        let mut client = CredentialServiceClient::new(self.services.credential.clone());
        Ok(client.get_installation_credential(request).await?.into_inner())
    }

    pub(super) async fn put(
        &self,
        installation: &str,
        values: Vec<c::SecretValue>,
        request_id: String,
        destination: String,
    ) -> Result<c::Credential, Status> {
        let request = self.request(c::PutInstallationCredentialRequest {
            installation: installation.to_owned(),
            values,
            request_id,
            destination,
        })?;
        let mut client = CredentialServiceClient::new(self.services.credential.clone());
        Ok(client.put_installation_credential(request).await?.into_inner())
    }

    /// Where the opener signs in to connect an account. `destination` is the one that they were shown.
    pub(super) async fn start_authorization(
        &self,
        installation: &str,
        destination: String,
    ) -> Result<c::StartAuthorizationResponse, Status> {
        let request = self.request(c::StartAuthorizationRequest {
            installation: installation.to_owned(),
            destination,
        })?;
        let mut client = CredentialServiceClient::new(self.services.credential.clone());
        Ok(client.start_authorization(request).await?.into_inner())
    }

    pub(super) async fn finish_authorization(
        &self,
        answer: c::FinishAuthorizationRequest,
    ) -> Result<c::Credential, Status> {
        let request = self.request(answer)?;
        let mut client = CredentialServiceClient::new(self.services.credential.clone());
        Ok(client.finish_authorization(request).await?.into_inner())
    }

    pub(super) async fn delete_credential(&self, installation: &str) -> Result<c::Credential, Status> {
        let request = self.request(c::DeleteInstallationCredentialRequest {
            installation: installation.to_owned(),
        })?;
        let mut client = CredentialServiceClient::new(self.services.credential.clone());
        Ok(client.delete_installation_credential(request).await?.into_inner())
    }

    pub(super) async fn confirm(&self, installation: &str, destination: String) -> Result<c::Credential, Status> {
        let request = self.request(c::ConfirmInstallationDestinationRequest {
            installation: installation.to_owned(),
            destination,
        })?;
        let mut client = CredentialServiceClient::new(self.services.credential.clone());
        Ok(client.confirm_installation_destination(request).await?.into_inner())
    }
}
