//! The rules of resolution, one by one.

mod beside;
mod bindings;
mod credentials;
mod watched;

use contracts::registry::{self as pb, ConditionStatus, watched_object::Object};
use pretty_assertions::assert_eq;

use super::*;
use crate::{
    domain::{ConsumerKind, RepairReason, Subject},
    snapshot::testing::{
        Made, Registry, assignment, caller_user, entry, entry_credential, gateway, hosted_revision, person,
        plain_assignment, plain_entry, plain_gateway, plain_revision, runtime, shared_revision, shared_runtime,
        user_id, visible_to_team,
    },
};

fn default() -> ConsumerRef {
    ConsumerRef::new(ConsumerKind::Gateway, "default")
}

fn links() -> Links {
    Links::new("https://tools.example.com".parse().unwrap())
}

fn registry() -> Registry {
    Registry::default()
        .entry("time", &["now"])
        .gateway("default")
        .assign("default", "time", "now")
}

/// Why Alice's call goes nowhere, as she is told.
fn told(registry: &Registry) -> String {
    let called = call(
        &registry.snapshot(),
        &person("alice"),
        &default(),
        "time__now",
        None,
        &links(),
    );
    called.unwrap_err().to_string()
}

/// The uid of the installation a call goes to, or why nowhere.
fn goes_to(registry: &Registry, caller: &Caller) -> Result<String, RepairReason> {
    match call(&registry.snapshot(), caller, &default(), "time__now", None, &links()) {
        Ok(target) => Ok(target.running.installation.uid.to_string()),
        Err(CallError::Repair(repair)) => Err(repair.reason),
        Err(other) => panic!("{other}"),
    }
}

fn steps(registry: &Registry, caller: &Caller) -> Vec<(Rule, Option<String>, Outcome)> {
    explain(&registry.snapshot(), caller, &default(), "time__now", &links())
        .unwrap()
        .steps
        .into_iter()
        .map(|step| {
            (
                step.rule,
                step.installation.map(|installation| installation.uid.to_string()),
                step.outcome,
            )
        })
        .collect()
}

fn team_token(team: &str) -> Caller {
    Caller {
        subject: Subject::Team(team.into()),
        consumers: None,
        token: None,
        creator: None,
    }
}

#[test]
fn the_callers_own_comes_before_a_teams() {
    let registry = registry()
        .team("core", &["alice"])
        .install(Made {
            created: 1,
            ..Made::new("shared", "time", "team:core")
        })
        .install(Made {
            created: 2,
            ..Made::new("own", "time", "alice")
        });
    assert_eq!(goes_to(&registry, &person("alice")), Ok("own".to_owned()));
    assert_eq!(
        goes_to(&registry, &team_token("core")),
        Ok("shared".to_owned()),
        "a team's token reaches nobody's own"
    );
    assert_eq!(
        goes_to(&registry, &person("bob")),
        Err(RepairReason::CredentialRequired)
    );
    assert_eq!(
        steps(&registry, &person("alice")),
        [
            (Rule::Personal, Some("own".to_owned()), Outcome::Chosen),
            (Rule::SharedTeam, None, Outcome::None),
            (Rule::Team, Some("shared".to_owned()), Outcome::NotReached),
        ]
    );
}

#[test]
fn a_program_has_no_installation_of_its_own() {
    let program = Caller::person(crate::domain::CallerUser {
        machine: true,
        ..caller_user("alice")
    });
    // From when it was a person.
    let own = registry().install(Made::new("own", "time", "alice"));
    assert_eq!(goes_to(&own, &program), Err(RepairReason::CredentialRequired));
    let error = call(&own.snapshot(), &program, &default(), "time__now", None, &links()).unwrap_err();
    assert!(
        error.to_string().contains("No team that this program belongs to"),
        "{error}"
    );
    let shared = own
        .team("core", &["alice"])
        .install(Made::new("shared", "time", "team:core"));
    assert_eq!(goes_to(&shared, &program), Ok("shared".to_owned()));
}

#[test]
fn nowhere_leads_to_the_install_page() {
    let error = call(
        &registry().snapshot(),
        &person("bob"),
        &default(),
        "time__now",
        None,
        &links(),
    )
    .unwrap_err();
    let CallError::Repair(repair) = error else {
        panic!("{error}")
    };
    assert_eq!(
        repair.install_url,
        "https://tools.example.com/install/time?gateway=default"
    );
    assert_eq!((&*repair.entry, &*repair.display_name), ("time", "The time"));
    assert!(
        repair.message.contains("The time is not connected yet"),
        "{}",
        repair.message
    );
}

