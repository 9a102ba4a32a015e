//! A browser without JavaScript: keeps cookies, follows nothing by itself.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use service_kit::{
    Clock,
    clock::ManualClock,
    egress::EgressPolicy,
    identity::{IssuerConfig, Verifier},
    testing::TestIssuer,
};
use tower::ServiceExt as _;
use url::Url;

use super::fakes::FakeServices;
use crate::{
    domain::Links,
    facade::{Facade, FacadeConfig},
    pages::{PagesConfig, PagesDeps, router},
    snapshot::Store,
};

/// The pages' client at the issuer.
pub(super) const CLIENT_ID: &str = "pages";

/// The pages with everything around them.
pub(super) struct Site {
    pub(super) services: FakeServices,
    pub(super) issuer: TestIssuer,
    pub(super) clock: ManualClock,
    pub(super) router: Router,
    origin: String,
}

pub(super) struct Browser<'a> {
    site: &'a Site,
    pub(super) cookies: BTreeMap<String, String>,
    /// Of each cookie, below which paths it is sent; everywhere where nothing is known.
    paths: BTreeMap<String, String>,
    /// Every `Set-Cookie` that came.
    pub(super) set: Vec<String>,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Site {
    pub(super) async fn start(public_url: &str) -> Self {
        let services = FakeServices::default();
        let issuer = TestIssuer::start().await.unwrap();
        let clock = ManualClock::at(service_kit::Clock::System.now());
        let config: IssuerConfig = serde_json::from_value(json!({
            "issuer": issuer.issuer(), "client_id": CLIENT_ID, "display_name": "Example SSO", "facade": {},
        }))
        .unwrap();
        let public_url: Url = public_url.parse().unwrap();
        let channel = services.serve();
        let verifier = Arc::new(Verifier::new(vec![config], Clock::Manual(clock.clone())).unwrap());
        let facade = Facade::new(
            FacadeConfig {
                links: Links::new(public_url.clone()),
                documents: EgressPolicy::default(),
                key: [9; 32].into(),
            },
            Arc::clone(&verifier),
            Store::new(Duration::from_secs(60), Clock::Manual(clock.clone())),
            service_kit::Quotas::unlimited(),
            Clock::Manual(clock.clone()),
        )
        .unwrap();
        let deps = PagesDeps {
            registry: channel.clone(),
            credential: channel,
            facade: Some(Arc::clone(&facade)),
            verifier,
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::Manual(clock.clone()),
        };
        let origin = public_url.origin().ascii_serialization();
        let router = router(
            PagesConfig {
                public_url,
                allowed_hosts: Vec::new(),
                cookie_key: [9; 32].into(),
                grpc_port: Some(9090),
                probes: &["/readyz"],
            },
            deps,
        )
        .merge(facade.routes());
        Self {
            services,
            issuer,
            clock,
            router,
            origin,
        }
    }

    /// Where the issuer sends the browser back to when this person has signed in there.
    pub(super) fn answer(&self, at_issuer: &Url, email: &str) -> String {
        let get = |name: &str| {
            let found = at_issuer.query_pairs().find(|(key, _)| key == name);
            found.unwrap().1.into_owned()
        };
        assert_eq!(get("code_challenge_method"), "S256");
        let until = Clock::Manual(self.clock.clone()).now() + Duration::from_secs(3600);
        let exp = until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": self.issuer.issuer(), "aud": CLIENT_ID, "sub": email, "email": email, "exp": exp, "nonce": get("nonce"),
        });
        let code = self.issuer.code_for(CLIENT_ID, &claims);
        format!(
            "/signin/callback?code={code}&state={}&iss={}",
            get("state"),
            self.issuer.issuer()
        )
    }

    pub(super) fn browser(&self) -> Browser<'_> {
        Browser {
            site: self,
            cookies: BTreeMap::new(),
            paths: BTreeMap::new(),
            set: Vec::new(),
        }
    }
}

