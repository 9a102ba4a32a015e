//! An MCP client that has nothing but the URL of a gateway signs its person in at the organization's identity provider, which knows neither
//! client metadata documents nor dynamic registration: the facade does. Programs call as what they are.
//!
//! Tools: node

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, routing::get};
use contracts::registry::{self as r, ClientAuthentication, entry::CredentialModel, token_exchange_credential::Flow};
use integration_tests::{
    Caller, Stack,
    caller::refused,
    issuer::{Bound, CLIENT, Issuer},
    keycloak::claims,
    process::{Program, free_port},
    script::{node, node_command},
    stack::StackBuilder,
    upstream::{Served, recording::RecordingUpstream},
    wait::eventually,
    walk,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

const REDIRECT: &str = "http://127.0.0.1:33418/callback";
/// For whom the identity provider's access tokens are.
const AUDIENCE: &str = "https://tools.corp.example";

struct Journey {
    stack: Stack,
    upstream: RecordingUpstream,
    issuer: String,
    provider: Program,
}

impl Journey {
    /// With these members of the issuer's `facade`.
    async fn start(facade: Value) -> Self {
        // A stop cuts off soon what does not hold its connection open.
        Self::launch(facade, Stack::builder().flag("--drain", "2")).await
    }

    async fn launch(facade: Value, stack: StackBuilder) -> Self {
        let (http, port) = (free_port(), free_port());
        let issuer = format!("http://127.0.0.1:{port}");
        // JSON is YAML.
        let text = json!({"issuers": [{
            "issuer": issuer, "display_name": "Corp", "client_id": "chandlery", "audiences": [AUDIENCE],
            "scopes": ["email", "profile", "groups"], "facade": facade, "machines": {"subject_is_client": true},
        }]});
        let mut provider = node_command("oidc_provider.mjs");
        provider
            .arg(port.to_string())
            .arg(format!("http://127.0.0.1:{http}/signin/callback"));
        let provider = Program::start(provider);
        let lines = provider.lines().clone();
        eventually("oidc-provider listens", || async {
            lines.contain("listening").then_some(())
        })
        .await;
        let stack = stack
            .issuers(&text.to_string())
            .flag("--http", format!("127.0.0.1:{http}"))
            .start()
            .await;
        let upstream = RecordingUpstream::start().await;
        let admin = stack.admin();
        admin.publish("api", walk::remote(&upstream.url())).await;
        for (team, group) in [("engineering", "engineering"), ("robots", "robots")] {
            admin.team(team, vec![walk::group(&issuer, group)]).await;
            admin.install("api", Some(&format!("teams/{team}")), &[]).await;
        }
        admin.gateway("team").await;
        admin.gateway("elsewhere").await;
        admin.assign("team", "api", "echo").await;
        Self {
            stack,
            upstream,
            issuer,
            provider,
        }
    }

    async fn sign_in(&self, client: Option<&str>) -> Value {
        let seen = self.run(client).await;
        assert_eq!(seen["error"], Value::Null, "{seen:#}");
        seen
    }

    fn check(&self, seen: &Value) {
        assert_eq!(seen["resource"]["resource"], self.stack.mcp_url("team"));
        let server = self.stack.url("/oauth");
        assert_eq!(seen["resource"]["authorization_servers"][0], server);
        assert_eq!(seen["server"]["issuer"], server);
        assert_eq!(
            seen["foreign"],
            json!({"status": 400, "location": null}),
            "a foreign redirect URI"
        );
        assert_eq!(
            seen["back"],
            json!({"state": "the client's state", "iss": server, "error": null})
        );
        assert_eq!(seen["stolen"]["error"], "invalid_grant");
        assert_eq!(
            (&seen["redeemed"], &seen["replayed"]["error"]),
            (&json!(200), &json!("invalid_grant"))
        );
        for called in ["called", "again"] {
            assert_eq!(seen[called]["tools"], json!(["api__echo"]));
            assert_eq!(seen[called]["result"]["content"][0]["text"], "x", "{seen:#}");
        }
        assert_eq!(seen["elsewhere"]["status"], 401);
        let challenge = seen["elsewhere"]["challenge"].as_str().expect("a challenge");
        assert!(
            challenge.contains("/.well-known/oauth-protected-resource/mcp/elsewhere"),
            "{challenge}"
        );
    }
}

/// Where a client's metadata document is.
struct DocumentServer {
    /// The client's id.
    id: String,
    fetches: Arc<AtomicUsize>,
    _served: Served,
}

impl DocumentServer {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let id = format!("http://{}/client.json", listener.local_addr().expect("it is bound"));
        let document =
            json!({"client_id": id, "client_name": "Editor", "redirect_uris": ["http://127.0.0.1/callback"]});
        let fetches = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&fetches);
        let answer = async move || {
            counted.fetch_add(1, Ordering::Relaxed);
            axum::Json(document)
        };
        let _served = Served::on(listener, Router::new().route("/client.json", get(answer)));
        Self { id, fetches, _served }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_registers_itself_and_signs_in() {
    let journey = Journey::start(json!({"resource": AUDIENCE, "parameters": {"prompt": "consent"}})).await;
    let seen = journey.sign_in(None).await;
    journey.check(&seen);
    let question = seen["question"].as_str().expect("a page");
    for shown in ["Journey's editor", "a program on this computer", "team"] {
        assert!(question.replace("&#39;", "'").contains(shown), "{shown}: {question}");
    }
    assert_eq!(
        seen["granted"],
        json!(["access_token", "expires_in", "issuer", "refresh_token", "token_type"])
    );
    assert_eq!(seen["refreshed"], json!({"access": true, "refresh": true}));
    assert_eq!(seen["repeated"], true);
    // It was rotated away: oidc-provider takes it for stolen, and ends the grant.
    assert_eq!(
        (&seen["reused"]["error"], &seen["ended"]["error"]),
        (&json!("invalid_grant"), &json!("invalid_grant"))
    );
    assert!(journey.upstream.last_call().values("authorization").is_empty());
    let log = journey.stack.lines();
    assert!(log.contain("an MCP client was given a token"));
    assert!(!log.contain("cha_") && !log.contain("eyJ"), "no token in the log");
}

/// The identity provider takes a refresh token once: what it answers to the last request before a stop must reach the client.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_loses_no_sign_in() {
    let mut journey = Journey::start(json!({"resource": AUDIENCE, "parameters": {"prompt": "consent"}})).await;
    let options = json!({"url": journey.stack.mcp_url("team"), "login": "bob", "redirect": REDIRECT, "tokens": true});
    let client = node("mcp_sign_in.mjs", [options.to_string()]).await.json();
    ask(&format!("{}/hold", journey.issuer)).await;
    let refreshing = tokio::spawn(refresh(client.clone(), client["refresh_token"].clone()));
    let lines = journey.provider.lines().clone();
    eventually("the provider has new tokens", || async {
        lines.contain("an answer is held").then_some(())
    })
    .await;
    let unfinished = format!(
        "POST /oauth/token HTTP/1.1\r\nhost: {}\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n",
        journey.stack.http()
    );
    // Some on each thread that serves connections.
    let mut others = Vec::new();
    for _ in 0..2 * std::thread::available_parallelism().map_or(1, usize::from) {
        let mut other = TcpStream::connect(journey.stack.http()).await.expect("it listens");
        other.write_all(unfinished.as_bytes()).await.expect("it reads");
        other.read_u8().await.expect("it waits for the body");
        others.push(other);
    }

    let issuer = journey.issuer.clone();
    let answered = async {
        // They are cut off when a stop has waited for long enough, for most requests.
        for mut other in others {
            let _cut_off = other.read_to_end(&mut Vec::new()).await;
        }
        ask(&format!("{issuer}/release")).await;
        refreshing.await.expect("it does not panic")
    };
    let (ended, answer) = tokio::join!(journey.stack.stop(), answered);
    assert!(ended.success(), "{ended}");
    assert!(answer["refresh_token"].is_string(), "{answer}");
    journey.stack.start_again().await;
    let next = refresh(client, answer["refresh_token"].clone()).await;
    assert!(next["access_token"].is_string(), "{next}");
}

