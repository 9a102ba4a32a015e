//! Exchanges against scripted authorization servers.

use std::sync::Mutex;

use futures::future::join_all;
use pretty_assertions::assert_eq;
use secrecy::ExposeSecret as _;
use service_kit::clock::ManualClock;

use super::*;
use crate::domain::authorization::{
    plan::{AuthenticationPlan, ClientId, ClientPlan},
    servers::{Authentication, Metadata, Registration, TokenKind, Upstream},
};

/// Answers of token endpoints, by token endpoint.
type Answer = Box<dyn Fn(&str, &[(&str, String)]) -> Result<Tokens, ServerError> + Send + Sync>;

/// Token endpoint, client and parameters.
type Asked = (String, String, Vec<(&'static str, String)>);

/// Authorization servers in memory: each answers as the test says, and remembers what it was asked.
struct Scripted {
    answer: Answer,
    asked: Mutex<Vec<Asked>>,
}

impl Scripted {
    fn new(answer: impl Fn(&str, &[(&str, String)]) -> Result<Tokens, ServerError> + Send + Sync + 'static) -> Self {
        Self {
            answer: Box::new(answer),
            asked: Mutex::default(),
        }
    }

    /// Of each request: the issuer, the client, and the parameters.
    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl AuthorizationServers for Scripted {
    type Turn = ();

    async fn upstream(&self, _: &str, _: Option<SystemTime>) -> Result<Option<Arc<Upstream>>, ServerError> {
        Ok(None)
    }

    async fn metadata(&self, server: &Server) -> Result<Arc<Metadata>, ServerError> {
        Ok(Arc::new(Metadata {
            issuer: server.issuer().to_owned(),
            ..Metadata::default()
        }))
    }

    async fn register(&self, _: &Metadata, _: &str) -> Result<Registration, ServerError> {
        Err(ServerError::Unusable("nobody registers here".to_owned()))
    }

    async fn turn(&self, _: &Metadata) -> Result<(), ServerError> {
        Ok(())
    }

    async fn token(
        &self,
        (): (),
        metadata: &Metadata,
        client: &Client,
        request: &TokenRequest,
    ) -> Result<Tokens, ServerError> {
        // Lets concurrent callers arrive.
        tokio::task::yield_now().await;
        let parameters: Vec<_> = request
            .parameters
            .iter()
            .map(|(name, value)| (*name, value.expose_secret().to_owned()))
            .collect();
        let answer = (self.answer)(&metadata.issuer, &parameters);
        let asked = (metadata.issuer.clone(), client.id.clone(), parameters);
        self.asked.lock().unwrap().push(asked);
        answer
    }

    async fn revoke(&self, _: &Metadata, _: &Client, _: &SecretString, _: TokenKind) -> Result<(), ServerError> {
        Ok(())
    }
}

fn issued(token: &str, kind: &str, expires_in: Option<u64>) -> Result<Tokens, ServerError> {
    Ok(Tokens {
        access: token.into(),
        refresh: None,
        expires_in: expires_in.map(Duration::from_secs),
        scopes: None,
        account: None,
        issued_token_type: kind.to_owned(),
    })
}

fn refused(code: &str) -> Result<Tokens, ServerError> {
    Err(ServerError::Refused {
        code: code.to_owned(),
        description: format!("the server says {code}"),
    })
}

fn client(id: &str) -> Client {
    Client {
        id: id.to_owned(),
        authentication: Authentication::None,
    }
}

fn client_plan() -> ClientPlan {
    ClientPlan {
        id: ClientId::Given("client".to_owned()),
        authentication: AuthenticationPlan::None,
    }
}

fn clients() -> Clients {
    Clients {
        client: client("idp-client"),
        resource: Some(client("tool-client")),
    }
}

fn plan(flow: Flow) -> Exchange {
    Exchange {
        server: Server::Issuer("https://idp".to_owned()),
        client: client_plan(),
        scopes: vec!["read".to_owned(), "write".to_owned()],
        flow,
    }
}

fn direct() -> Exchange {
    plan(Flow::Exchange {
        audience: "tool".to_owned(),
        resource: String::new(),
        requested_token_type: String::new(),
        subject_token_type: "urn:access".to_owned(),
    })
}

fn assertion() -> Exchange {
    plan(Flow::IdentityAssertion {
        server: Server::Issuer("https://tool".to_owned()),
        client: client_plan(),
        resource: "https://tool/mcp".to_owned(),
        subject_token_type: "urn:id".to_owned(),
    })
}

fn clock() -> Clock {
    Clock::Manual(ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)))
}

fn caller(clock: &Clock, subject: &str, seconds: u64) -> Caller {
    Caller {
        issuer: "https://idp".to_owned(),
        subject: subject.to_owned(),
        audiences: vec!["chandlery".to_owned(), "tool".to_owned()],
        expire_time: clock.now() + Duration::from_secs(seconds),
        token: format!("token-of-{subject}").into(),
        is_id_token: false,
    }
}

fn key(caller: &Caller) -> Key {
    Key {
        installation: "i".to_owned(),
        revision: 1,
        generations: (0, 1),
        issuer: caller.issuer.clone(),
        subject: caller.subject.clone(),
        authority: Authority::of(&caller.token, caller.is_id_token),
    }
}

async fn token(
    exchanger: &Exchanger,
    servers: &Scripted,
    plan: &Exchange,
    caller: &Caller,
    rejected: i64,
) -> Result<Arc<CallerToken>, ExchangeError> {
    let key = key(caller);
    exchanger.token(servers, plan, &clients(), key, caller, rejected).await
}

#[tokio::test]
async fn each_flow_sends_its_parameters() {
    let clock = clock();
    let alice = caller(&clock, "alice", 3_600);
    let servers = Scripted::new(|issuer, _| issued("t", if issuer == "https://idp" { ID_JAG } else { "" }, Some(60)));
    let on_behalf = plan(Flow::OnBehalfOf);
    for plan in [&direct(), &on_behalf, &assertion()] {
        // One for each plan: the cache is by the entry revision.
        let exchanger = Exchanger::new(clock.clone());
        token(&exchanger, &servers, plan, &alice, 0).await.unwrap();
    }
    let text = |pairs: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    };
    let (idp, tool) = ("https://idp".to_owned(), "https://tool".to_owned());
    let (idp_client, tool_client) = ("idp-client".to_owned(), "tool-client".to_owned());
    assert_eq!(
        servers.asked(),
        [
            (
                idp.clone(),
                idp_client.clone(),
                text(&[
                    ("grant_type", TOKEN_EXCHANGE),
                    ("subject_token", "token-of-alice"),
                    ("subject_token_type", "urn:access"),
                    ("audience", "tool"),
                    ("scope", "read write"),
                ])
            ),
            (
                idp.clone(),
                idp_client.clone(),
                text(&[
                    ("grant_type", JWT_BEARER),
                    ("assertion", "token-of-alice"),
                    ("requested_token_use", "on_behalf_of"),
                    ("scope", "read write"),
                ])
            ),
            (
                idp,
                idp_client,
                text(&[
                    ("grant_type", TOKEN_EXCHANGE),
                    ("subject_token", "token-of-alice"),
                    ("subject_token_type", "urn:id"),
                    ("requested_token_type", ID_JAG),
                    ("audience", "https://tool"),
                    ("resource", "https://tool/mcp"),
                    ("scope", "read write"),
                ])
            ),
            (
                tool,
                tool_client,
                text(&[("grant_type", JWT_BEARER), ("assertion", "t"), ("scope", "read write"),])
            ),
        ]
    );
}

