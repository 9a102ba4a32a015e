//! Bob has no credential, so his call returns an install link. He opens it in a browser, signs in and enters his
//! secret, and his next call succeeds.
//!
//! Tools: node, chromium

use std::path::Path;

use integration_tests::{
    McpClient, Stack,
    caller::{help_links, refused},
    mcp::McpOptions,
    process::{Program, free_port},
    script::{node, node_command, run},
    tools::Tool,
    upstream::recording::RecordingUpstream,
    wait::{eventually, eventually_within},
    walk,
};
use serde_json::{Value, json};
use tonic::Code;

/// A gateway with a tool of an entry that requires a key. Alice has installed the entry; Bob has not.
async fn stack_with_alice(stack: &Stack, upstream: &RecordingUpstream) {
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let mut entry = walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer());
    entry.display_name = "Issue tracker".to_owned();
    entry.description = "Reads and writes issues.".to_owned();
    entry.instructions = "Make a key under Settings.".to_owned();
    upstream.require("authorization", &["Bearer alice-key", "Bearer bob-key"]);
    admin.publish("issues", entry).await;
    alice.install("issues", None, &[("key", "alice-key")]).await;
    admin.gateway("team").await;
    admin.assign("team", "issues", "echo").await;
}

/// Opens a link in Chromium as one kind of user.
async fn browse(mode: &str, link: &str, secret: &str, environment: &[(&str, &str)]) -> Value {
    let mut command = node_command("install_page.mjs");
    command.args([mode, link, secret]);
    if let Some(folder) = std::env::var_os("CHANDLERY_TEST_SCREENSHOTS") {
        std::fs::create_dir_all(Path::new(&folder)).expect("the folder for screenshots can be made");
        command.arg(folder);
    }
    command.env("CHROMIUM", Tool::Chromium.path());
    command.envs(environment.iter().copied());
    let seen = run(command).await.json();
    assert!(
        seen["failure"].is_null(),
        "{mode}: {}\n{}\n{}",
        seen["failure"],
        seen["pages"],
        seen["html"]
    );
    seen
}

/// Checks what must be true of the pages for every kind of user.
fn check_pages(mode: &str, seen: &Value, secret: &str) {
    assert_eq!(seen["violations"], json!([]), "{mode}: axe-core finds violations");
    assert_eq!(seen["leaks"], json!([]), "{mode}: a page shows the secret");
    // Chromium reports 4xx responses as errors in its console, and the form with an error is one.
    let said: Vec<&Value> = seen["console"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|line| !line.to_string().contains("status of 4"))
        .collect();
    assert!(said.is_empty(), "{mode}: the browser complains: {said:?}");
    let form = seen["form"].as_str().unwrap_or_default();
    for text in ["Issue tracker", "Make a key under Settings.", "bob"] {
        assert!(form.contains(text), "{mode}: the form should show {text}: {form}");
    }
    assert_ne!(seen["error"], json!([]), "{mode}: a missing field is complained about");
    assert!(seen["invalid"].as_u64().unwrap_or_default() > 0, "{mode}: and marked");
    let cookies = seen["cookies"].as_array().expect("cookies");
    for cookie in cookies {
        assert_eq!(cookie["httpOnly"], true, "{mode}: {cookie}");
        assert!(
            ["Lax", "Strict"].contains(&cookie["sameSite"].as_str().unwrap_or_default()),
            "{mode}: {cookie}"
        );
        assert!(
            !cookie["value"].as_str().unwrap_or_default().contains("eyJ"),
            "{mode}: a cookie holds a token in clear: {cookie}"
        );
    }
    let pages = seen["pages"].to_string();
    assert!(
        !pages.contains(secret),
        "{mode}: the secret is in a URL or title: {pages}"
    );
    let progress = seen["progress"].as_str().unwrap_or_default().to_lowercase();
    assert!(
        progress.contains("retry") || progress.contains("again"),
        "{mode}: it says to retry: {progress}"
    );
}

