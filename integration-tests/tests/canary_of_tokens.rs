//! The canary search for every credential model that has to do with tokens: accounts, machines, exchanged tokens, and callers' own. What
//! servers issued and were sent is looked for in everything that Chandlery writes and answers, at the log's most verbose, also where servers
//! repeat in their errors what they were sent.

use std::collections::HashSet;

use contracts::registry::{self as r, ClientAuthentication, entry::CredentialModel, token_exchange_credential::Flow};
use integration_tests::{
    Caller, Stack,
    canary::{Answers, Search, call_everything},
    eventually,
    hostile_authorization_server::{Behaviour, HostileAuthorizationServer},
    issuer::{AUDIENCE, Bound, CLIENT, Issuer},
    plain_browser::{Browser, Page},
    upstream::{protected::ProtectedUpstream, recording::RecordingUpstream},
    walk,
};
use serde_json::json;
use url::Url;

/// Parameters of a token endpoint that are no secret.
const PUBLIC: [&str; 9] = [
    "audience",
    "client_assertion_type",
    "client_id",
    "grant_type",
    "redirect_uri",
    "requested_token_type",
    "resource",
    "scope",
    "subject_token_type",
];
/// What the test issuer's refusal repeats.
const UNLUCKY: &str = "bob";

/// An MCP server with an authorization server of its own.
struct Site {
    server: HostileAuthorizationServer,
    upstream: ProtectedUpstream,
}

impl Site {
    async fn start() -> Self {
        let (listener, resource) = ProtectedUpstream::bind().await;
        let server = HostileAuthorizationServer::start(&resource).await;
        server.sign_in_as("alice");
        let upstream = ProtectedUpstream::start(listener, &resource, server.issuer()).await;
        Self { server, upstream }
    }

    /// What the authorization server was sent, and has issued.
    fn secrets(&self) -> Vec<String> {
        let sent = self
            .server
            .asked("/token")
            .into_iter()
            .chain(self.server.asked("/revoke"));
        let sent = sent.flat_map(|asked| asked.parameters);
        let secret = sent.filter(|(name, _)| !PUBLIC.contains(&name.as_str()) && name != "token_type_hint");
        let values = secret.map(|(_, value)| value.strip_prefix("Basic ").unwrap_or(&value).to_owned());
        values.chain(self.server.issued()).collect()
    }
}

fn client(id: &str, authentication: ClientAuthentication) -> Option<r::OAuthClient> {
    Some(r::OAuthClient {
        client_id: id.to_owned(),
        secret_field: "secret".to_owned(),
        authentication: authentication.into(),
        ..r::OAuthClient::default()
    })
}

/// An entry whose client's secret is stored on it.
fn stored(url: &str, model: CredentialModel) -> r::Entry {
    r::Entry {
        credential_model: Some(model),
        install_fields: vec![walk::stored_secret("secret")],
        ..walk::remote(url)
    }
}

/// An account: connected in a browser, refused, renewed, disconnected.
async fn account(answers: &Answers, stack: &Stack, site: &Site, alice: &Caller) {
    let entry = r::Entry {
        credential_model: Some(CredentialModel::Oauth(r::OAuthCredential::default())),
        ..walk::remote(site.upstream.url())
    };
    stack.admin().publish("mail", entry).await;
    let installation = alice
        .create_installation("mail", None, &[])
        .await
        .expect("she may")
        .name;
    let uid = installation.strip_prefix("installations/").expect("its name");
    let (progress, action) = (
        stack.url(&format!("/install/mail/progress/{uid}")),
        format!("/install/mail/connect/{uid}"),
    );
    let mut browser = Browser::signed_in(stack, "alice").await;
    let keep = |page: &Page| answers.keep("a page", format!("{} {}", page.url, page.html).into_bytes());
    for behaviour in [
        Behaviour {
            echoes: true,
            ..Behaviour::default()
        },
        Behaviour {
            tokens: json!({"token_type": "DPoP"}),
            ..Behaviour::default()
        },
        Behaviour::default(),
    ] {
        site.server.behave(behaviour);
        let form = browser.get(&progress).await.form(&action);
        let leaving = browser.post(&stack.url(&action), &form).await;
        keep(&leaving);
        keep(&browser.get(leaving.refresh.as_deref().expect("it leaves")).await);
    }
    alice.until_ready(&installation).await;
    stack.admin().assign("team", "mail", "echo").await;
    let client = stack.mcp("team", alice).await;
    let arguments = json!({"text": "x"});
    assert_eq!(client.call_text("mail__echo", arguments.clone()).await, "x");
    // It cannot be renewed, and then it can.
    for echoes in [true, false] {
        site.server.behave(Behaviour {
            echoes,
            ..Behaviour::default()
        });
        site.upstream.refuse_known_tokens();
        let call = json!({"name": "mail__echo", "arguments": arguments});
        let (_, reply) = client.send("tools/call", call).await;
        answers.http("tools/call", &reply);
    }
    keep(&browser.get(&progress).await);
    site.server.behave(Behaviour::default());
    // A code that is replayed, in the wrong hands.
    let started = alice.start_authorization(&installation).await.expect("it starts");
    let url = Url::parse(&started.authorization_url).expect("a URL");
    let state = url
        .query_pairs()
        .find(|(name, _)| name == "state")
        .expect("it has one")
        .1;
    let code = site.server.asked("/token")[0].parameters["code"].clone();
    let request = contracts::credential::FinishAuthorizationRequest {
        state: state.into_owned(),
        code,
        issuer: site.server.issuer().to_owned(),
        ..Default::default()
    };
    for who in [&stack.member("mallory"), alice] {
        let finished = who.credentials().finish_authorization(request.clone()).await;
        assert!(finished.is_err(), "it is replayed");
        answers.grpc("FinishAuthorization", finished);
    }
}

