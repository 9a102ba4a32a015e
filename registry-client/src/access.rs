//! Asks registry-svc whether a person may do something now.

use contracts::registry::{
    AccessAction, AuthorizeEntryRequest, AuthorizeEntryResponse, AuthorizeInstallationRequest,
    AuthorizeInstallationResponse, Principal, access_service_client::AccessServiceClient,
};
use service_kit::User;
use tonic::{Status, transport::Channel};

/// A client of registry-svc's AccessService.
#[derive(Clone, Debug)]
pub struct Access {
    client: AccessServiceClient<Channel>,
}

impl Access {
    /// Uses a workload's channel to registry-svc.
    pub fn new(registry: Channel) -> Self {
        Self {
            client: AccessServiceClient::new(registry),
        }
    }

    /// Returns the installation and what it runs, if `user` may do `action` to it. The error can be returned to that
    /// person: NOT_FOUND, PERMISSION_DENIED, or UNAVAILABLE while registry-svc is unreachable.
    pub async fn installation(
        &self,
        name: &str,
        user: &User,
        action: AccessAction,
    ) -> Result<AuthorizeInstallationResponse, Status> {
        let request = AuthorizeInstallationRequest {
            installation: name.to_owned(),
            principal: Some(principal(user)),
            action: action.into(),
        };
        Ok(self.client.clone().authorize_installation(request).await?.into_inner())
    }

    /// Returns the entry with its current revision, if `user` may do `action` to it. Fails like
    /// [`Access::installation`].
    pub async fn entry(&self, name: &str, user: &User, action: AccessAction) -> Result<AuthorizeEntryResponse, Status> {
        let request = AuthorizeEntryRequest {
            entry: name.to_owned(),
            principal: Some(principal(user)),
            action: action.into(),
        };
        Ok(self.client.clone().authorize_entry(request).await?.into_inner())
    }
}

/// Describes a verified user to registry-svc.
pub fn principal(user: &User) -> Principal {
    Principal {
        issuer: user.issuer.clone(),
        subject: user.subject.clone(),
        email: user.email.clone().unwrap_or_default(),
        display_name: user.display_name.clone().unwrap_or_default(),
        groups: user.groups.clone(),
        admin: user.admin,
        machine: user.machine,
    }
}
