//! Which credential a call would carry.

use contracts::registry::{entry_revision::CredentialModel, token_exchange_credential::Flow};
use pretty_assertions::assert_eq;

use super::*;
use crate::{
    domain::{CallerToken, CredentialKind},
    snapshot::testing::{ISSUER, bearer, person_with},
};

fn explained(model: CredentialModel, credential: (ConditionStatus, &'static str)) -> ExplainedCredential {
    explained_to(&person("alice"), model, credential)
}

fn explained_to(
    caller: &Caller,
    model: CredentialModel,
    credential: (ConditionStatus, &'static str),
) -> ExplainedCredential {
    let running = pb::EntryRevision {
        credential_model: Some(model),
        ..plain_revision("time")
    };
    let registry = registry().install(Made {
        running: Some(running),
        credential,
        ..Made::new("own", "time", "alice")
    });
    let explanation = explain(&registry.snapshot(), caller, &default(), "time__now", &links()).unwrap();
    explanation.credential.expect("it goes somewhere")
}

#[test]
fn the_credential_of_a_call_is_explained() {
    let injection = Some(bearer());
    let oauth = || {
        CredentialModel::Oauth(pb::OAuthCredential {
            injection: Some(bearer()),
            ..pb::OAuthCredential::default()
        })
    };
    let ready = explained(oauth(), (ConditionStatus::True, "CONNECTED"));
    assert_eq!(
        (ready.kind, ready.per_caller, ready.ready),
        (CredentialKind::OAuth, false, true)
    );
    assert_eq!(ready.clone().without_jwt(), ready, "all callers share it");
    let broken = explained(oauth(), (ConditionStatus::False, "REAUTHENTICATION_REQUIRED"));
    assert_eq!((broken.kind, broken.ready), (CredentialKind::OAuth, false));

    let own = CredentialModel::JwtPassthrough(pb::JwtPassthroughCredential {
        injection,
        issuer: ISSUER.to_owned(),
        audiences: vec!["chandlery".to_owned()],
    });
    let own = explained(own, (ConditionStatus::True, "NOT_REQUIRED"));
    assert_eq!(
        (own.kind.name(), own.per_caller, own.ready),
        ("jwt_passthrough", true, true)
    );
    let none = own.without_jwt();
    assert!(
        !none.ready && none.detail.contains("You call with a gateway token"),
        "{none:?}"
    );

    let none = explain(
        &registry().snapshot(),
        &person("alice"),
        &default(),
        "time__now",
        &links(),
    );
    assert_eq!(none.unwrap().credential, None);
}

/// With a token that is known.
fn caller_with(is_id_token: bool) -> Caller {
    let mut caller = person_with("alice", "a.b.c", service_kit::Clock::System.now());
    let token = caller.token.take().expect("there is one");
    caller.token = Some(Arc::new(CallerToken {
        user: Arc::clone(&token.user),
        secret: token.secret.clone(),
        is_id_token,
    }));
    caller
}

/// As a call does: what credential-svc refuses is not ready.
#[track_caller]
fn is_refused(caller: &Caller, model: CredentialModel, why: Option<&str>) {
    let credential = explained_to(caller, model, (ConditionStatus::True, "NOT_REQUIRED"));
    assert_eq!(credential.ready, why.is_none(), "{credential:?}");
    assert!(credential.detail.contains(why.unwrap_or_default()), "{credential:?}");
}

#[test]
fn a_token_that_is_not_passed_on_is_explained() {
    let model = |issuer: &str, audiences: &[&str]| {
        CredentialModel::JwtPassthrough(pb::JwtPassthroughCredential {
            injection: Some(bearer()),
            issuer: issuer.to_owned(),
            audiences: audiences.iter().map(|&audience| audience.to_owned()).collect(),
        })
    };
    let other = "https://other.example";
    let of_other = Some("A token of https://other.example is required");
    let for_others = Some("A token for a or b is required, and the caller's is for chandlery");
    let access = caller_with(false);
    is_refused(&access, model(ISSUER, &["a", "chandlery"]), None);
    is_refused(&access, model(ISSUER, &["a", "b"]), for_others);
    is_refused(&access, model(other, &["chandlery"]), of_other);
    let no_id_token = Some("an access token is required");
    is_refused(&caller_with(true), model(ISSUER, &["chandlery"]), no_id_token);
    // Of somebody else it is known only who has signed them in.
    let unknown = person("alice");
    is_refused(&unknown, model(ISSUER, &["a"]), None);
    is_refused(&unknown, model(other, &["a"]), of_other);
}

#[test]
fn a_token_that_is_not_exchanged_is_explained() {
    let model = |server: pb::AuthorizationServer, flow: Flow| {
        CredentialModel::TokenExchange(pb::TokenExchangeCredential {
            authorization_server: Some(server),
            flow: Some(flow),
            injection: Some(bearer()),
            ..pb::TokenExchangeCredential::default()
        })
    };
    let of = |issuer: &str| pb::AuthorizationServer {
        issuer: issuer.to_owned(),
        ..pb::AuthorizationServer::default()
    };
    let exchange = || Flow::Exchange(pb::TokenExchangeFlow::default());
    let on_behalf_of = || Flow::OnBehalfOf(pb::OnBehalfOfFlow {});
    let (access, id) = (caller_with(false), caller_with(true));
    for caller in [&access, &id] {
        is_refused(caller, model(of(ISSUER), exchange()), None);
        let other = model(of("https://other.example"), exchange());
        is_refused(caller, other, Some("A token of https://other.example is required"));
        let endpoints = pb::AuthorizationServer {
            token_endpoint: "https://other.example/token".to_owned(),
            ..of("")
        };
        is_refused(caller, model(endpoints, exchange()), None);
    }
    is_refused(&access, model(of(ISSUER), on_behalf_of()), None);
    let no_id_token = Some("an access token is required");
    is_refused(&id, model(of(ISSUER), on_behalf_of()), no_id_token);
}

#[test]
fn who_has_no_account_yet_is_told_to_connect_one() {
    for (model, text) in [
        (
            CredentialModel::Oauth(pb::OAuthCredential {
                injection: Some(bearer()),
                ..pb::OAuthCredential::default()
            }),
            "Open the link to connect one",
        ),
        (
            CredentialModel::StaticCredential(pb::StaticCredential::default()),
            "Open the link to enter what is missing",
        ),
    ] {
        let running = pb::EntryRevision {
            credential_model: Some(model),
            ..plain_revision("time")
        };
        let registry = registry().install(Made {
            running: Some(running),
            credential: (ConditionStatus::False, "CREDENTIAL_REQUIRED"),
            once_ready: false,
            ..Made::new("own", "time", "alice")
        });
        let called = call(
            &registry.snapshot(),
            &person("alice"),
            &default(),
            "time__now",
            None,
            &links(),
        );
        let message = called.unwrap_err().to_string();
        assert!(message.contains(text), "{message}");
    }
}
