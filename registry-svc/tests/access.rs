//! What other services ask before they act for a person, on both engines.

mod support;

use contracts::registry::{access_service_client::AccessServiceClient, *};
use service_kit::Workload;
use support::*;
use tonic::Code;

on_both_engines!(answers_for_people_at_this_moment);

async fn answers_for_people_at_this_moment(stack: Stack) {
    let admin = stack.admin();
    let alice = stack.person("alice");
    let entry = admin.approved("time", remote()).await;
    let installation = alice.install(&entry.name, None, &[]).await.unwrap();
    let mut access = AccessServiceClient::new(stack.pipe(Workload::Credential));
    let principal = |subject: &str, admin: bool| {
        Some(Principal {
            issuer: stack.issuer.issuer().to_owned(),
            subject: subject.to_owned(),
            admin,
            ..Default::default()
        })
    };
    let ask = |principal, action: AccessAction| AuthorizeInstallationRequest {
        installation: installation.name.clone(),
        principal,
        action: action.into(),
    };
    let allowed = access
        .authorize_installation(ask(principal("alice", false), AccessAction::Manage))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(allowed.installation.unwrap().uid, installation.uid);
    let running = allowed.running_entry_revision.unwrap();
    assert_eq!((running.entry_uid.as_str(), running.number), (entry.uid.as_str(), 1));
    let refused = access
        .authorize_installation(ask(principal("bob", false), AccessAction::Read))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    let entry_access = |principal| AuthorizeEntryRequest {
        entry: entry.name.clone(),
        principal,
        action: AccessAction::Manage.into(),
    };
    let allowed = access
        .authorize_entry(entry_access(principal("root", true)))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(allowed.current_entry_revision.unwrap().number, 1);
    let refused = access
        .authorize_entry(entry_access(principal("alice", false)))
        .await
        .unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    let refused = access
        .authorize_entry(AuthorizeEntryRequest::default())
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
    let request = deactivate_user(&alice.user);
    admin.users().deactivate_user(request).await.unwrap();
    let refused = access
        .authorize_installation(ask(principal("alice", false), AccessAction::Read))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::Unauthenticated, "USER_DEACTIVATED".to_owned()));
}
