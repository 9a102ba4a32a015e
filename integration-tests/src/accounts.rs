//! The steps of journeys in which tokens are issued: connect an account, and discover tools with a caller's own token.

use contracts::{credential as c, registry::Installation};
use tonic::Status;

use crate::{
    caller::{Caller, reason},
    wait::{TIMEOUT, eventually_within},
};

/// Steps that people and programs take. A method that returns no `Result` panics if the step fails.
impl Caller {
    /// Starts to connect an installation to an account. May fail.
    pub async fn start_authorization(&self, installation: &str) -> Result<c::StartAuthorizationResponse, Status> {
        let request = c::StartAuthorizationRequest {
            installation: installation.to_owned(),
            destination: String::new(),
        };
        Ok(self.credentials().start_authorization(request).await?.into_inner())
    }

    /// Finishes it with the URL that the authorization server redirected to. May fail.
    pub async fn finish_authorization(&self, redirected: &str) -> Result<c::Credential, Status> {
        let url = reqwest::Url::parse(redirected).expect("a URL");
        let parameter = |name: &str| {
            let mut pairs = url.query_pairs();
            let found = pairs.find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        let request = c::FinishAuthorizationRequest {
            state: parameter("state"),
            code: parameter("code"),
            issuer: parameter("iss"),
            error: parameter("error"),
            error_description: parameter("error_description"),
            redirect_uri: redirected.split('?').next().unwrap_or_default().to_owned(),
        };
        Ok(self.credentials().finish_authorization(request).await?.into_inner())
    }

    /// Installs an entry whose tools are discovered with the token of the person who asks, and waits until they are known.
    pub async fn install_and_discover(&self, entry: &str) -> Installation {
        self.install_and_discover_for(entry, None).await
    }

    /// The same for a team (`teams/{team}`), if there is one.
    pub async fn install_and_discover_for(&self, entry: &str, team: Option<&str>) -> Installation {
        let installation = self.create_installation(entry, team, &[]).await;
        let name = installation
            .unwrap_or_else(|status| panic!("install {entry}: {status:?}"))
            .name;
        eventually_within(TIMEOUT, "the tools are discovered", || async {
            let request = contracts::gateway::DiscoverToolsRequest {
                installation: name.clone(),
            };
            self.tools().discover_tools(request).await.ok()
        })
        .await;
        self.until_ready(&name).await
    }

    /// Installs an entry whose tools cannot be discovered, and returns the refusal that comes once the installation can be asked.
    ///
    /// # Panics
    /// If they are discovered.
    pub async fn install_and_be_refused(&self, entry: &str) -> Status {
        let installation = self.create_installation(entry, None, &[]).await;
        let name = installation
            .unwrap_or_else(|status| panic!("install {entry}: {status:?}"))
            .name;
        eventually_within(TIMEOUT, "the discovery is refused", || async {
            let request = contracts::gateway::DiscoverToolsRequest {
                installation: name.clone(),
            };
            let refused = self.tools().discover_tools(request).await;
            let status = refused.expect_err("the discovery should have been refused");
            // It is not ready for a moment.
            (reason(&status) != "INSTALLATION_UNAVAILABLE").then_some(status)
        })
        .await
    }
}
