//! Requests of CredentialService.

use contracts::credential as c;
use integration_tests::walk::{request_id, secrets};

use super::request::{Request, scope};
use crate::world::{Seen, Who, World};

pub(super) async fn credentials(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    if about == "everybody's" {
        return entry_credentials(world, method).await;
    }
    if let "StartAuthorization" | "FinishAuthorization" = method {
        return accounts(world, method, about, who).await;
    }
    let entry = world.entry(Seen::ByAll).await;
    let installation = world.installation_with_secret(&entry, scope(about, who)?).await;
    let name = installation.clone();
    Some(match method {
        "PutInstallationCredential" => Request::on(
            &name,
            c::PutInstallationCredentialRequest {
                installation,
                values: secrets(&[("key", "an0ther")]),
                request_id: request_id(),
                destination: String::new(),
            },
        ),
        "GetInstallationCredential" => Request::on(&name, c::GetInstallationCredentialRequest { installation }),
        "DeleteInstallationCredential" => Request::on(&name, c::DeleteInstallationCredentialRequest { installation }),
        "ConfirmInstallationDestination" => {
            let destination = present_destination(world, &name).await;
            Request::on(
                &name,
                c::ConfirmInstallationDestinationRequest {
                    installation,
                    destination,
                },
            )
        }
        _ => return None,
    })
}

async fn accounts(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    if method == "FinishAuthorization" {
        // Nobody has begun it: who may be told so is what is asked.
        let request = c::FinishAuthorizationRequest {
            state: "none".to_owned(),
            code: "none".to_owned(),
            ..c::FinishAuthorizationRequest::default()
        };
        return Some(Request::new(request).fails_with_if_allowed("AUTHORIZATION_STATE_INVALID"));
    }
    let entry = world.entry_with_account(Seen::ByAll).await;
    let installation = world.installation(&entry, scope(about, who)?).await;
    let name = installation.clone();
    let destination = String::new();
    Some(Request::on(
        &name,
        c::StartAuthorizationRequest {
            installation,
            destination,
        },
    ))
}

async fn entry_credentials(world: &World, method: &str) -> Option<Request> {
    let entry = world.entry_with_stored_secret().await;
    let name = entry.clone();
    let put = |value| c::PutEntryCredentialRequest {
        entry: entry.clone(),
        values: secrets(&[("key", value)]),
        request_id: request_id(),
        destination: String::new(),
    };
    let stored = world.admin.credentials().put_entry_credential(put("s3cret")).await;
    let destination = stored.expect("admins may put").into_inner().present_destination;
    Some(match method {
        "PutEntryCredential" => Request::on(&name, put("an0ther")),
        "GetEntryCredential" => Request::on(&name, c::GetEntryCredentialRequest { entry }),
        "DeleteEntryCredential" => Request::on(&name, c::DeleteEntryCredentialRequest { entry }),
        "ConfirmEntryDestination" => Request::on(&name, c::ConfirmEntryDestinationRequest { entry, destination }),
        _ => return None,
    })
}

/// The present destination of an installation's secrets.
pub(super) async fn present_destination(world: &World, name: &str) -> String {
    let request = c::GetInstallationCredentialRequest {
        installation: name.to_owned(),
    };
    let credential = world.admin.credentials().get_installation_credential(request).await;
    credential.expect("admins may look").into_inner().present_destination
}
