//! npm's oidc-provider as the authorization server of an upstream: see `node/authorization_server.mjs`.

use serde_json::{Value, json};

use crate::{
    process::{Program, free_port},
    script::node_command,
    tls::install_crypto,
    wait::eventually,
};

/// The secret of its clients for machines.
pub const MACHINE_SECRET: &str = "machine-secret:+/%";

/// A running authorization server.
#[derive(Debug)]
pub struct AuthorizationServer {
    issuer: String,
    http: reqwest::Client,
    program: Program,
}

impl AuthorizationServer {
    /// Starts one for a resource. `environment`: see the script.
    pub async fn start(resource: &str, environment: &[(&str, &str)]) -> Self {
        install_crypto();
        let port = free_port();
        let mut command = node_command("authorization_server.mjs");
        command
            .arg(port.to_string())
            .arg(resource)
            .envs(environment.iter().copied());
        let program = Program::start(command);
        let lines = program.lines().clone();
        eventually("oidc-provider listens", || async {
            lines.contain("listening").then_some(())
        })
        .await;
        Self {
            issuer: format!("http://127.0.0.1:{port}"),
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client without TLS settings"),
            program,
        }
    }

    /// Its issuer identifier.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Changes how it behaves.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn set(&self, change: Value) {
        let asked = self.http.post(self.control()).json(&change).send().await;
        asked
            .expect("it answers")
            .error_for_status()
            .expect("it accepts the change");
    }

    /// What it was asked so far.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn seen(&self) -> Value {
        let answer = self.http.get(self.control()).send().await.expect("it answers");
        answer.json().await.expect("JSON")
    }

    /// How many requests with this grant type it has granted.
    pub async fn granted(&self, grant_type: &str) -> usize {
        let seen = self.seen().await;
        let asked = seen["token"].as_array().cloned().unwrap_or_default();
        asked
            .iter()
            .filter(|one| one["grant_type"] == grant_type && one["ok"] == json!(true))
            .count()
    }

    /// The access token that it has issued last.
    ///
    /// # Panics
    /// If it has issued none.
    pub async fn newest_token(&self) -> String {
        let seen = self.seen().await;
        let asked = seen["token"].as_array().cloned().unwrap_or_default();
        let newest = asked.iter().rev().find_map(|one| one["issued"].as_str());
        newest.expect("a token").to_owned()
    }

    /// Kills it.
    pub async fn kill(&mut self) {
        self.program.kill().await;
    }

    fn control(&self) -> String {
        format!("{}/control", self.issuer)
    }
}
