//! What people do in a scenario: an admin publishes an entry for its server, and a person installs it, connects an account where that is
//! asked for, and calls a tool with an MCP client.

use contracts::{
    gateway::DiscoverToolsRequest,
    registry::{self as r, ClientAuthentication, entry::CredentialModel},
};
use integration_tests::{Caller, browser, caller::reason, eventually, relayed::Client, walk};
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
    /// The tools that it is to call.
    #[serde(rename = "toolCalls")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Debug, Deserialize)]
struct ToolCall {
    name: String,
    arguments: Value,
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

    /// Whether its server asks whoever calls a tool.
    fn asks(&self) -> bool {
        matches!(
            self.name.as_str(),
            "elicitation-sep1034-client-defaults" | "sep-2322-client-request-state"
        )
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
        let called = async {
            discover(&person, &installation).await?;
            call(stage, &person, &id, scenario).await
        };
        match called.await {
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

/// Has the tools discovered.
async fn discover(person: &Caller, installation: &str) -> Result<(), String> {
    eventually("the tools are asked for", || async {
        let request = DiscoverToolsRequest {
            installation: installation.to_owned(),
        };
        let asked = person.tools().discover_tools(request).await;
        let asked = asked.map(|_| ()).map_err(|status| reason(&status));
        // It is not ready for a moment.
        (asked != Err("INSTALLATION_UNAVAILABLE".to_owned())).then_some(asked)
    })
    .await
}

/// Calls each tool that is to be called. Where the server asks, clients of both eras do, which answer.
async fn call(stage: &Stage, person: &Caller, id: &str, scenario: &Scenario) -> Result<(), String> {
    if scenario.asks() {
        // A client without a session has no stream on which the first could ask it.
        let beside = scenario.name == "elicitation-sep1034-client-defaults";
        let clients = if beside {
            &[Client::Sdk][..]
        } else {
            &[Client::Sdk, Client::NpmAuto]
        };
        for client in clients {
            let results = client.sees("tools", &stage.stack.mcp_url(id), person.token()).await;
            for result in results.as_object().expect("by tool").values() {
                succeeded(result)?;
            }
        }
        return Ok(());
    }
    let client = stage.stack.mcp(id, person).await;
    for (tool, arguments) in calls(id, &scenario.context, &client.list_tools().await) {
        let answer = client.call(&tool, arguments).await;
        if let Some(code) = answer["error"]["code"].as_i64() {
            return Err(code.to_string());
        }
        succeeded(&answer["result"])?;
    }
    Ok(())
}

fn succeeded(result: &Value) -> Result<(), String> {
    if result["isError"] != json!(true) {
        return Ok(());
    }
    let error = result["structuredContent"]["error"].as_str();
    Err(error.map_or_else(|| result.to_string(), str::to_uppercase))
}

/// Tools, and their arguments: those that the suite names, or each that is listed. One scenario asks for the schema of another tool, as a
/// client sees it.
fn calls(id: &str, context: &Context, tools: &[Value]) -> Vec<(String, Value)> {
    if !context.tool_calls.is_empty() {
        let calls = context.tool_calls.iter();
        return calls
            .map(|call| (format!("{id}__{}", call.name), call.arguments.clone()))
            .collect();
    }
    let names = tools
        .iter()
        .map(|tool| tool["name"].as_str().expect("it has a name").to_owned());
    let schema = |name: &str| tools.iter().find(|tool| tool["name"] == format!("{id}__{name}"));
    match schema("json_schema_2020_12_tool") {
        Some(tool) => vec![(
            format!("{id}__json_schema_echo"),
            json!({"schema": tool["inputSchema"]}),
        )],
        // `add_numbers` requires these, and the others ignore them.
        None => names.map(|name| (name, json!({"a": 5, "b": 3}))).collect(),
    }
}