#[tokio::test]
async fn a_caller_gets_one_token_and_no_other_caller_gets_it() {
    let clock = clock();
    let servers = Scripted::new(|_, asked| issued(&format!("for {}", asked[1].1), "", Some(600)));
    let exchanger = Exchanger::new(clock.clone());
    let (alice, bob) = (caller(&clock, "alice", 3_600), caller(&clock, "bob", 3_600));
    let plan = direct();
    let calls = (0..50).map(|_| token(&exchanger, &servers, &plan, &alice, 0));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().value.expose_secret(), "for token-of-alice");
    }
    assert_eq!(servers.asked().len(), 1, "once for all concurrent calls");
    let of_bob = token(&exchanger, &servers, &plan, &bob, 0).await.unwrap();
    assert_eq!(of_bob.value.expose_secret(), "for token-of-bob");

    let first = token(&exchanger, &servers, &plan, &alice, 0).await.unwrap();
    let second = token(&exchanger, &servers, &plan, &alice, first.number).await.unwrap();
    assert_ne!(
        first.number, second.number,
        "a token that was rejected is exchanged again"
    );
    let third = token(&exchanger, &servers, &plan, &alice, first.number).await.unwrap();
    assert_eq!(
        third.number, second.number,
        "once for all calls to which it was rejected"
    );
    assert_eq!(servers.asked().len(), 3);
}

