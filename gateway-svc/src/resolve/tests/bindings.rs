//! Assignments that are pinned, that take all tools, and entries with credentials of their own.

use pretty_assertions::assert_eq;

use super::*;

#[test]
fn a_pinned_one_is_chosen_for_all_callers() {
    let pinned = |registry: Registry| {
        registry
            .entry("time", &["now"])
            .gateway("default")
            .with(assignment(plain_assignment("default", "time", "now", Some("hers"))))
    };
    let registry = pinned(Registry::default())
        .install(Made::new("hers", "time", "alice"))
        .install(Made::new("his", "time", "bob"));
    for caller in [person("alice"), person("bob"), team_token("none")] {
        assert_eq!(goes_to(&registry, &caller), Ok("hers".to_owned()));
    }
    assert_eq!(
        steps(&registry, &person("bob")),
        [(Rule::Pinned, Some("hers".to_owned()), Outcome::Chosen)]
    );
    let never = pinned(Registry::default()).install(Made {
        once_ready: false,
        credential: (ConditionStatus::False, "CREDENTIAL_REQUIRED"),
        ..Made::new("hers", "time", "alice")
    });
    assert_eq!(goes_to(&never, &person("bob")), Err(RepairReason::CredentialRequired));
    let gone = pinned(Registry::default()).install(Made::new("his", "time", "bob"));
    assert_eq!(
        goes_to(&gone, &person("bob")),
        Err(RepairReason::CredentialRequired),
        "never another account in its place"
    );
    assert_eq!(steps(&gone, &person("bob")), [(Rule::Pinned, None, Outcome::None)]);
}

/// Everything that a call takes: the caller's credential, and the one an admin stores once on the entry.
#[test]
fn a_credential_stored_on_the_entry_is_needed_too() {
    let stored = pb::InstallField {
        key: "key".to_owned(),
        r#type: pb::InstallFieldType::Secret.into(),
        source: pb::InstallFieldSource::Stored.into(),
        target: Some(crate::snapshot::testing::to_header("x-key")),
        ..pb::InstallField::default()
    };
    let running = pb::EntryRevision {
        install_fields: vec![stored],
        ..plain_revision("time")
    };
    let with = |conditions: Vec<pb::Condition>, running: pb::EntryRevision| {
        Registry::default()
            .with(entry(pb::Entry {
                conditions,
                ..plain_entry("time")
            }))
            .tools("e-time", &["now"])
            .gateway("default")
            .assign("default", "time", "now")
            .install(Made {
                running: Some(running),
                ..Made::new("own", "time", "alice")
            })
    };
    let lacking = |reason| with(entry_credential(ConditionStatus::False, reason), running.clone());
    let alice = person("alice");
    assert_eq!(
        goes_to(&lacking("CREDENTIAL_REQUIRED"), &alice),
        Err(RepairReason::CredentialRequired)
    );
    assert_eq!(
        goes_to(&lacking("DESTINATION_CHANGED"), &alice),
        Err(RepairReason::DestinationChanged)
    );
    let registry = lacking("CREDENTIAL_REQUIRED");
    let error = call(&registry.snapshot(), &alice, &default(), "time__now", None, &links()).unwrap_err();
    assert!(error.to_string().contains("an admin must store it"), "{error}");
    assert!(!list(&registry.snapshot(), &alice, &default()).unwrap()[0].connected);
    for fine in [Vec::new(), entry_credential(ConditionStatus::True, "")] {
        assert_eq!(goes_to(&with(fine, running.clone()), &alice), Ok("own".to_owned()));
    }
    let older = with(
        entry_credential(ConditionStatus::False, "CREDENTIAL_REQUIRED"),
        plain_revision("time"),
    );
    assert_eq!(
        goes_to(&older, &alice),
        Ok("own".to_owned()),
        "the revision that it runs takes no stored secret"
    );
}

#[test]
fn a_pinned_personal_one_is_for_whom_its_owner_agreed_to() {
    let consented = |visibility: Option<pb::Visibility>| {
        let pinned = pb::ToolAssignment {
            consented_visibility: visibility,
            ..plain_assignment("default", "time", "now", Some("hers"))
        };
        Registry::default()
            .entry("time", &["now"])
            .gateway("default")
            .with(assignment(pinned))
            .team("core", &["carol"])
            .install(Made::new("hers", "time", "alice"))
    };
    let admin = Caller::person(crate::domain::CallerUser {
        admin: true,
        ..caller_user("root")
    });
    let reached = |registry: &Registry, caller: &Caller| match goes_to(registry, caller) {
        Ok(uid) => {
            assert_eq!(uid, "hers");
            true
        }
        Err(reason) => {
            assert_eq!(reason, RepairReason::InstallationUnavailable);
            false
        }
    };
    let core = consented(visible_to_team("core"));
    let unknown = consented(Some(pb::Visibility { audience: None }));
    for (caller, in_core, always) in [
        (person("alice"), true, true),
        (person("author"), true, true),
        (admin, true, true),
        (person("carol"), true, false),
        (team_token("core"), true, false),
        (person("bob"), false, false),
        (team_token("web"), false, false),
    ] {
        assert_eq!(reached(&core, &caller), in_core, "{caller:?}");
        assert_eq!(reached(&unknown, &caller), always, "nobody else: {caller:?}");
        assert!(reached(&consented(None), &caller), "no limit: {caller:?}");
    }
    let later = |created| {
        let pinned = pb::ToolAssignment {
            consented_visibility: visible_to_team("core"),
            consent_time: Some(prost_types::Timestamp { seconds: 50, nanos: 0 }),
            ..plain_assignment("default", "time", "now", Some("hers"))
        };
        Registry::default()
            .entry("time", &["now"])
            .gateway("default")
            .with(assignment(pinned))
            .team_created("core", &["carol"], created)
            .install(Made::new("hers", "time", "alice"))
    };
    assert!(reached(&later(50), &person("carol")));
    assert!(!reached(&later(51), &person("carol")), "another team by that name");
    let snapshot = core.snapshot();
    let bob = person("bob");
    let error = call(&snapshot, &bob, &default(), "time__now", None, &links()).unwrap_err();
    assert!(error.to_string().contains("its owner has not agreed"), "{error}");
    assert!(!is_starting(&snapshot, &bob, &default(), "time__now", None));
    assert!(!list(&snapshot, &bob, &default()).unwrap()[0].connected);
    let explained = explain(&snapshot, &bob, &default(), "time__now", &links()).unwrap();
    assert_eq!(explained.reason, Some(RepairReason::InstallationUnavailable));
    let [step] = explained.steps.as_slice() else {
        panic!("{:?}", explained.steps)
    };
    assert!(
        step.rule == Rule::Pinned && step.detail.contains("its owner has not agreed"),
        "{step:?}"
    );
}

#[test]
fn all_tools_resolve_at_call_time_or_go_where_they_are_pinned() {
    let all = |pinned| {
        Registry::default()
            .entry("time", &["now", "convert"])
            .gateway("default")
            .with(assignment(plain_assignment("default", "time", "*", pinned)))
            .install(Made::new("hers", "time", "alice"))
            .install(Made::new("his", "time", "bob"))
    };
    let bob = person("bob");
    assert_eq!(goes_to(&all(None), &bob), Ok("his".to_owned()));
    assert_eq!(goes_to(&all(Some("hers")), &bob), Ok("hers".to_owned()));
    let both = all(Some("hers")).assign("default", "time", "now");
    assert_eq!(goes_to(&both, &bob), Ok("his".to_owned()), "the tool by itself wins");
    assert_eq!(list(&both.snapshot(), &bob, &default()).unwrap().len(), 2);
}