/// A machine's token, by a key.
async fn machine(answers: &Answers, stack: &Stack, site: &Site, alice: &Caller, key: &str) {
    let model = r::ClientCredentialsCredential {
        authorization_server: Some(walk::issuer(site.server.issuer())),
        client: client("machine", ClientAuthentication::PrivateKeyJwt),
        resource: site.upstream.url().to_owned(),
        ..r::ClientCredentialsCredential::default()
    };
    let entry = stored(site.upstream.url(), CredentialModel::ClientCredentials(model));
    let admin = stack.admin();
    admin.publish("crm", entry).await;
    let put = contracts::credential::PutEntryCredentialRequest {
        entry: "entries/crm".to_owned(),
        values: walk::secrets(&[("secret", key)]),
        request_id: walk::request_id(),
        destination: String::new(),
    };
    answers.grpc(
        "PutEntryCredential",
        admin.credentials().put_entry_credential(put).await,
    );
    alice.install("crm", None, &[]).await;
    admin.assign("team", "crm", "echo").await;
    let client = stack.mcp("team", alice).await;
    assert_eq!(client.call_text("crm__echo", json!({"text": "x"})).await, "x");
    site.server.behave(Behaviour {
        echoes: true,
        ..Behaviour::default()
    });
    site.upstream.refuse_known_tokens();
    let call = json!({"name": "crm__echo", "arguments": {"text": "x"}});
    let (_, reply) = client.send("tools/call", call).await;
    answers.http("tools/call", &reply);
}

/// Exchanged tokens, and the callers' own.
async fn callers(
    answers: &Answers,
    stack: &Stack,
    issuer: &Issuer,
    upstream: &RecordingUpstream,
    people: [&Caller; 2],
) {
    let exchange = r::TokenExchangeCredential {
        authorization_server: Some(walk::issuer(issuer.issuer())),
        client: client(CLIENT.0, ClientAuthentication::ClientSecretPost),
        flow: Some(Flow::Exchange(r::TokenExchangeFlow {
            audience: "tool".to_owned(),
            ..r::TokenExchangeFlow::default()
        })),
        ..r::TokenExchangeCredential::default()
    };
    let passthrough = r::JwtPassthroughCredential {
        issuer: issuer.issuer().to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        ..r::JwtPassthroughCredential::default()
    };
    let admin = stack.admin();
    let tool = stored(&upstream.url(), CredentialModel::TokenExchange(exchange));
    admin.publish("tool", tool).await;
    admin
        .put_entry_secrets("tool", &[("secret", CLIENT.1)])
        .await
        .expect("an admin may");
    let own = r::Entry {
        credential_model: Some(CredentialModel::JwtPassthrough(passthrough)),
        ..walk::remote(&upstream.url())
    };
    admin.publish("own", own).await;
    let [carol, bob] = people;
    for entry in ["tool", "own"] {
        carol.install_and_discover(entry).await;
        admin.assign("team", entry, "echo").await;
        let client = stack.mcp("team", carol).await;
        let echoed = client.call_text(&format!("{entry}__echo"), json!({"text": "x"})).await;
        assert_eq!(echoed, "x");
    }
    let refused = bob.install_and_be_refused("tool").await;
    answers.grpc::<contracts::gateway::DiscoverToolsResponse>("DiscoverTools, refused", Err(refused));
    // The server accepts neither the token nor another.
    upstream.require("authorization", &["Bearer nothing"]);
    let client = stack.mcp("team", carol).await;
    for tool in ["tool__echo", "own__echo"] {
        let (_, reply) = client
            .send("tools/call", json!({"name": tool, "arguments": {"text": "x"}}))
            .await;
        answers.http("tools/call", &reply);
    }
}