#[test]
fn the_team_the_gateway_is_shared_with_comes_first_then_the_oldest_then_the_id() {
    let teams = |shared_with: Option<&str>, order: &[(&'static str, &'static str, i64)]| {
        let visibility = shared_with.and_then(visible_to_team);
        let mut registry = Registry::default()
            .entry("time", &["now"])
            .with(gateway(pb::Gateway {
                visibility,
                ..plain_gateway("default")
            }))
            .assign("default", "time", "now");
        for (uid, team, created) in order {
            registry = registry
                .team(team.strip_prefix("team:").unwrap(), &["alice"])
                .install(Made {
                    created: *created,
                    ..Made::new(uid, "time", team)
                });
        }
        registry
    };
    let old_and_new = [("b", "team:new", 20), ("a", "team:old", 10)];
    assert_eq!(
        goes_to(&teams(None, &old_and_new), &person("alice")),
        Ok("a".to_owned())
    );
    assert_eq!(
        goes_to(&teams(Some("new"), &old_and_new), &person("alice")),
        Ok("b".to_owned())
    );
    assert_eq!(
        steps(&teams(Some("new"), &old_and_new), &person("alice")),
        [
            (Rule::Personal, None, Outcome::None),
            (Rule::SharedTeam, Some("b".to_owned()), Outcome::Chosen),
            (Rule::Team, Some("a".to_owned()), Outcome::NotReached),
        ]
    );
    for same_age in [
        [("x", "team:p", 5), ("y", "team:q", 5)],
        [("y", "team:p", 5), ("x", "team:q", 5)],
    ] {
        assert_eq!(goes_to(&teams(None, &same_age), &person("alice")), Ok("x".to_owned()));
    }
}

#[test]
fn the_answer_does_not_depend_on_the_order_of_objects() {
    let mut registry = registry()
        .team("p", &["alice"])
        .team("q", &["alice"])
        .install(Made::new("x", "time", "team:p"))
        .install(Made::new("y", "time", "team:q"));
    let first = goes_to(&registry, &person("alice"));
    registry.objects.reverse();
    assert_eq!(goes_to(&registry, &person("alice")), first);
}

#[test]
fn one_that_was_never_ready_is_skipped() {
    let registry = registry()
        .team("core", &["alice"])
        .install(Made {
            once_ready: false,
            credential: (ConditionStatus::False, "CREDENTIAL_REQUIRED"),
            ..Made::new("own", "time", "alice")
        })
        .install(Made::new("shared", "time", "team:core"));
    assert_eq!(goes_to(&registry, &person("alice")), Ok("shared".to_owned()));
    assert_eq!(
        steps(&registry, &person("alice"))[0],
        (Rule::Personal, Some("own".to_owned()), Outcome::SkippedNeverReady)
    );
}

#[test]
fn one_that_was_ready_and_is_broken_is_chosen_and_its_call_fails() {
    let broken = |reason| {
        registry()
            .team("core", &["alice"])
            .install(Made {
                credential: (ConditionStatus::False, reason),
                ..Made::new("own", "time", "alice")
            })
            .install(Made::new("shared", "time", "team:core"))
    };
    assert_eq!(
        goes_to(&broken("CREDENTIAL_EXPIRED"), &person("alice")),
        Err(RepairReason::CredentialExpired)
    );
    assert_eq!(
        goes_to(&broken("DESTINATION_CHANGED"), &person("alice")),
        Err(RepairReason::DestinationChanged)
    );
    assert_eq!(
        goes_to(&broken("CREDENTIAL_REQUIRED"), &person("alice")),
        Err(RepairReason::CredentialRequired)
    );
    let told = |reason| told(&broken(reason));
    assert!(told("CREDENTIAL_EXPIRED").contains("needs its credential renewed"));
    assert!(told("DESTINATION_CHANGED").contains("has no usable credential"));
    let explanation = explain(
        &broken("CREDENTIAL_EXPIRED").snapshot(),
        &person("alice"),
        &default(),
        "time__now",
        &links(),
    )
    .unwrap();
    assert_eq!(explanation.chosen.unwrap().uid.as_ref(), "own");
    assert_eq!(explanation.reason, Some(RepairReason::CredentialExpired));
    assert!(explanation.install_url.is_some());
}

