//! Which credential a call would carry.

use contracts::registry::entry_revision::CredentialModel;
use pretty_assertions::assert_eq;

use super::*;
use crate::{domain::CredentialKind, snapshot::testing::bearer};

fn explained(model: CredentialModel, credential: (ConditionStatus, &'static str)) -> ExplainedCredential {
    let running = pb::EntryRevision {
        credential_model: Some(model),
        ..plain_revision("time")
    };
    let registry = registry().install(Made {
        running: Some(running),
        credential,
        ..Made::new("own", "time", "alice")
    });
    let explanation = explain(
        &registry.snapshot(),
        &person("alice"),
        &default(),
        "time__now",
        &links(),
    )
    .unwrap();
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
        ..pb::JwtPassthroughCredential::default()
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