/// An identity provider that repeats in a refusal all that it was sent.
async fn issuer() -> Issuer {
    let grant = |keys: &integration_tests::issuer::Keys, asked: &integration_tests::issuer::Asked| {
        let sent = &asked.form;
        let person = keys.verified(&sent["subject_token"], AUDIENCE).unwrap_or_default();
        if person["sub"] == UNLUCKY {
            let all: Vec<_> = sent.values().map(String::as_str).collect();
            return Err(("access_denied", all.join(" ")));
        }
        let token = format!("exchanged-{}", uuid::Uuid::new_v4().simple());
        Ok(json!({
            "access_token": token, "token_type": "Bearer", "expires_in": 300,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }))
    };
    Issuer::start(Bound::new().await, Box::new(grant))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_do_not_leak() {
    let answers = Answers::default();
    let (issuer, mail, crm) = (issuer().await, Site::start().await, Site::start().await);
    let upstream = RecordingUpstream::start().await;
    let stack = Stack::builder()
        .variable("RUST_LOG", "trace")
        .issuers(&issuer.issuers())
        .start()
        .await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let person = |name| stack.caller(Some(issuer.token(name)));
    let (carol, bob) = (person("carol"), person(UNLUCKY));
    admin.gateway("team").await;
    let key = rcgen::KeyPair::generate().expect("randomness").serialize_pem();

    account(&answers, &stack, &mail, &alice).await;
    machine(&answers, &stack, &crm, &alice, &key).await;
    callers(&answers, &stack, &issuer, &upstream, [&carol, &bob]).await;
    let entries = ["mail", "crm", "tool", "own"];
    let tools = entries.map(|entry| format!("{entry}__echo"));
    let tools = tools.each_ref().map(String::as_str);
    call_everything(&answers, &stack, &[&admin, &alice, &carol, &bob], &entries, &tools).await;
    let disconnected = alice
        .installations()
        .list_installations(r::ListInstallationsRequest::default())
        .await;
    for installation in disconnected.expect("she may").into_inner().installations {
        let request = contracts::credential::DeleteInstallationCredentialRequest {
            installation: installation.name,
        };
        let deleted = alice.credentials().delete_installation_credential(request).await;
        answers.grpc("DeleteInstallationCredential", deleted);
    }

    eventually("the account's tokens are revoked", || async {
        (!mail.server.asked("/revoke").is_empty()).then_some(())
    })
    .await;

    let received = upstream.requests();
    let received = received.iter().flat_map(|request| request.values("authorization"));
    let received = received
        .filter_map(|value| value.strip_prefix("Bearer "))
        .map(str::to_owned);
    let exchanged: HashSet<_> = received.filter(|token| token.starts_with("exchanged-")).collect();
    let line = key.lines().nth(1).expect("a PEM has lines").to_owned();
    // A JWT is as good as its signature.
    let signed = [&carol, &bob, &alice, &admin].map(|person| {
        let signature = person.token().rsplit('.').next();
        signature.expect("a JWT").to_owned()
    });
    let mut secrets: HashSet<String> = mail.secrets().into_iter().chain(crm.secrets()).collect();
    for kind in ["code", "code_verifier", "refresh_token", "client_assertion"] {
        let sent = [&mail, &crm].map(|site| site.server.asked("/token"));
        let is_there = sent.iter().flatten().any(|asked| asked.parameters.contains_key(kind));
        assert!(is_there, "nothing was sent as {kind}");
    }
    assert!(!exchanged.is_empty());
    secrets.extend(exchanged);
    secrets.extend(signed);
    secrets.extend([line, "hostile-client-secret".to_owned(), CLIENT.1.to_owned()]);
    let mut search = Search::new(secrets.iter().map(String::as_str));
    search.answers(&answers);
    search.log(&stack);
    search.data(&stack, |_| false);
    search.found_nothing();
}
