//! What people do in a scenario: an admin publishes an entry for its server, and a person installs it, connects an account where that is
//! asked for, and calls a tool with an MCP client.

use contracts::{
    gateway::DiscoverToolsRequest,
    registry::{self as r, ClientAuthentication, entry::CredentialModel},
};
use integration_tests::{Caller, browser, caller::reason, eventually, walk};
use serde::Deserialize;
use serde_json::{Value, json};

use super::stage::Stage;

/// How often a person opens the link in an answer before they give up.
const PATIENCE: usize = 2;
/// What the link repairs.
const REPAIRED: [&str; 3] = ["CREDENTIAL_REQUIRED", "CREDENTIAL_EXPIRED", "SCOPE_REQUIRED"];

/// A scenario, as the suite hands it to its client.
#[derive(Debug, Deserialize)]
pub(super) struct Scenario {
    #[serde(rename = "scenario")]
    pub(super) name: String,
    server: String,
    context: Context,
}

/// What the client of a scenario knows beforehand.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    client_id: String,
    client_secret: String,
    private_key_pem: String,
}

/// Where the credential of an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Account,
    Machine,
}

impl Scenario {
    fn kind(&self) -> Kind {
        match self.name.strip_prefix("auth/") {
            None => Kind::None,
            Some(name) if name.starts_with("client-credentials-") => Kind::Machine,
            Some(_) => Kind::Account,
        }
    }
}

/// What came of it: `called`, or why not.
pub(super) async fn play(stage: &Stage, scenario: &Scenario) -> String {
    let id = scenario.name.replace(['/', '_'], "-");
    let (admin, person) = (stage.admin(), stage.member(&id));
    publish(&admin, &id, scenario).await;
    admin.gateway(&id).await;
    let gateway = format!("gateways/{id}");
    let assigned = admin.create_assignment(&gateway, walk::all_tools(&id), false).await;
    assigned.expect("an admin may");
    let installation = person.create_installation(&id, None, &[]).await;
    let installation = installation.expect("a member may").name;
    let mut patience = PATIENCE;
    loop {
        if scenario.kind() == Kind::Account
            && let Err(why) = connect(&person, &installation).await
        {
            return why;
        }
        match call(stage, &person, &id, &installation).await {
            Ok(()) => return "called".to_owned(),
            Err(why) if scenario.kind() == Kind::Account && patience > 0 && REPAIRED.contains(&why.as_str()) => {
                patience -= 1;
            }
            Err(why) => return why,
        }
    }
}

/// The entry that an admin makes of what they know of the server.
async fn publish(admin: &Caller, id: &str, scenario: &Scenario) {
    let context = &scenario.context;
    let (authentication, secret) = match context.private_key_pem.as_str() {
        "" => (ClientAuthentication::ClientSecretBasic, &context.client_secret),
        key => (ClientAuthentication::PrivateKeyJwt, &key.to_owned()),
    };
    let mut entry = walk::remote(&scenario.server);
    let (mut client, mut authorization_server) = (None, None);
    if !context.client_id.is_empty() {
        entry.install_fields = vec![walk::stored_secret("secret")];
        client = Some(r::OAuthClient {
            client_id: context.client_id.clone(),
            secret_field: "secret".to_owned(),
            authentication: authentication.into(),
            ..r::OAuthClient::default()
        });
        authorization_server = Some(walk::issuer(&issuer_of(&scenario.server).await));
    }
    entry.credential_model = match scenario.kind() {
        Kind::None => None,
        Kind::Account => Some(CredentialModel::Oauth(r::OAuthCredential {
            authorization_server,
            client,
            ..r::OAuthCredential::default()
        })),
        Kind::Machine => Some(CredentialModel::ClientCredentials(r::ClientCredentialsCredential {
            authorization_server,
            client,
            ..r::ClientCredentialsCredential::default()
        })),
    };
    admin.publish(id, entry).await;
    if !secret.is_empty() {
        let stored = admin.put_entry_secrets(id, &[("secret", secret)]).await;
        stored.expect("an admin may");
    }
}

/// The authorization server that a server names: a client belongs to one, and an admin looks it up.
async fn issuer_of(server: &str) -> String {
    let metadata = server.replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
    let http = reqwest::Client::builder().no_proxy().build();
    let asked = http.expect("a client without TLS settings").get(metadata).send().await;
    let metadata: Value = asked.expect("it answers").json().await.expect("JSON");
    let issuer = metadata["authorization_servers"][0].as_str();
    issuer.expect("it names one").to_owned()
}

async fn connect(person: &Caller, installation: &str) -> Result<(), String> {
    let started = person.start_authorization(installation).await;
    let started = started.map_err(|status| reason(&status))?;
    let redirected = browser::sign_in(&started.authorization_url, &Stage::callback()).await;
    let finished = person.finish_authorization(&redirected).await;
    finished.map(|_| ()).map_err(|status| reason(&status))
}

/// Has the tools discovered, and calls one, if there is one.
async fn call(stage: &Stage, person: &Caller, id: &str, installation: &str) -> Result<(), String> {
    eventually("the tools are asked for", || async {
        let request = DiscoverToolsRequest {
            installation: installation.to_owned(),
        };
        let asked = person.tools().discover_tools(request).await;
        let asked = asked.map(|_| ()).map_err(|status| reason(&status));
        // It is not ready for a moment.
        (asked != Err("INSTALLATION_UNAVAILABLE".to_owned())).then_some(asked)
    })
    .await?;
    let client = stage.stack.mcp(id, person).await;
    let Some((tool, arguments)) = choose(&client.list_tools().await) else {
        return Ok(());
    };
    let answer = client.call(&tool, arguments).await;
    let result = &answer["result"];
    if let Some(code) = answer["error"]["code"].as_i64() {
        return Err(code.to_string());
    }
    if result["isError"] == json!(true) {
        let error = result["structuredContent"]["error"].as_str();
        return Err(error.map_or_else(|| result.to_string(), str::to_uppercase));
    }
    Ok(())
}

/// A tool, and its arguments. One scenario asks for the schema of another tool, as a client sees it.
fn choose(tools: &[Value]) -> Option<(String, Value)> {
    let named = |name: &str| {
        tools
            .iter()
            .find(|tool| tool["name"].as_str().is_some_and(|tool| tool.ends_with(name)))
    };
    let (tool, arguments) = match (named("json_schema_echo"), named("json_schema_2020_12_tool")) {
        (Some(echo), Some(tool)) => (echo, json!({"schema": tool["inputSchema"]})),
        // `add_numbers` requires these, and the others ignore them.
        _ => (tools.first()?, json!({"a": 5, "b": 3})),
    };
    Some((tool["name"].as_str()?.to_owned(), arguments))
}