#[test]
fn a_self_hosted_server_that_does_not_run_is_unavailable() {
    let registry = registry().install(Made {
        running: Some(hosted_revision("time")),
        ..Made::new("own", "time", "alice")
    });
    assert_eq!(
        goes_to(&registry, &person("alice")),
        Err(RepairReason::InstallationUnavailable)
    );
    let starting = |registry: &Registry| {
        let snapshot = registry.snapshot();
        is_starting(&snapshot, &person("alice"), &default(), "time__now", None)
    };
    assert!(starting(&registry), "nobody has reported that it failed");
    let told = told(&registry);
    assert!(told.ends_with("is being started. Try again in a moment."), "{told}");
    let registry = registry.with(runtime("own", "unix:/run/own.sock"));
    assert_eq!(goes_to(&registry, &person("alice")), Ok("own".to_owned()));
    assert!(!starting(&registry));
}

/// Nobody but an admin can repair it.
#[test]
fn a_shared_server_that_has_failed_leads_to_an_admin() {
    let mut failed = shared_runtime("time", 1, "");
    if let Some(Object::Runtime(runtime)) = &mut failed.object {
        runtime.set_state(pb::RuntimeState::Failed);
        runtime.message = "It exited at once".to_owned();
    }
    let registry = registry()
        .install(Made {
            running: Some(shared_revision("time", 1, "x")),
            ..Made::new("own", "time", "alice")
        })
        .with(failed);
    let told = told(&registry);
    let end = "is not running. It exited at once. Ask an admin to repair it, then try again.";
    assert!(told.ends_with(end), "{told}");
}

#[test]
fn a_discovery_that_failed_does_not_keep_calls_away() {
    let registry = registry().install(Made {
        tools: ConditionStatus::False,
        ..Made::new("own", "time", "alice")
    });
    assert_eq!(goes_to(&registry, &person("alice")), Ok("own".to_owned()));
}

#[test]
fn a_deleted_one_is_not_considered_and_its_successor_is() {
    let gone = Made {
        deleted: true,
        ..Made::new("gone", "time", "alice")
    };
    let registry = registry().install(gone.clone());
    assert_eq!(
        goes_to(&registry, &person("alice")),
        Err(RepairReason::CredentialRequired)
    );
    let again = registry.install(Made::new("new", "time", "alice"));
    assert_eq!(goes_to(&again, &person("alice")), Ok("new".to_owned()));
    // The old one's last change may come after the new one was made.
    assert_eq!(goes_to(&again.install(gone), &person("alice")), Ok("new".to_owned()));
}

#[test]
fn a_tool_that_the_installation_lacks_is_unavailable() {
    let registry = registry()
        .install(Made::new("own", "time", "alice"))
        .tools("own", &["other"]);
    assert_eq!(goes_to(&registry, &person("alice")), Err(RepairReason::ToolUnavailable));
}

#[test]
fn whole_issuers_count_for_gateway_tokens_too() {
    let everyone = pb::Team {
        name: "teams/everyone".to_owned(),
        uid: "t-everyone".to_owned(),
        mappings: vec![pb::TeamMapping {
            issuer: crate::snapshot::testing::ISSUER.to_owned(),
            selector: Some(pb::team_mapping::Selector::WholeIssuer(pb::WholeIssuer {})),
        }],
        ..pb::Team::default()
    };
    let user = caller_user("carol");
    let token = pb::WatchedGatewayToken {
        gateway_token: Some(pb::GatewayToken {
            name: "gatewayTokens/1".to_owned(),
            subject: Some(pb::gateway_token::Subject::User(user.id.resource_name())),
            consumers: vec!["gateways/default".to_owned()],
            ..pb::GatewayToken::default()
        }),
        token_hash: vec![7; 32],
        issuer: user.issuer,
        subject: user.subject,
    };
    let registry = registry()
        .with(crate::snapshot::testing::put(
            "t-everyone",
            pb::watched_object::Object::Team(everyone),
        ))
        .with(crate::snapshot::testing::put(
            "tok",
            pb::watched_object::Object::GatewayToken(token),
        ))
        .install(Made::new("demo", "time", "team:everyone"));
    let snapshot = registry.snapshot();
    let caller = &snapshot.gateway_token(&[7; 32]).unwrap().caller;
    assert_eq!(goes_to(&registry, caller), Ok("demo".to_owned()));
    let elsewhere = ConsumerRef::new(ConsumerKind::Gateway, "other");
    let snapshot = registry.gateway("other").snapshot();
    assert!(
        matches!(
            consumer(&snapshot, caller, &elsewhere),
            Err(CallError::ConsumerNotFound(_))
        ),
        "the token is limited"
    );
}

