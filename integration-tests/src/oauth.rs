//! What the OAuth journeys have in common: a server that requires access tokens, its authorization server, and an entry `mail` for it.

use contracts::{
    credential::Credential,
    registry::{Entry, InstallField, Installation, OAuthCredential, entry::CredentialModel},
};
use serde_json::{Value, json};

use crate::{
    authorization_server::AuthorizationServer, browser, caller::Caller, stack::Stack,
    upstream::protected::ProtectedUpstream, walk,
};

/// The running parts. The entry's tools are those of a recording upstream, on the gateway `team`.
#[derive(Debug)]
pub struct OAuthJourney {
    /// The program.
    pub stack: Stack,
    /// The server that requires tokens.
    pub upstream: ProtectedUpstream,
    /// Who issues them.
    pub server: AuthorizationServer,
}

impl OAuthJourney {
    /// Starts the parts. `environment`: of the authorization server, see its script.
    pub async fn start(environment: &[(&str, &str)]) -> Self {
        let (listener, resource) = ProtectedUpstream::bind().await;
        let server = AuthorizationServer::start(&resource, environment).await;
        let upstream = ProtectedUpstream::start(listener, &resource, server.issuer()).await;
        let stack = Stack::start().await;
        stack.admin().gateway("team").await;
        Self {
            stack,
            upstream,
            server,
        }
    }

    /// The same with an entry that people sign in for, of which nothing is configured.
    pub async fn with_sign_in() -> Self {
        let journey = Self::start(&[]).await;
        let model = CredentialModel::Oauth(OAuthCredential::default());
        journey.publish(model, Vec::new()).await;
        journey
    }

    /// Publishes the entry.
    pub async fn publish(&self, model: CredentialModel, install_fields: Vec<InstallField>) {
        let entry = Entry {
            credential_model: Some(model),
            install_fields,
            ..walk::remote(self.upstream.url())
        };
        self.stack.admin().publish("mail", entry).await;
    }

    /// Assigns the tool that [`Self::call`] calls. Somebody must have installed the entry.
    pub async fn assign(&self) {
        self.stack.admin().assign("team", "mail", "echo").await;
    }

    /// A person installs the entry and connects this account.
    ///
    /// # Panics
    /// If a step fails.
    pub async fn install(&self, person: &Caller, account: &str) -> Installation {
        let installation = person.create_installation("mail", None, &[]).await;
        let name = installation.expect("a member may").name;
        self.connect(person, &name, account).await;
        person.until_ready(&name).await
    }

    /// A person connects an account to an installation.
    ///
    /// # Panics
    /// If a step fails.
    pub async fn connect(&self, person: &Caller, installation: &str, account: &str) -> Credential {
        self.server.set(json!({"account": account})).await;
        let redirected = self.redirected(person, installation).await;
        person.finish_authorization(&redirected).await.expect("it is finished")
    }

    /// Where the authorization server sends the browser of a person who begins to connect an account.
    ///
    /// # Panics
    /// If a step fails.
    pub async fn redirected(&self, person: &Caller, installation: &str) -> String {
        let started = person.start_authorization(installation).await.expect("it starts");
        let callback = self.stack.url("/oauth/callback");
        browser::sign_in(&started.authorization_url, &callback).await
    }

    /// The response to a call of a person, in a session of its own.
    pub async fn call(&self, person: &Caller) -> Value {
        let client = self.stack.mcp("team", person).await;
        client.call("mail__echo", json!({"text": "x"})).await
    }

    /// The same, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub async fn works(&self, person: &Caller) {
        let answer = self.call(person).await;
        assert_eq!(answer["result"]["content"][0]["text"], "x", "{answer}");
    }

    /// Fails if the log contains one of these, or a token that the server accepted.
    ///
    /// # Panics
    /// Then.
    pub fn keeps_out_of_the_log(&self, secrets: &[&str]) {
        let lines = self.stack.lines().all().join("\n");
        let tokens = self.upstream.tokens();
        for secret in tokens.iter().map(String::as_str).chain(secrets.iter().copied()) {
            assert!(!lines.contains(secret), "a secret is in the log");
        }
    }
}
