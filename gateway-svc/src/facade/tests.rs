//! Refreshes at an identity provider that takes a refresh token once, and ends what came from one that comes again.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Form, Json,
    body::Body,
    http::{Request, StatusCode},
};
use futures::{FutureExt as _, future::join};
use http_body_util::BodyExt as _;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use service_kit::{Peer, identity::TokenError, quota::Allowance, testing::TestIssuer};
use tokio::sync::watch;
use tower::ServiceExt as _;
use url::form_urlencoded;

use super::{
    sealed::{Bound, RefreshToken, Sealed},
    *,
};

const KEY: [u8; 32] = [9; 32];
const CLIENT: &str = "http://127.0.0.1/client.json";

/// What the provider knows.
#[derive(Default)]
struct Grant {
    /// Refreshes that it was asked for.
    asked: usize,
    present: usize,
    ended: bool,
    /// Its keys cannot be fetched.
    hides_keys: bool,
}

struct Site {
    facade: Arc<Facade>,
    issuer: String,
    grant: Arc<Mutex<Grant>>,
    /// Signs its tokens.
    signer: Arc<Mutex<TestIssuer>>,
    /// Whether the provider answers.
    answers: watch::Sender<bool>,
    seen: watch::Receiver<usize>,
}

impl Site {
    async fn start() -> Self {
        Self::with(Quotas::unlimited()).await
    }

    async fn with(quotas: Arc<Quotas>) -> Self {
        let signer = TestIssuer::start().await.unwrap();
        let keys = reqwest::get(format!("{}/keys", signer.issuer())).await.unwrap();
        let keys = keys.bytes().await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let metadata = json!({
            "issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
            "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
            "revocation_endpoint": format!("{issuer}/revoke"),
        });
        let grant = Arc::new(Mutex::new(Grant::default()));
        let ((answers, answering), (seeing, seen)) = (watch::channel(true), watch::channel(0));
        let (known, iss) = (Arc::clone(&grant), issuer.clone());
        let signer = Arc::new(Mutex::new(signer));
        let signs = Arc::clone(&signer);
        let refresh = async move |Form(form): Form<HashMap<String, String>>| {
            let answer = {
                let mut grant = known.lock().unwrap_or_else(PoisonError::into_inner);
                grant.asked += 1;
                if form["refresh_token"] == format!("refresh-{}", grant.present) && !grant.ended {
                    grant.present += 1;
                    let exp = Clock::System.now() + Duration::from_secs(3600);
                    let exp = exp.duration_since(UNIX_EPOCH).unwrap().as_secs();
                    let claims = json!({ "iss": iss, "aud": "us", "sub": "alice", "exp": exp });
                    let refresh = format!("refresh-{}", grant.present);
                    let access = signs.lock().unwrap().sign_as(Some("at+jwt"), &claims);
                    let answer = json!({ "token_type": "Bearer", "access_token": access, "refresh_token": refresh });
                    (StatusCode::OK, Json(answer))
                } else {
                    grant.ended = true;
                    (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" })))
                }
            };
            seeing.send_modify(|seen| *seen += 1);
            let mut answering = answering.clone();
            let _ended = answering.wait_for(|answers| *answers).await;
            answer
        };
        let known = Arc::clone(&grant);
        let publish = async move || {
            let hides_keys = known.lock().unwrap().hides_keys;
            (!hides_keys).then_some(keys).ok_or(StatusCode::SERVICE_UNAVAILABLE)
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || Json(metadata)))
            .route("/keys", get(publish))
            .route("/revoke", post(async || StatusCode::OK))
            .route("/token", post(refresh));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = json!({ "issuer": issuer, "client_id": "pages", "audiences": ["us"], "facade": {} });
        let config: IssuerConfig = serde_json::from_value(config).unwrap();
        let facade = Facade::new(
            FacadeConfig {
                links: Links::new("http://localhost:8080".parse().unwrap()),
                documents: EgressPolicy::default(),
                key: KEY.into(),
            },
            Arc::new(Verifier::new(vec![config], Clock::System).unwrap()),
            Store::new(Duration::from_secs(60), Clock::System),
            quotas,
            Clock::System,
        );
        Self {
            facade: facade.unwrap(),
            issuer,
            grant,
            signer,
            answers,
            seen,
        }
    }

    /// The refresh token with which a client has begun.
    fn first(&self) -> String {
        self.first_of("a sign-in")
    }