async fn calls_work(stack: &Stack, bob: &integration_tests::Caller, upstream: &RecordingUpstream) {
    let client = stack.mcp("team", bob).await;
    assert_eq!(client.call_text("issues__echo", json!({"text": "mine"})).await, "mine");
    assert_eq!(upstream.last_call().values("authorization"), ["Bearer bob-key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_is_in_every_kind_of_response() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    stack_with_alice(&stack, &upstream).await;
    let bob = stack.member("bob");
    upstream.forget();
    let expected = stack.url("/install/issues?gateway=team");

    // Tools of entries that he has not installed are listed, too.
    let plain = stack.mcp("team", &bob).await;
    assert_eq!(plain.tool_names().await, ["issues__echo"]);
    let answer = plain.call("issues__echo", json!({"text": "x"})).await;
    let result = &answer["result"];
    assert_eq!(result["isError"], true, "{answer}");
    assert_eq!(result["content"].as_array().map(Vec::len), Some(1), "{answer}");
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    assert!(text.contains(&expected) && text.contains("Issue tracker"), "{answer}");
    assert_eq!(result["structuredContent"]["error"], "credential_required", "{answer}");
    assert_eq!(result["structuredContent"]["entry"], "issues", "{answer}");
    assert_eq!(result["structuredContent"]["install_url"], json!(expected), "{answer}");

    let able = stack
        .mcp_with("team", &bob, McpOptions::with_url_elicitation())
        .await
        .expect("it is accepted");
    let answer = able.call("issues__echo", json!({"text": "x"})).await;
    assert_eq!(answer["error"]["code"], -32042, "{answer}");
    let elicitations = answer["error"]["data"]["elicitations"]
        .as_array()
        .expect("elicitations");
    assert_eq!(elicitations.len(), 1, "{answer}");
    assert_eq!(elicitations[0]["mode"], "url");
    assert_eq!(elicitations[0]["url"], json!(expected));
    assert!(
        elicitations[0]["elicitationId"]
            .as_str()
            .is_some_and(|id| uuid::Uuid::parse_str(id).is_ok()),
        "{answer}"
    );

    // Revision 2025-06-18 has no elicitation by URL, whatever the client claims.
    let old = McpOptions {
        revision: "2025-06-18".to_owned(),
        ..McpOptions::with_url_elicitation()
    };
    let old = stack.mcp_with("team", &bob, old).await.expect("it is accepted");
    assert_eq!(old.initialized["protocolVersion"], "2025-06-18");
    assert_eq!(
        old.call("issues__echo", json!({"text": "x"})).await["result"]["isError"],
        true
    );

    let request = contracts::gateway::CallToolRequest {
        parent: "gateways/team".to_owned(),
        exposed_name: "issues__echo".to_owned(),
        arguments_json: r#"{"text":"x"}"#.to_owned(),
    };
    let status = refused(
        bob.tools().call_tool(request).await,
        Code::FailedPrecondition,
        "CREDENTIAL_REQUIRED",
    );
    assert_eq!(help_links(&status), [expected]);
    assert!(
        upstream.requests().is_empty(),
        "no call without a credential reaches the upstream"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_development_issuer() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    stack_with_alice(&stack, &upstream).await;
    let bob = stack.member("bob");
    let code = stack.sign_in_code();
    let link = stack.url("/install/issues?gateway=team");
    let seen = browse("mouse", &link, "bob-key", &[("CODE", &code)]).await;
    check_pages("mouse", &seen, "bob-key");
    calls_work(&stack, &bob, &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_javascript() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    stack_with_alice(&stack, &upstream).await;
    let bob = stack.member("bob");
    let code = stack.sign_in_code();
    let link = stack.url("/install/issues?gateway=team");
    let seen = browse("plain", &link, "bob-key", &[("CODE", &code)]).await;
    check_pages("plain", &seen, "bob-key");
    calls_work(&stack, &bob, &upstream).await;
}

/// Only by keyboard, and with the issuer of an organization, which is third-party software.
#[tokio::test(flavor = "multi_thread")]
async fn by_keyboard_with_a_configured_issuer() {
    let (http, port) = (free_port(), free_port());
    let issuer = format!("http://127.0.0.1:{port}");
    let text = format!(
        "issuers:\n  - issuer: {issuer}\n    display_name: Corp\n    client_id: chandlery\n    audiences: [chandlery]\n    scopes: [email, profile, groups]\n"
    );
    let public = format!("http://127.0.0.1:{http}");
    let mut provider = node_command("oidc_provider.mjs");
    provider.arg(port.to_string()).arg(format!("{public}/signin/callback"));
    let provider = Program::start(provider);
    let lines = provider.lines().clone();
    eventually("oidc-provider listens", || async {
        lines.contain("listening").then_some(())
    })
    .await;
    let stack = Stack::builder()
        .issuers(&text)
        .flag("--http", format!("127.0.0.1:{http}"))
        .start()
        .await;
    let upstream = RecordingUpstream::start().await;
    stack_with_alice(&stack, &upstream).await;
    let link = stack.url("/install/issues?gateway=team");
    let chosen = ("ISSUER_LINK", "main a.button[href*=\"issuer=http%3A%2F%2F127.0.0.1\"]");
    let seen = browse("keyboard", &link, "bob-key", &[("LOGIN", "bob"), chosen]).await;
    check_pages("keyboard", &seen, "bob-key");
    // The installation belongs to the user of that issuer.
    let admin = stack.admin();
    let request = contracts::registry::ListInstallationsRequest {
        entry: "entries/issues".to_owned(),
        ..Default::default()
    };
    let all = admin
        .installations()
        .list_installations(request)
        .await
        .expect("an admin may")
        .into_inner()
        .installations;
    assert_eq!(all.len(), 2, "{all:?}");
    let users = admin
        .users()
        .list_users(contracts::registry::ListUsersRequest::default())
        .await
        .expect("an admin may")
        .into_inner()
        .users;
    let bob = users.iter().find(|user| user.issuer == issuer).expect("he signed in");
    assert_eq!(bob.subject, "bob");
    eventually_within(
        std::time::Duration::from_secs(20),
        "his installation is ready",
        || async {
            let installation = admin.installation(&all[1].name).await.ok()?;
            (installation.state() == contracts::registry::InstallationState::Ready).then_some(())
        },
    )
    .await;
    // His client signs in there, too, and its call succeeds. A token for another application of the issuer is rejected.
    let sign_in = async |client: &str| {
        let callback = format!("{public}/signin/callback");
        let tokens = node("oidc_token.mjs", [&issuer, client, &callback, "bob"]).await.json();
        stack.caller(Some(
            tokens["id_token"]
                .as_str()
                .unwrap_or_else(|| panic!("no token: {tokens}"))
                .to_owned(),
        ))
    };
    let bob = sign_in("chandlery").await;
    calls_work(&stack, &bob, &upstream).await;
    let stranger = sign_in("another-application").await;
    let request = contracts::registry::ListEntriesRequest::default();
    refused(
        stranger.entries().list_entries(request).await,
        Code::Unauthenticated,
        "TOKEN_INVALID",
    );
}

/// What a foreign page could try: to post the form, to frame the page, to send a link with another person's sign-in.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_protected_against_other_origins() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    stack_with_alice(&stack, &upstream).await;
    integration_tests::tls::install_crypto();
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client without TLS settings");
    let answer = async |request: reqwest::RequestBuilder| request.send().await.expect("an answer");
    let header = |answer: &reqwest::Response, name: &str| {
        let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let url = stack.url("/install/issues?gateway=team");
    // Without a session, a person must sign in first, and does not learn which entries exist.
    for (path, back) in [
        ("/install/issues?gateway=team", "%2Finstall%2Fissues%3Fgateway%3Dteam"),
        ("/install/nothing-here", "%2Finstall%2Fnothing-here"),
    ] {
        let unknown = answer(http.get(stack.url(path))).await;
        assert_eq!(unknown.status(), http::StatusCode::SEE_OTHER, "{path}");
        assert_eq!(header(&unknown, "location"), format!("/signin?return={back}"));
    }
    // A form without a session gets an error page, which runs no foreign script and cannot be framed.
    let form = [("secret.key", "stolen")];
    let page = answer(http.post(&url).form(&form)).await;
    assert_eq!(page.status(), http::StatusCode::UNAUTHORIZED);
    let policy = header(&page, "content-security-policy");
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(
            policy.split("; ").any(|part| part == directive),
            "{directive}: {policy}"
        );
    }
    // The form of another origin is refused, whoever sends it.
    let crossed = answer(http.post(&url).header("origin", "http://evil.example").form(&form)).await;
    assert_eq!(crossed.status(), http::StatusCode::FORBIDDEN);
    // A request with a rebound host name is refused.
    let rebound = answer(http.get(&url).header("host", "evil.example")).await;
    assert_eq!(rebound.status(), http::StatusCode::MISDIRECTED_REQUEST);
    let client = McpClient::bare(
        &stack.mcp_url("team"),
        Some(stack.member("bob").token()),
        &McpOptions::default().header("origin", "http://evil.example"),
    );
    let (_, reply) = client
        .send(
            "initialize",
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}),
        )
        .await;
    assert_eq!(reply.status, http::StatusCode::FORBIDDEN);
}