#[test]
fn what_a_caller_may_not_see_does_not_exist_for_them() {
    let hidden = Registry::default()
        .with(entry(pb::Entry {
            visibility: visible_to_team("core"),
            ..plain_entry("time")
        }))
        .tools("e-time", &["now"])
        .team("core", &["alice"])
        .gateway("default")
        .with(gateway(pb::Gateway {
            visibility: visible_to_team("core"),
            ..plain_gateway("secret")
        }))
        .assign("default", "time", "now");
    let snapshot = hidden.snapshot();
    assert_eq!(list(&snapshot, &person("alice"), &default()).unwrap().len(), 1);
    assert!(list(&snapshot, &person("bob"), &default()).unwrap().is_empty());
    let missing = call(&snapshot, &person("bob"), &default(), "time__now", None, &links()).unwrap_err();
    let unknown = call(&snapshot, &person("bob"), &default(), "time__none", None, &links()).unwrap_err();
    assert!(matches!(missing, CallError::ToolNotFound(_)) && matches!(unknown, CallError::ToolNotFound(_)));
    let secret = ConsumerRef::new(ConsumerKind::Gateway, "secret");
    assert!(consumer(&snapshot, &person("alice"), &secret).is_ok());
    assert!(consumer(&snapshot, &person("author"), &secret).is_ok());
    assert!(consumer(&snapshot, &person("bob"), &secret).is_err());
    let admin = Caller::person(crate::domain::CallerUser {
        admin: true,
        ..caller_user("root")
    });
    assert!(consumer(&snapshot, &admin, &secret).is_ok());
    let deactivated = hidden
        .with(crate::snapshot::testing::put(
            "d-1",
            pb::watched_object::Object::DeactivatedUser(pb::DeactivatedUser {
                user: user_id("alice").resource_name(),
            }),
        ))
        .snapshot();
    assert!(list(&deactivated, &person("alice"), &default()).is_err());
}

#[test]
fn lists_what_is_not_connected_yet_and_the_definition_of_what_resolves() {
    let registry = registry()
        .install(Made::new("own", "time", "alice"))
        .tools("own", &["now"]);
    let snapshot = registry.snapshot();
    let hers = list(&snapshot, &person("alice"), &default()).unwrap();
    let shown = |tools: &[crate::domain::ExposedTool]| tools[0].definition.to_json(&tools[0].exposed_name);
    assert!(hers[0].connected && shown(&hers).contains("of own") && shown(&hers).contains("\"time__now\""));
    let his = list(&snapshot, &person("bob"), &default()).unwrap();
    assert!(!his[0].connected && shown(&his).contains("of e-time"));
    assert_ne!(fingerprint(&hers), fingerprint(&his));
    assert_eq!(
        fingerprint(&his),
        fingerprint(&list(&snapshot, &person("carol"), &default()).unwrap())
    );
}

#[test]
fn pages_have_the_tools_of_the_list_in_its_order() {
    // In addition to visible tools: one that no server has, and one of an entry that is not for everybody.
    let hidden = pb::Entry {
        visibility: visible_to_team("core"),
        ..plain_entry("hidden")
    };
    let snapshot = Registry::default()
        .entry("alpha", &["a", "c", "e"])
        .entry("omega", &["b", "d", "f"])
        .with(entry(hidden))
        .tools("e-hidden", &["x"])
        .team("core", &["alice"])
        .gateway("default")
        .assign("default", "alpha", "a")
        .assign("default", "alpha", "c")
        .assign("default", "alpha", "gone")
        .assign("default", "hidden", "x")
        .assign("default", "omega", "b")
        .assign("default", "omega", "f")
        .snapshot();
    let names = |tools: &[crate::domain::ExposedTool]| -> Vec<String> {
        tools.iter().map(|tool| tool.exposed_name.to_string()).collect()
    };
    let caller = person("bob");
    let all = names(&list(&snapshot, &caller, &default()).unwrap());
    assert_eq!(all, ["alpha__a", "alpha__c", "omega__b", "omega__f"]);
    for size in 1..6 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let part = page(&snapshot, &caller, &default(), None, after.as_deref(), size).unwrap();
            assert!(part.tools.len() == size || !part.more, "a page is whole");
            seen.extend(names(&part.tools));
            if !part.more {
                break;
            }
            after = seen.last().cloned();
        }
        assert_eq!(seen, all, "{size}");
    }
    let behind = page(&snapshot, &caller, &default(), None, Some("b"), 5).unwrap();
    assert_eq!(names(&behind.tools), all[2..], "a name that is no tool's");
}