    fn first_of(&self, sign_in: &str) -> String {
        let bound = Bound {
            client: client::digest(CLIENT),
            endpoint: "gateways/default".to_owned(),
            sign_in: sign_in.to_owned(),
        };
        Sealed::new(KEY.into()).refresh_token(&RefreshToken {
            bound,
            issuer: self.issuer.clone(),
            token: "refresh-0".into(),
        })
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> (StatusCode, Value) {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .extension(Peer::External("203.0.113.1:1".parse().unwrap()));
        let request = request.body(Body::from(form)).unwrap();
        let response = Arc::clone(&self.facade).routes().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn refresh_as(&self, client: &str, token: &str) -> (StatusCode, Value) {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", client),
            ("refresh_token", token),
        ];
        self.post("/oauth/token", &form).await
    }

    async fn refresh(&self, token: &str) -> (StatusCode, Value) {
        self.refresh_as(CLIENT, token).await
    }

    /// A client refreshes for the first time, and has gone before the provider answers.
    async fn first_is_lost(&self, token: &str) {
        self.answers.send_replace(false);
        let lost = self.refresh(token);
        tokio::pin!(lost);
        tokio::select! {
            answer = &mut lost => panic!("{answer:?}"),
            () = self.is_asked(1) => {}
        }
    }

    fn asked(&self) -> usize {
        self.grant.lock().unwrap().asked
    }

    /// The provider has been asked this often, and does not answer yet.
    async fn is_asked(&self, times: usize) {
        self.seen.clone().wait_for(|seen| *seen == times).await.unwrap();
    }
}

fn successor((status, answer): &(StatusCode, Value)) -> String {
    assert_eq!(*status, StatusCode::OK, "{answer}");
    answer["refresh_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_that_did_not_get_the_answer_gets_it_once_more() {
    let site = Site::start().await;
    let first = site.first();
    site.first_is_lost(&first).await;
    site.answers.send_replace(true);
    let again = site.refresh(&first).await;
    assert_eq!(site.asked(), 1);
    // What is sealed in it is the provider's present token.
    let next = site.refresh(&successor(&again)).await;
    let opened = Sealed::new(KEY.into()).open_refresh_token(&successor(&next)).unwrap();
    assert_eq!(opened.token.expose_secret(), "refresh-2");
}

/// What it issues has taken the place of what the client has.
#[tokio::test]
async fn what_a_slow_provider_issues_is_not_lost() {
    let site = Site::start().await;
    let first = site.first();
    site.first_is_lost(&first).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(50)).await;
    tokio::time::resume();
    site.answers.send_replace(true);
    successor(&site.refresh(&first).await);
    assert_eq!(site.asked(), 1);
}

#[tokio::test]
async fn what_the_provider_issues_reaches_the_client_while_its_keys_cannot_be_fetched() {
    let site = Site::start().await;
    let second = successor(&site.refresh(&site.first()).await);
    site.grant.lock().unwrap().hides_keys = true;
    site.signer.lock().unwrap().rotate().unwrap();
    let answer = site.refresh(&second).await;
    let access = answer.1["access_token"].as_str().unwrap_or_default();
    let access = Sealed::new(KEY.into()).open_access_token(access).unwrap();
    // Calls with it are refused until the keys are there.
    let verified = site
        .facade
        .verifier
        .verify(access.token().expose_secret())
        .await
        .map(drop);
    assert_eq!(verified, Err(TokenError::IssuerUnreachable));
    successor(&site.refresh(&successor(&answer)).await);
}

#[tokio::test]
async fn a_provider_that_does_not_answer_leaves_the_others_their_places() {
    let site = Site::start().await;
    let slow = site.facade.issuers().next().unwrap();
    let other = IssuerConfig {
        issuer: "https://other.example.com".to_owned(),
        ..slow.clone()
    };
    let all: Vec<_> = (0..AT_A_TIME).map(|_| site.facade.place(slow).unwrap()).collect();
    assert!(site.facade.place(slow).is_err());
    assert!(site.facade.place(&other).is_ok());
    drop(all);
    assert!(site.facade.place(slow).is_ok());
}

#[tokio::test]
async fn two_refreshes_at_once_are_one() {
    let site = Site::start().await;
    let first = site.first();
    site.answers.send_replace(false);
    let released = async {
        site.is_asked(1).await;
        site.answers.send_replace(true);
    };
    let both = join(site.refresh(&first), site.refresh(&first));
    let ((one, other), ()) = join(both, released).await;
    assert_eq!((successor(&one), site.asked()), (successor(&other), 1));
    assert_eq!(one.1["access_token"], other.1["access_token"]);
    successor(&site.refresh(&successor(&one)).await);
}

/// A token whose successor is in use is a thief's.
#[tokio::test]
async fn an_answer_is_given_until_its_refresh_token_is_used() {
    let site = Site::start().await;
    let first = site.first();
    let second = successor(&site.refresh(&first).await);
    assert_eq!(successor(&site.refresh(&first).await), second);
    let third = successor(&site.refresh(&second).await);
    assert_eq!(site.asked(), 2);
    let (status, refused) = site.refresh(&first).await;
    assert_eq!(
        (status, &refused["error"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_grant"))
    );
    // The provider was told, and has ended what came from it.
    assert_eq!(site.refresh(&third).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(site.asked(), 4);
}

#[tokio::test]
async fn an_answer_is_for_its_client_alone() {
    let site = Site::start().await;
    let first = site.first();
    successor(&site.refresh(&first).await);
    let (status, refused) = site.refresh_as("http://127.0.0.1/other.json", &first).await;
    assert_eq!(
        (status, &refused["error"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_grant"))
    );
}

#[tokio::test]
async fn what_is_revoked_is_given_to_nobody() {
    for revokes_successor in [true, false] {
        let site = Site::start().await;
        let first = site.first();
        let second = successor(&site.refresh(&first).await);
        let revoked = if revokes_successor { &second } else { &first };
        let form = [("token", &**revoked), ("client_id", CLIENT)];
        assert_eq!(site.post("/oauth/revoke", &form).await.0, StatusCode::OK);
        assert_eq!(
            site.refresh(&first).await.0,
            StatusCode::BAD_REQUEST,
            "{revokes_successor}"
        );
    }
}

#[tokio::test]
async fn a_stop_waits_for_the_provider() {
    let site = Site::start().await;
    let first = site.first();
    site.first_is_lost(&first).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let complete = Arc::clone(&site.facade).complete(stop);
    tokio::pin!(complete);
    assert!(complete.as_mut().now_or_never().is_none());
    site.answers.send_replace(true);
    complete.await;
}

/// A client's connection is served by a thread that ends before the process does.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_outlives_the_thread_that_began_it() {
    let site = Arc::new(Site::start().await);
    let first = site.first();
    let (there, token) = (Arc::clone(&site), first.clone());
    let thread = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            // The provider's keys are fetched over a connection that ends with the thread.
            there.facade.verifier.endpoints(&there.issuer).await.unwrap();
            there.first_is_lost(&token).await;
        });
    };
    let ended = tokio::task::spawn_blocking(|| std::thread::spawn(thread).join());
    ended.await.unwrap().unwrap();
    site.answers.send_replace(true);
    successor(&site.refresh(&first).await);
    assert_eq!(site.asked(), 1);
}

/// The next process asks the provider: for a refresh token, an answer that is lost ends the sign-in.
#[tokio::test]
async fn what_comes_during_a_stop_is_not_begun() {
    let site = Site::start().await;
    let stop = CancellationToken::new();
    stop.cancel();
    Arc::clone(&site.facade).complete(stop).await;
    let (status, refused) = site.refresh(&site.first()).await;
    assert_eq!(
        (status, &refused["error"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("temporarily_unavailable"))
    );
    assert_eq!(site.asked(), 0);
}

/// Whoever has a token that is no longer accepted could take everybody's places with it.
#[tokio::test]
async fn the_provider_refuses_a_refresh_token_once() {
    let site = Site::start().await;
    let first = site.first();
    let second = successor(&site.refresh(&first).await);
    successor(&site.refresh(&second).await);
    for _ in 0..3 {
        let (status, refused) = site.refresh(&first).await;
        assert_eq!(
            (status, &refused["error"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_grant"))
        );
    }
    assert_eq!(site.asked(), 3);
}

/// Many clients may share an address.
#[tokio::test]
async fn nobody_at_an_address_keeps_others_there_from_their_tokens() {
    let allowance = Allowance {
        sign_ins: NonZeroU32::new(2).unwrap(),
        ..Allowance::unlimited()
    };
    let site = Site::with(Quotas::new(allowance)).await;
    for status in [400, 400, 429] {
        assert_eq!(site.refresh("nonsense").await.0, status);
    }
    // A sign-in is counted by itself, however its tokens change.
    let second = successor(&site.refresh(&site.first()).await);
    let third = successor(&site.refresh(&second).await);
    assert_eq!(site.refresh(&third).await.0, StatusCode::TOO_MANY_REQUESTS);
    for (token, status) in [(third, 429), (site.first_of("another sign-in"), 200)] {
        let form = [("token", &*token), ("client_id", CLIENT)];
        assert_eq!(site.post("/oauth/revoke", &form).await.0, status);
    }
}

#[tokio::test]
async fn requests_of_clients_count_as_steps_of_sign_ins() {
    let allowance = Allowance {
        sign_ins: NonZeroU32::MIN,
        ..Allowance::unlimited()
    };
    for path in ["/oauth/token", "/oauth/revoke"] {
        let site = Site::with(Quotas::new(allowance.clone())).await;
        assert_eq!(site.post(path, &[]).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(site.post(path, &[]).await.0, StatusCode::TOO_MANY_REQUESTS);
    }
}