#[tokio::test]
async fn no_token_outlives_the_callers_own() {
    let clock = clock();
    for (lifetime, expires_in, expected) in [
        (60, Some(3_600), 60),
        (3_600, Some(60), 60),
        (3_600, None, 300),
        (60, None, 60),
    ] {
        let servers = Scripted::new(move |_, _| issued("t", "", expires_in));
        let exchanger = Exchanger::new(clock.clone());
        let alice = caller(&clock, "alice", lifetime);
        let got = token(&exchanger, &servers, &direct(), &alice, 0).await.unwrap();
        assert_eq!(
            got.expire_time,
            clock.now() + Duration::from_secs(expected),
            "{lifetime} {expires_in:?}"
        );
    }
}

#[tokio::test]
async fn what_is_about_to_expire_is_not_kept() {
    let clock = clock();
    let servers = Scripted::new(|_, _| issued("t", "", Some(5)));
    let exchanger = Exchanger::new(clock.clone());
    let alice = caller(&clock, "alice", 3_600);
    for _ in 0..2 {
        token(&exchanger, &servers, &direct(), &alice, 0).await.unwrap();
    }
    assert_eq!(servers.asked().len(), 2);
}

#[tokio::test]
async fn a_failure_says_who_is_at_fault_and_is_not_kept() {
    let clock = clock();
    let alice = caller(&clock, "alice", 3_600);
    let exchanger = Exchanger::new(clock.clone());
    let outcome = async |answer: fn() -> Result<Tokens, ServerError>| {
        let servers = Scripted::new(move |_, _| answer());
        token(&exchanger, &servers, &direct(), &alice, 0)
            .await
            .map(|token| token.value.expose_secret().to_owned())
    };
    assert!(matches!(
        outcome(|| refused("invalid_grant")).await,
        Err(ExchangeError::CallerRefused(_))
    ));
    assert!(matches!(
        outcome(|| refused("access_denied")).await,
        Err(ExchangeError::CallerRefused(_))
    ));
    assert!(matches!(
        outcome(|| refused("invalid_client")).await,
        Err(ExchangeError::Unusable(_))
    ));
    assert!(matches!(
        outcome(|| refused("invalid_target")).await,
        Err(ExchangeError::Unusable(_))
    ));
    let away = || Err(ServerError::Unavailable("no answer".to_owned()));
    assert!(matches!(outcome(away).await, Err(ExchangeError::Unavailable(_))));
    assert_eq!(outcome(|| issued("t", "", Some(60))).await, Ok("t".to_owned()));

    let servers = Scripted::new(|_, _| issued("t", "urn:ietf:params:oauth:token-type:access_token", Some(60)));
    let exchanger = Exchanger::new(clock.clone());
    let wrong = token(&exchanger, &servers, &assertion(), &alice, 0).await.unwrap_err();
    assert!(matches!(wrong, ExchangeError::Unusable(_)), "{wrong}");
    assert_eq!(
        servers.asked().len(),
        1,
        "an access token is not sent on as an assertion"
    );
}

#[tokio::test]
async fn a_token_is_exchanged_as_what_it_is() {
    let clock = clock();
    let servers = Scripted::new(|_, _| issued("t", ID_JAG, Some(60)));
    let without_type = |mut plan: Exchange| {
        if let Flow::Exchange { subject_token_type, .. } | Flow::IdentityAssertion { subject_token_type, .. } =
            &mut plan.flow
        {
            subject_token_type.clear();
        }
        plan
    };
    for (plan, is_id_token, expected) in [
        (without_type(direct()), false, ACCESS_TOKEN),
        (without_type(direct()), true, ID_TOKEN),
        (without_type(assertion()), false, ACCESS_TOKEN),
        (without_type(assertion()), true, ID_TOKEN),
        (direct(), true, "urn:access"),
    ] {
        let exchanger = Exchanger::new(clock.clone());
        let mut alice = caller(&clock, "alice", 3_600);
        alice.is_id_token = is_id_token;
        let before = servers.asked().len();
        token(&exchanger, &servers, &plan, &alice, 0).await.unwrap();
        let (_, _, sent) = &servers.asked()[before];
        assert!(sent.contains(&("subject_token_type", expected.to_owned())), "{sent:?}");
    }
}

