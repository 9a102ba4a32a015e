//! What the tests share: Alice, her calendar with an honest authorization server, and entries with hostile ones.

use contracts::{credential::Credential, registry as r};
use http::header::LOCATION;
use integration_tests::{
    Caller, McpClient, Stack,
    caller::reason,
    hostile_authorization_server::{Behaviour, HostileAuthorizationServer},
    plain_browser::{Browser, Page},
    tls::install_crypto,
    upstream::protected::ProtectedUpstream,
    walk,
};
use serde_json::json;
use tonic::{Code, Status};

/// An entry for an MCP server, with the authorization server that it names.
pub(crate) struct Site {
    pub(crate) entry: String,
    pub(crate) server: HostileAuthorizationServer,
    pub(crate) upstream: ProtectedUpstream,
}

pub(crate) struct Journey {
    pub(crate) stack: Stack,
    pub(crate) alice: Caller,
    pub(crate) browser: Browser,
    /// Its authorization server is honest, and Alice's account is connected.
    pub(crate) calendar: Site,
    pub(crate) client: McpClient,
}

/// How a sign-in at a hostile server ends.
pub(crate) struct Expected<'a> {
    pub(crate) code: Code,
    pub(crate) reason: &'a str,
    /// What Alice reads.
    pub(crate) page: &'a [&'a str],
}

impl Journey {
    /// Of this machine, Chandlery may connect to 127.0.0.1 alone.
    pub(crate) async fn start() -> Self {
        let stack = Stack::builder()
            .without_loopback_upstreams()
            .flag("--allow-upstream-cidr", "127.0.0.1/32")
            .start()
            .await;
        let alice = stack.member("alice");
        stack.admin().gateway("team").await;
        let calendar = publish(&stack, "calendar", Behaviour::default()).await;
        let installation = create(&alice, &calendar).await;
        connect(&alice, &installation).await.expect("an honest server");
        alice.until_ready(&installation).await;
        stack.admin().assign("team", "calendar", "echo").await;
        let browser = Browser::signed_in(&stack, "alice").await;
        let client = stack.mcp("team", &alice).await;
        let journey = Self {
            stack,
            alice,
            browser,
            calendar,
            client,
        };
        journey.others_go_on().await;
        journey
    }

    pub(crate) async fn others_go_on(&self) {
        let answer = self.client.call_text("calendar__echo", json!({"text": "x"})).await;
        assert_eq!(answer, "x");
    }

    /// Alice cannot connect, neither as a program does nor with her browser, and nothing comes of it.
    pub(crate) async fn is_refused(&mut self, site: &Site, expected: &Expected<'_>) {
        let name = &site.entry;
        let installation = create(&self.alice, site).await;
        let status = connect(&self.alice, &installation).await.expect_err(name);
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (expected.code, expected.reason),
            "{name}: {status:?}"
        );
        let page = self.opens(site, &installation).await;
        let text = page.text();
        for part in expected.page.iter().chain(&["Nothing was changed."]) {
            assert!(text.contains(part), "{name}: {part} in {text}");
        }
        assert!(page.html.contains("Back to the installation"), "{name}: {text}");
        self.kept_nothing(site, &installation).await;
        self.others_go_on().await;
    }

    /// The page at which Alice's browser ends after she has pressed the button that connects the account.
    pub(crate) async fn opens(&mut self, site: &Site, installation: &str) -> Page {
        leave(&self.stack, &mut self.browser, site, installation, true).await
    }

    pub(crate) async fn kept_nothing(&self, site: &Site, installation: &str) {
        let kept = self.alice.credential(installation).await.connection;
        assert!(kept.is_none(), "{}: {kept:?}", site.entry);
        assert_eq!(site.upstream.tokens(), [""; 0], "{}", site.entry);
        let lines = self.stack.lines().all().join("\n");
        assert!(!lines.contains("hostile-"), "a code, a token or a secret is in the log");
    }
}

pub(crate) async fn publish(stack: &Stack, id: &str, behaviour: Behaviour) -> Site {
    let (listener, resource) = ProtectedUpstream::bind().await;
    let server = HostileAuthorizationServer::start(&resource).await;
    server.sign_in_as("alice");
    server.behave(behaviour);
    let upstream = ProtectedUpstream::start(listener, &resource, server.issuer()).await;
    let entry = r::Entry {
        credential_model: Some(r::entry::CredentialModel::Oauth(r::OAuthCredential::default())),
        ..walk::remote(upstream.url())
    };
    stack.admin().publish(id, entry).await;
    Site {
        entry: id.to_owned(),
        server,
        upstream,
    }
}

pub(crate) async fn create(person: &Caller, site: &Site) -> String {
    let installation = person.create_installation(&site.entry, None, &[]).await;
    installation.expect("a member may").name
}

/// Where the authorization server sends the browser.
pub(crate) async fn redirected(person: &Caller, installation: &str) -> Result<String, Status> {
    let started = person.start_authorization(installation).await?;
    install_crypto();
    let browser = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client without TLS settings");
    let answer = browser.get(started.authorization_url).send().await.expect("it answers");
    let to = answer.headers().get(LOCATION).expect("a redirect");
    Ok(to.to_str().expect("ASCII").to_owned())
}

/// As a program does it.
pub(crate) async fn connect(person: &Caller, installation: &str) -> Result<Credential, Status> {
    let redirected = redirected(person, installation).await?;
    person.finish_authorization(&redirected).await
}

/// The page at which a browser ends after its person has pressed the button; without `all_the_way`, the last one before the callback.
pub(crate) async fn leave(
    stack: &Stack,
    browser: &mut Browser,
    site: &Site,
    installation: &str,
    all_the_way: bool,
) -> Page {
    let uid = installation.strip_prefix("installations/").expect("its name");
    let progress = stack.url(&format!("/install/{}/progress/{uid}", site.entry));
    let action = format!("/install/{}/connect/{uid}", site.entry);
    let form = browser.get(&progress).await.form(&action);
    let page = browser.post(&stack.url(&action), &form).await;
    match &page.refresh {
        Some(to) if all_the_way => browser.get(to).await,
        _ => page,
    }
}
