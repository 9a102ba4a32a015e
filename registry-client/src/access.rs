//! Asks registry-svc, at this moment, whether a person may do something.

use contracts::registry::{
    AccessAction, AuthorizeEntryRequest, AuthorizeEntryResponse, AuthorizeInstallationRequest,
    AuthorizeInstallationResponse, Principal, access_service_client::AccessServiceClient,
};
use service_kit::User;
use tonic::{Status, transport::Channel};

/// A client of the registry's AccessService.
#[derive(Clone, Debug)]
pub struct Access {
    client: AccessServiceClient<Channel>,
}

impl Access {
    /// Over a workload's channel to registry-svc.
    pub fn new(registry: Channel) -> Self {
        Self {
            client: AccessServiceClient::new(registry),
        }
    }

    /// The installation with what it runs, if `user` may do `action` to it. The error is meant for that person: NOT_FOUND, PERMISSION_DENIED,
    /// or UNAVAILABLE while the registry does not answer.
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

    /// The entry with its current revision, if `user` may do `action` to it. Errors as for [`Access::installation`].
    pub async fn entry(&self, name: &str, user: &User, action: AccessAction) -> Result<AuthorizeEntryResponse, Status> {
        let request = AuthorizeEntryRequest {
            entry: name.to_owned(),
            principal: Some(principal(user)),
            action: action.into(),
        };
        Ok(self.client.clone().authorize_entry(request).await?.into_inner())
    }
}

/// A verified user, for registry-svc.
pub fn principal(user: &User) -> Principal {
    Principal {
        issuer: user.issuer.clone(),
        subject: user.subject.clone(),
        email: user.email.clone().unwrap_or_default(),
        display_name: user.display_name.clone().unwrap_or_default(),
        groups: user.groups.clone(),
        admin: user.admin,
    }
}