#[tokio::test]
async fn no_id_token_is_passed_on_or_used_on_behalf_of_its_person() {
    let clock = clock();
    let servers = Scripted::new(|_, _| issued("t", "", Some(60)));
    let mut alice = caller(&clock, "alice", 3_600);
    alice.is_id_token = true;
    let exchanger = Exchanger::new(clock.clone());
    let on_behalf = token(&exchanger, &servers, &plan(Flow::OnBehalfOf), &alice, 0).await;
    let passthrough = Passthrough {
        issuer: "https://idp".to_owned(),
        audiences: vec!["tool".to_owned()],
    };
    let passed = pass_through(&passthrough, &alice);
    for refused in [on_behalf.map(drop), passed.map(drop)] {
        let error = refused.unwrap_err();
        assert!(
            matches!(&error, ExchangeError::WrongToken(why) if why.contains("an operator can")),
            "{error}"
        );
    }
    assert_eq!(servers.asked(), []);
}

#[test]
fn only_a_token_of_the_issuer_and_audience_is_passed_on() {
    let clock = clock();
    let plan = |issuer: &str, audience: &str| Passthrough {
        issuer: issuer.to_owned(),
        audiences: vec![audience.to_owned(), "another".to_owned()],
    };
    let alice = caller(&clock, "alice", 60);
    let passed = pass_through(&plan("https://idp", "tool"), &alice).unwrap();
    assert_eq!(passed.value.expose_secret(), "token-of-alice");
    assert_eq!(passed.expire_time, alice.expire_time);
    for (issuer, audience) in [
        ("https://idp/", "tool"),
        ("https://other", "tool"),
        ("https://idp", "too"),
        ("https://idp", ""),
    ] {
        let error = pass_through(&plan(issuer, audience), &alice).unwrap_err();
        assert!(matches!(&error, ExchangeError::WrongToken(_)), "{issuer} {audience}");
        assert!(!error.to_string().contains("token-of-alice"));
    }
}

#[tokio::test]
async fn nothing_that_is_printed_holds_a_token() {
    let clock = clock();
    let servers = Scripted::new(|_, _| issued("canary-issued", "", Some(60)));
    let exchanger = Exchanger::new(clock.clone());
    let mut alice = caller(&clock, "alice", 60);
    alice.token = "canary-own".into();
    let got = token(&exchanger, &servers, &direct(), &alice, 0).await.unwrap();
    let printed = format!("{alice:?} {got:?} {exchanger:?}");
    assert!(!printed.contains("canary"), "{printed}");
}

#[tokio::test]
async fn a_server_gets_no_token_of_another_issuer() {
    let clock = clock();
    let stranger = Caller {
        issuer: "https://other-idp".to_owned(),
        ..caller(&clock, "alice", 3_600)
    };
    let servers = Scripted::new(|_, _| issued("t", "", Some(60)));
    let exchanger = Exchanger::new(clock.clone());
    let error = token(&exchanger, &servers, &direct(), &stranger, 0).await.unwrap_err();
    assert!(
        matches!(&error, ExchangeError::WrongToken(why) if why.contains("https://idp") && why.contains("https://other-idp")),
        "{error:?}"
    );
    assert_eq!(servers.asked(), []);
    // The entry vouches for endpoints that it gives without an issuer.
    let endpoints = Server::Endpoints {
        issuer: String::new(),
        authorization: String::new(),
        token: "https://exchange/token".to_owned(),
        revocation: String::new(),
    };
    let vouched = Exchange {
        server: endpoints,
        ..direct()
    };
    token(&exchanger, &servers, &vouched, &stranger, 0).await.unwrap();
}