impl Browser<'_> {
    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send(
            Request::builder()
                .method(Method::GET)
                .uri(path)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    /// As from a page of the site.
    pub(super) async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        let origin = self.site.origin.clone();
        self.post_from(path, form, &[("origin", &origin), ("sec-fetch-site", "same-origin")])
            .await
    }

    pub(super) async fn post_from(&mut self, path: &str, form: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let mut request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        self.send(request).await
    }

    /// A form of which no byte is ever sent; if `headers` declare a length, of that length.
    pub(super) async fn post_without_end(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let length = headers.iter().find(|(name, _)| *name == "content-length");
        let mut request = Request::post(path)
            .body(Body::new(Endless(length.and_then(|(_, length)| length.parse().ok()))))
            .unwrap();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = tokio::time::timeout(Duration::from_secs(20), self.send(request)).await;
        answer.expect("nobody waits for the form")
    }

    pub(super) async fn send(&mut self, mut request: Request<Body>) -> Answer {
        let host = self.site.origin.split_once("://").unwrap().1;
        request
            .headers_mut()
            .entry(header::HOST)
            .or_insert(host.parse().unwrap());
        let path = request.uri().path().to_owned();
        // RFC 6265, section 5.1.4.
        let is_below = |name: &str| {
            self.paths.get(name).is_none_or(|scope| {
                let scope = scope.trim_end_matches('/');
                path.strip_prefix(scope)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .filter(|(name, _)| is_below(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request
                .headers_mut()
                .insert(header::COOKIE, cookies.join("; ").parse().unwrap());
        }
        let response = self.site.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        for cookie in headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            self.set.push(cookie.to_owned());
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
                let scope = cookie.split("; ").find_map(|part| part.strip_prefix("Path="));
                self.paths.insert(name.to_owned(), scope.unwrap_or("/").to_owned());
            }
        }
        let body = to_bytes(response.into_body(), 4 << 20).await.unwrap();
        Answer {
            status,
            headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Goes to the issuer and comes back with a code for this person. `change` sets further claims, or other ones.
    pub(super) async fn sign_in(&mut self, email: &str, change: &Value) -> Answer {
        let from = Some(self.site.issuer.issuer());
        self.sign_in_answered(email, change, from).await
    }

    /// As [`Self::sign_in`], where the answer says that it is from this issuer.
    pub(super) async fn sign_in_answered(&mut self, email: &str, change: &Value, from: Option<&str>) -> Answer {
        let sent = self.get("/signin?return=/install/time&here=1").await;
        let authorize: Url = sent.location().parse().unwrap();
        let get = |name: &str| {
            authorize
                .query_pairs()
                .find(|(key, _)| key == name)
                .unwrap()
                .1
                .into_owned()
        };
        assert_eq!(get("code_challenge_method"), "S256");
        let until = Clock::Manual(self.site.clock.clone()).now() + Duration::from_secs(3600);
        let exp = until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let issuer = &self.site.issuer;
        let mut claims = json!({
            "iss": issuer.issuer(), "aud": CLIENT_ID, "sub": email, "email": email, "exp": exp, "nonce": get("nonce"),
        });
        for (name, value) in change.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let code = issuer.code_for(CLIENT_ID, &claims);
        let from = from.map(|from| format!("&iss={from}")).unwrap_or_default();
        self.get(&format!("/signin/callback?code={code}&state={}{from}", get("state")))
            .await
    }
}

struct Endless(Option<u64>);

impl http_body::Body for Endless {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0
            .map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}

impl Answer {
    pub(super) fn location(&self) -> &str {
        self.headers[header::LOCATION].to_str().unwrap()
    }

    /// The sealed state of the form.
    pub(super) fn state(&self) -> String {
        let (_, rest) = self
            .body
            .split_once(r#"name="state" value=""#)
            .expect("the page has a form");
        rest.split('"').next().unwrap().to_owned()
    }

    pub(super) fn set_cookies(&self) -> Vec<&str> {
        let set = self.headers.get_all(header::SET_COOKIE).iter();
        set.map(|cookie| cookie.to_str().unwrap()).collect()
    }

    pub(super) fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }
}
