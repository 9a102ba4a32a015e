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

    /// Opens an authorization URL as a browser does, up to the redirect to `redirect_uri`, which is returned.
    ///
    /// # Panics
    /// If it ends elsewhere.
    pub async fn sign_in(&self, authorization_url: &str, redirect_uri: &str) -> String {
        let browser = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client without TLS settings");
        let mut cookies: Vec<(String, String)> = Vec::new();
        let mut url = reqwest::Url::parse(authorization_url).expect("a URL");
        for _ in 0..10 {
            let jar: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let answer = browser.get(url.clone()).header("cookie", jar.join("; ")).send().await;
            let answer = answer.expect("it answers");
            for cookie in answer.headers().get_all("set-cookie") {
                let cookie = cookie.to_str().expect("ASCII").split(';').next().unwrap_or_default();
                if let Some((name, value)) = cookie.split_once('=') {
                    cookies.retain(|(known, _)| known != name);
                    cookies.push((name.to_owned(), value.to_owned()));
                }
            }
            let to = answer
                .headers()
                .get("location")
                .and_then(|to| to.to_str().ok())
                .map(str::to_owned);
            let Some(to) = to else {
                panic!("{url} does not redirect: {}", answer.text().await.unwrap_or_default());
            };
            url = url.join(&to).expect("a URL");
            if url.as_str().starts_with(redirect_uri) {
                return url.into();
            }
        }
        panic!("no redirect to {redirect_uri}: {url}")
    }

    /// Kills it.
    pub async fn kill(&mut self) {
        self.program.kill().await;
    }

    fn control(&self) -> String {
        format!("{}/control", self.issuer)
    }
}
