//! Tests of the issuer through its HTTP endpoints.

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use service_kit::clock::ManualClock;
use tower::ServiceExt as _;

use super::*;

const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-taken-as-one";
const CALLBACK: &str = "http://localhost:8080/signin/callback";

struct Server {
    router: Router,
    code: SignInCode,
    clock: ManualClock,
    _dir: tempfile::TempDir,
}

fn server() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(service_kit::Clock::System.now());
    let code = SignInCode::random(&mut service_kit::random::rng());
    let issuer = Arc::new(DevIssuer::open(dir.path()).unwrap());
    let router = issuer.router(RouterConfig {
        http_base_url: "http://127.0.0.1:8080".parse().unwrap(),
        public_url: "http://localhost:8080".parse().unwrap(),
        code: code.clone(),
        clock: Clock::Manual(clock.clone()),
    });
    Server {
        router,
        code,
        clock,
        _dir: dir,
    }
}

fn encode(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

fn request_with(change: (&'static str, &'static str)) -> Vec<(&'static str, String)> {
    let challenge = data_encoding::BASE64URL_NOPAD.encode(&<sha2::Sha256 as sha2::Digest>::digest(VERIFIER));
    let mut request = vec![
        ("client_id", CLIENT_ID.to_owned()),
        ("redirect_uri", CALLBACK.to_owned()),
        ("response_type", "code".to_owned()),
        ("scope", "openid email".to_owned()),
        ("state", "the-state".to_owned()),
        ("nonce", "the-nonce".to_owned()),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256".to_owned()),
    ];
    for (name, value) in &mut request {
        if *name == change.0 {
            change.1.clone_into(value);
        }
    }
    request
}

impl Server {
    async fn get(&self, path: &str) -> (StatusCode, Option<String>, String) {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, pairs: &[(&str, &str)]) -> (StatusCode, Option<String>, String) {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(encode(pairs))).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Option<String>, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let location = response
            .headers()
            .get(header::LOCATION)
            .map(|value| value.to_str().unwrap().to_owned());
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, location, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn sign_in(&self, email: &str, code: &str) -> (StatusCode, Option<String>, String) {
        let request = request_with(("", ""));
        let mut pairs: Vec<(&str, &str)> = request.iter().map(|(name, value)| (*name, value.as_str())).collect();
        pairs.extend([
            ("email", email),
            ("groups", "blue, green"),
            ("admin", "yes"),
            ("code", code),
        ]);
        self.post("/dev/authorize", &pairs).await
    }

    async fn exchange(&self, code: &str, verifier: &str) -> (StatusCode, serde_json::Value) {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT_ID),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", verifier),
        ];
        let (status, _, body) = self.post("/dev/token", &pairs).await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

fn parameter(location: &str, name: &str) -> Option<String> {
    let url: Url = location.parse().unwrap();
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn claims(token: &str) -> serde_json::Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}

#[tokio::test]
async fn signs_in_and_exchanges_the_code_once() {
    let server = server();
    let request = request_with(("", ""));
    let pairs: Vec<(&str, &str)> = request.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (status, _, form) = server.get(&format!("/dev/authorize?{}", encode(&pairs))).await;
    assert_eq!(status, StatusCode::OK);
    assert!(form.contains("the-nonce"));

    let (status, location, _) = server.sign_in(" Alice@Example.com ", &server.code.to_string()).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let location = location.unwrap();
    assert!(location.starts_with(CALLBACK), "{location}");
    assert_eq!(parameter(&location, "state").unwrap(), "the-state");
    assert_eq!(parameter(&location, "iss").unwrap(), ISSUER);
    let code = parameter(&location, "code").unwrap();

    let (status, tokens) = server.exchange(&code, VERIFIER).await;
    assert_eq!(status, StatusCode::OK);
    let id = claims(tokens["id_token"].as_str().unwrap());
    assert_eq!(id["sub"], "alice@example.com");
    assert_eq!(id["aud"], CLIENT_ID);
    assert_eq!(id["nonce"], "the-nonce");
    assert_eq!(id["groups"], json!(["blue", "green"]));
    assert_eq!(id["roles"], json!(["admin"]));
    assert_eq!(id["name"], "Alice");

    let (status, again) = server.exchange(&code, VERIFIER).await;
    assert_eq!(
        (status, &again["error"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_grant"))
    );
}

#[tokio::test]
async fn actions_are_recorded_without_tokens() {
    let server = server();
    let (_, location, _) = server.sign_in("alice@example.com", &server.code.to_string()).await;
    let code = parameter(&location.unwrap(), "code").unwrap();
    let (_, tokens) = server.exchange(&code, VERIFIER).await;
    let command = DevIssuer::existing(server._dir.path()).unwrap().unwrap();
    let (ttl, now) = (Duration::from_secs(60), service_kit::Clock::System.now());
    let minted = command
        .mint("bob (uid 7)", "carol@example.com", &[], true, ttl, now)
        .unwrap();

    let text = std::fs::read_to_string(server._dir.path().join("dev-issuer.log")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines
        .iter()
        .map(|line| (line["event"].as_str().unwrap(), line["user"].as_str().unwrap()))
        .collect();
    assert_eq!(
        events,
        [
            ("signed_in", "alice@example.com"),
            ("tokens_granted", "alice@example.com"),
            ("token_made", "carol@example.com"),
        ]
    );
    assert_eq!(
        (&lines[0]["groups"], &lines[0]["admin"]),
        (&json!(["blue", "green"]), &json!(true))
    );
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(
        (&lines[1]["token"], &lines[1]["until"]),
        (&claims(access)["jti"], &claims(access)["exp"])
    );
    assert_eq!(
        (&lines[2]["by"], &lines[2]["until"]),
        (&json!("bob (uid 7)"), &claims(&minted)["exp"])
    );
    let secrets = [
        &code,
        access,
        tokens["id_token"].as_str().unwrap(),
        &minted,
        &server.code.to_string(),
    ];
    for secret in secrets.map(|secret| secret.rsplit('.').next().unwrap().to_owned()) {
        assert!(!text.contains(&secret), "{text}");
    }
}

/// An action that cannot be recorded is not done.
#[tokio::test]
async fn no_sign_in_without_a_record() {
    let server = server();
    std::fs::create_dir(server._dir.path().join("dev-issuer.log")).unwrap();
    let (_, location, _) = server.sign_in("alice@example.com", &server.code.to_string()).await;
    assert_eq!(parameter(&location.unwrap(), "error").unwrap(), "server_error");
    let command = DevIssuer::existing(server._dir.path()).unwrap().unwrap();
    let refused = command.mint(
        "bob",
        "carol@example.com",
        &[],
        true,
        Duration::from_secs(60),
        service_kit::Clock::System.now(),
    );
    assert!(refused.unwrap_err().contains("record"));
}

#[tokio::test]
async fn requires_the_verifier_of_the_challenge_and_a_fresh_code() {
    let server = server();
    for (verifier, wait) in [("another verifier", 0), (VERIFIER, 61)] {
        let (_, location, _) = server.sign_in("alice@example.com", &server.code.to_string()).await;
        let code = parameter(&location.unwrap(), "code").unwrap();
        server.clock.advance(Duration::from_secs(wait));
        let (status, answer) = server.exchange(&code, verifier).await;
        assert_eq!(
            (status, &answer["error"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_grant"))
        );
    }
}

#[tokio::test]
async fn limits_wrong_codes() {
    let server = server();
    for _ in 0..5 {
        let (status, location, page) = server.sign_in("alice@example.com", "WRONG-CODE").await;
        assert_eq!((status, location), (StatusCode::UNPROCESSABLE_ENTITY, None));
        assert!(page.contains("This is not the code") && page.contains("alice@example.com"));
        assert!(!page.contains("WRONG-CODE"));
    }
    let right = server.code.to_string();
    assert_eq!(
        server.sign_in("alice@example.com", &right).await.0,
        StatusCode::TOO_MANY_REQUESTS
    );
    server.clock.advance(Duration::from_secs(60));
    assert_eq!(
        server.sign_in("alice@example.com", &right).await.0,
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        server.sign_in("nobody", &right).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[tokio::test]
async fn redirects_only_to_its_own_client() {
    let server = server();
    for (change, back) in [
        (("client_id", "another"), None),
        (("redirect_uri", "http://evil.example/signin/callback"), None),
        (("redirect_uri", "http://localhost:8080/elsewhere"), None),
        (("response_type", "token"), Some("unsupported_response_type")),
        (("code_challenge_method", "plain"), Some("invalid_request")),
        (("scope", "email"), Some("invalid_scope")),
    ] {
        let request = request_with(change);
        let pairs: Vec<(&str, &str)> = request.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (status, location, _) = server.get(&format!("/dev/authorize?{}", encode(&pairs))).await;
        match back {
            None => assert_eq!((status, location), (StatusCode::BAD_REQUEST, None), "{change:?}"),
            Some(error) => assert_eq!(parameter(&location.unwrap(), "error").unwrap(), error, "{change:?}"),
        }
    }
}

#[tokio::test]
async fn its_tokens_are_verified_like_those_of_any_issuer() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let issuer = Arc::new(DevIssuer::open(dir.path()).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let config = RouterConfig {
        http_base_url: base.clone(),
        public_url: base.clone(),
        code: SignInCode::random(&mut service_kit::random::rng()),
        clock: Clock::System,
    };
    let router = Arc::clone(&issuer).router(config);
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    // Another process with the same folder, such as the `token` command.
    let command = DevIssuer::existing(dir.path()).unwrap().unwrap();
    let now = service_kit::Clock::System.now();
    let token = command
        .mint(
            "root (uid 0)",
            "Bob@example.com",
            &["blue".to_owned()],
            true,
            Duration::from_secs(60),
            now,
        )
        .unwrap();
    let verifier = service_kit::identity::Verifier::new(vec![DevIssuer::issuer_config(&base)], Clock::System).unwrap();
    let user = verifier.verify(&token).await.unwrap();
    assert_eq!((user.subject.as_str(), user.admin), ("bob@example.com", true));
    assert_eq!(user.groups, ["blue"]);
    assert_eq!(user.issuer, ISSUER);
    serving.abort();
}
