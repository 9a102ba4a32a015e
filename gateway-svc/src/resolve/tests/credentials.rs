//! Which credential a call would carry.

use contracts::registry::entry_revision::CredentialModel;
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

/// As a call does: what credential-svc refuses is not ready.
#[test]
fn a_token_that_is_not_passed_on_is_explained() {
    let of = |caller: &Caller, issuer: &str, audiences: &[&str]| {
        let model = CredentialModel::JwtPassthrough(pb::JwtPassthroughCredential {
            injection: Some(bearer()),
            issuer: issuer.to_owned(),
            audiences: audiences.iter().map(|&audience| audience.to_owned()).collect(),
        });
        explained_to(caller, model, (ConditionStatus::True, "NOT_REQUIRED"))
    };
    let with_token = |is_id_token| {
        let mut caller = person_with("alice", "a.b.c", service_kit::Clock::System.now());
        let token = caller.token.take().expect("there is one");
        caller.token = Some(Arc::new(CallerToken {
            user: Arc::clone(&token.user),
            secret: token.secret.clone(),
            is_id_token,
        }));
        caller
    };
    let (access, id, unknown) = (with_token(false), with_token(true), person("alice"));
    let other = "https://other.example";
    for (caller, issuer, audiences, why) in [
        (&access, ISSUER, &["a", "chandlery"][..], None),
        (
            &access,
            ISSUER,
            &["a", "b"][..],
            Some("requires one for a or b, and the caller's is for chandlery"),
        ),
        (
            &access,
            other,
            &["chandlery"][..],
            Some("requires one of https://other.example"),
        ),
        (&id, ISSUER, &["chandlery"][..], Some("requires an access token")),
        // Of somebody else it is known only who has signed them in.
        (&unknown, ISSUER, &["a"][..], None),
        (
            &unknown,
            other,
            &["a"][..],
            Some("requires one of https://other.example"),
        ),
    ] {
        let credential = of(caller, issuer, audiences);
        assert_eq!(credential.ready, why.is_none(), "{credential:?}");
        assert!(credential.detail.contains(why.unwrap_or_default()), "{credential:?}");
    }
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
            &links(),
        );
        let message = called.unwrap_err().to_string();
        assert!(message.contains(text), "{message}");
    }
}