async fn ask(url: &str) {
    let answer = reqwest::get(url).await;
    assert!(answer.expect("it answers").status().is_success(), "{url}");
}

/// What a client gets for a refresh token.
async fn refresh(client: Value, token: Value) -> Value {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let form = [
        ("grant_type", "refresh_token".to_owned()),
        ("client_id", text(&client["client_id"])),
        ("refresh_token", text(&token)),
    ];
    let http = reqwest::Client::new();
    let answer = http.post(text(&client["token_endpoint"])).form(&form).send().await;
    answer.expect("it answers").json().await.expect("it is JSON")
}

/// The identity provider's access tokens are opaque, and it gives no refresh token.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_stands_in_for_an_opaque_access_token() {
    let journey = Journey::start(json!({"scopes": []})).await;
    let seen = journey.sign_in(None).await;
    assert_eq!(seen["called"]["result"]["content"][0]["text"], "x", "{seen:#}");
    // `issuer` is the client's own note.
    assert_eq!(
        seen["granted"],
        json!(["access_token", "expires_in", "issuer", "token_type"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_known_by_its_metadata_document() {
    // By plain http, since it is this machine's: clients of others have https URLs.
    let stack = Stack::builder().flag("--allow-client-document-cidr", "127.0.0.0/8");
    let facade = json!({"resource": AUDIENCE, "parameters": {"prompt": "consent"}});
    let journey = Journey::launch(facade, stack).await;
    let client = DocumentServer::start().await;
    let id = client.id.clone();
    let seen = journey.sign_in(Some(&id)).await;
    journey.check(&seen);
    let question = seen["question"].as_str().expect("a page");
    assert!(question.contains("Editor, says 127.0.0.1"), "{question}");
    let registered = seen["requests"].as_array().expect("a list");
    assert!(
        registered
            .iter()
            .all(|request| !request.as_str().expect("a text").contains("register"))
    );
}

/// The networks of upstreams are for URLs that admins approve; anybody can name a client.
#[tokio::test(flavor = "multi_thread")]
async fn no_client_id_leads_into_the_networks_of_upstreams() {
    let journey = Journey::start(json!({})).await;
    let client = DocumentServer::start().await;
    let url = format!("http://{}/oauth/authorize", journey.stack.http());
    let query = [("client_id", client.id.as_str()), ("redirect_uri", REDIRECT)];
    let url = reqwest::Url::parse_with_params(&url, &query).expect("a URL");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = http.get(url).send().await;
    let page = answer.expect("it answers").text().await.expect("a page");
    assert!(page.contains("--allow-client-document-cidr"), "{page}");
    assert_eq!(client.fetches.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_takes_tokens_only_leads_nowhere() {
    let journey = Journey::start(json!({})).await;
    let admin = journey.stack.admin();
    let change = r::UpdateGatewayRequest {
        gateway: Some(r::Gateway {
            name: "gateways/team".to_owned(),
            tokens_only: Some(true),
            ..r::Gateway::default()
        }),
        update_mask: None,
    };
    admin.gateways().update_gateway(change).await.expect("an admin may");
    let seen = journey.run(None).await;
    let asked: Vec<&str> = seen["requests"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(asked[0], "POST /mcp/team 401");
    assert!(
        asked[1..]
            .iter()
            .all(|request| request.ends_with(" 404") && request.contains("/.well-known/")
                || request.starts_with("POST /register")),
        "{asked:?}"
    );
    assert!(!asked.iter().any(|request| request.contains("authorize")));
    let token = journey.stack.member("alice").gateway_token().await;
    journey.stack.mcp("team", &journey.stack.caller(Some(token))).await;
}

/// A program with a token that it got for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_calls_as_what_it_is() {
    let journey = Journey::start(json!({})).await;
    let robot = journey.robot().await;
    let client = journey.stack.mcp("team", &robot).await;
    assert_eq!(client.call_text("api__echo", json!({"text": "x"})).await, "x");
    let me = robot.me().await;
    assert!(me.machine, "{me:?}");
    assert_eq!(
        (me.subject.as_str(), me.teams.as_slice()),
        ("robot", &["teams/robots".to_owned()][..])
    );
    let refusal = robot.create_installation("api", None, &[]).await;
    let text = refusal.as_ref().map(drop).unwrap_err().message().to_owned();
    refused(refusal, Code::PermissionDenied, "PERMISSION_DENIED");
    assert!(text.contains("program"), "{text}");
    let users = journey
        .stack
        .admin()
        .users()
        .list_users(r::ListUsersRequest::default())
        .await;
    let users = users.expect("an admin may").into_inner().users;
    let machines: Vec<_> = users
        .iter()
        .filter(|user| user.machine)
        .map(|user| &user.subject)
        .collect();
    assert_eq!(machines, ["robot"]);
}

/// What an upstream gets whose credential is made from the caller's token: of a person who signed in by the facade, and of a program.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_in_a_facades_token_is_passed_on_and_exchanged() {
    let journey = Journey::start(json!({"resource": AUDIENCE, "parameters": {"prompt": "consent"}})).await;
    let exchange = journey.publish_for_callers().await;
    let robot = journey.robot().await;
    let as_robot = journey.stack.mcp("team", &robot).await;
    for (name, sub) in [("own__echo", "bob"), ("exchanged__echo", "bob"), ("own__echo", "robot")] {
        journey.upstream.forget();
        if sub == "bob" {
            let seen = journey.call_as_bob(name).await;
            assert_eq!(seen["called"]["result"]["content"][0]["text"], "x", "{seen:#}");
        } else {
            assert_eq!(as_robot.call_text(name, json!({"text": "x"})).await, "x");
        }
        let sent = journey.upstream.last_call().values("authorization").join("");
        let sent = sent.strip_prefix("Bearer ").expect("a bearer token").to_owned();
        if name == "own__echo" {
            let said = claims(&sent);
            assert_eq!((&said["sub"], &said["aud"]), (&json!(sub), &json!(AUDIENCE)), "{said}");
        } else {
            assert_eq!(sent, "exchanged");
            let form = &exchange.asked().last().expect("it was asked").form.clone();
            assert_eq!(
                form["subject_token_type"],
                "urn:ietf:params:oauth:token-type:access_token"
            );
            assert_eq!(claims(&form["subject_token"])["sub"], sub);
        }
    }
}

/// The facade has nothing but an ID token: it says who signed in, so it is exchanged as that, and passed on to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_is_exchanged_as_one_and_not_passed_on() {
    let journey = Journey::start(json!({"scopes": []})).await;
    let exchange = journey.publish_for_callers().await;
    let seen = journey.call_as_bob("exchanged__echo").await;
    assert_eq!(seen["called"]["result"]["content"][0]["text"], "x", "{seen:#}");
    let form = &exchange.asked().last().expect("it was asked").form.clone();
    assert_eq!(form["subject_token_type"], "urn:ietf:params:oauth:token-type:id_token");
    assert_eq!(claims(&form["subject_token"])["sub"], "bob");

    journey.upstream.forget();
    let seen = journey.call_as_bob("own__echo").await;
    let result = &seen["called"]["result"];
    assert_eq!(
        result["structuredContent"]["error"], "caller_token_required",
        "{seen:#}"
    );
    let text = result["content"][0]["text"].as_str().expect("a text");
    assert!(
        text.contains("an access token in place of an ID token") && text.contains("admin"),
        "{text}"
    );
    assert!(journey.upstream.calls().is_empty(), "nothing was sent");
}

impl Journey {
    /// Publishes `own`, whose server gets the caller's token, and `exchanged`, which gets another for it, and installs them for everybody's
    /// team. The programs discover their tools.
    async fn publish_for_callers(&self) -> Issuer {
        let issued = "urn:ietf:params:oauth:token-type:access_token";
        let answer = json!({"access_token": "exchanged", "token_type": "Bearer", "issued_token_type": issued, "expires_in": 300});
        let exchange = Issuer::start(Bound::new().await, Box::new(move |_, _| Ok(answer.clone())));
        let passthrough = CredentialModel::JwtPassthrough(r::JwtPassthroughCredential {
            issuer: self.issuer.clone(),
            audiences: vec![AUDIENCE.to_owned(), "chandlery".to_owned()],
            ..r::JwtPassthroughCredential::default()
        });
        let exchanged = CredentialModel::TokenExchange(r::TokenExchangeCredential {
            // Its issuer is not that of the callers' tokens: the entry vouches for it, by naming its endpoint alone.
            authorization_server: Some(r::AuthorizationServer {
                token_endpoint: format!("{}/token", exchange.issuer()),
                ..r::AuthorizationServer::default()
            }),
            client: Some(r::OAuthClient {
                client_id: CLIENT.0.to_owned(),
                secret_field: "secret".to_owned(),
                authentication: ClientAuthentication::ClientSecretBasic.into(),
                ..r::OAuthClient::default()
            }),
            flow: Some(Flow::Exchange(r::TokenExchangeFlow::default())),
            ..r::TokenExchangeCredential::default()
        });
        let (admin, robot) = (self.stack.admin(), self.robot().await);
        let groups = ["engineering", "robots"].map(|group| walk::group(&self.issuer, group));
        admin.team("everybody", groups.to_vec()).await;
        for (id, model, fields) in [
            ("own", passthrough, vec![]),
            ("exchanged", exchanged, vec![walk::stored_secret("secret")]),
        ] {
            let entry = r::Entry {
                credential_model: Some(model),
                install_fields: fields.clone(),
                ..walk::remote(&self.upstream.url())
            };
            admin.publish(id, entry).await;
            if !fields.is_empty() {
                admin
                    .put_entry_secrets(id, &[("secret", CLIENT.1)])
                    .await
                    .expect("an admin may");
            }
            robot.install_and_discover_for(id, Some("teams/everybody")).await;
            admin.assign("team", id, "echo").await;
        }
        exchange
    }

    async fn call_as_bob(&self, tool: &str) -> Value {
        self.run_for(None, tool).await
    }

    /// Runs the client, whatever comes of it.
    async fn run(&self, client: Option<&str>) -> Value {
        self.run_for(client, "api__echo").await
    }

    async fn run_for(&self, client: Option<&str>, tool: &str) -> Value {
        let options = json!({
            "url": self.stack.mcp_url("team"), "tool": tool, "login": "bob", "client": client, "redirect": REDIRECT,
        });
        node("mcp_sign_in.mjs", [options.to_string()]).await.json()
    }

    async fn robot(&self) -> Caller {
        let answer: Value = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client without TLS settings")
            .post(format!("{}/token", self.issuer))
            .basic_auth("robot", Some("robot-secret"))
            .form(&[("grant_type", "client_credentials"), ("resource", AUDIENCE)])
            .send()
            .await
            .expect("it answers")
            .json()
            .await
            .expect("it is JSON");
        let token = answer["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("no token: {answer}"));
        self.stack.caller(Some(token.to_owned()))
    }
}
