//! Keycloak as the identity provider of an organization, with the realm `keycloak/realm.json`.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::Value;
use tokio::process::Command;

use crate::{
    process::{Program, free_port},
    tls::install_crypto,
    tools::Tool,
    wait::eventually_within,
};

/// The client that exchanges tokens, and its secret.
pub const EXCHANGER: (&str, &str) = ("exchanger", "exchanger-secret");
/// The client that presents identity assertions, and its secret.
pub const ASSERTER: (&str, &str) = ("asserter", "asserter-secret");

/// A running Keycloak.
#[derive(Debug)]
pub struct Keycloak {
    issuer: String,
    http: reqwest::Client,
    program: Program,
}

impl Keycloak {
    /// Starts it, which takes half a minute.
    ///
    /// # Panics
    /// If it is not ready in three minutes.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts it as an authorization server that accepts identity assertions of this issuer, where Alice is `alice-at-partner`.
    ///
    /// # Panics
    /// If it is not ready in three minutes.
    pub async fn start_for(partner: &str) -> Self {
        Self::start_with(Some(partner)).await
    }

    async fn start_with(partner: Option<&str>) -> Self {
        install_crypto();
        let port = free_port();
        let mut command = Command::new(Tool::Keycloak.path());
        // The realm names it.
        command.envs(partner.map(|partner| ("PARTNER_ISSUER", partner)));
        command.env("JAVA_HOME", Tool::KeycloakJdk.path());
        command.env("JAVA_OPTS_APPEND", "-Xmx512m");
        command.args(["start", "--optimized", "--import-realm", "--http-enabled=true"]);
        command.args(["--hostname-strict=false", "--http-host=127.0.0.1"]);
        command.arg(format!("--http-port={port}"));
        command.process_group(0);
        let keycloak = Self {
            issuer: format!("http://127.0.0.1:{port}/realms/corp"),
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client without TLS settings"),
            // It ends with the test also where it is not ready in time.
            program: Program::start(command),
        };
        let metadata = format!("{}/.well-known/openid-configuration", keycloak.issuer);
        eventually_within(Duration::from_secs(180), "Keycloak is ready", || async {
            let answer = keycloak.http.get(&metadata).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        keycloak
    }

    /// The issuer of the realm.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// An access token of a user (`alice` or `bob`) for the client `chandlery`.
    ///
    /// # Panics
    /// If Keycloak gives none.
    pub async fn token(&self, user: &str) -> String {
        let password = format!("{user}-password");
        let form = [
            ("grant_type", "password"),
            ("client_id", "chandlery"),
            ("username", user),
            ("password", &password),
            ("scope", "openid"),
        ];
        let asked = self.http.post(format!("{}/protocol/openid-connect/token", self.issuer));
        let answer = asked.form(&form).send().await.expect("it answers");
        let answer: Value = answer.json().await.expect("JSON");
        let token = answer["access_token"].as_str();
        token.unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// A file for `--issuers` that names the realm.
    pub fn issuers(&self) -> String {
        format!(
            "issuers:\n  - issuer: {}\n    display_name: Corp\n    client_id: chandlery\n    audiences: [chandlery]\n",
            self.issuer
        )
    }
}

/// The script does not end its Java process when it is killed.
impl Drop for Keycloak {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.program.pid()), Signal::SIGKILL);
    }
}

/// The claims of a JWT, unverified.
///
/// # Panics
/// If it is none.
pub fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("a JWT has three parts");
    let claims = data_encoding::BASE64URL_NOPAD
        .decode(claims.as_bytes())
        .expect("base64url");
    serde_json::from_slice(&claims).expect("JSON")
}
