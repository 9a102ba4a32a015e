//! Requests of InstallationService.

use contracts::registry::{self as r, installation::Scope};
use integration_tests::walk::{mask, request_id};

use super::request::{Request, scope};
use crate::world::{Seen, Who, World};

pub(super) async fn installations(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    if method == "CreateInstallation" {
        let (seen, team) = match about {
            "personal, of an entry of everybody" => (Seen::ByAll, None),
            "personal, of an entry of the teams" => (Seen::ByTeams, None),
            "a team's, of an entry of everybody" => (Seen::ByAll, Some(who.team())),
            _ => return None,
        };
        let entry = world.open_entry(seen).await;
        let message = r::CreateInstallationRequest {
            installation: Some(r::Installation {
                entry: entry.clone(),
                scope: team.map(|team| Scope::Team(team.name().to_owned())),
                ..r::Installation::default()
            }),
            request_id: request_id(),
        };
        return Some(match team {
            None => Request::on(&entry, message),
            Some(team) => Request::on(team.name(), message),
        });
    }
    let entry = world.open_entry(Seen::ByAll).await;
    let name = world.installation(&entry, scope(about, who)?).await;
    let etag = String::new();
    Some(match method {
        "GetInstallation" => Request::on(&name, r::GetInstallationRequest { name: name.clone() }),
        "ListInstallations" => Request::new(r::ListInstallationsRequest {
            page_size: 500,
            entry,
            ..r::ListInstallationsRequest::default()
        })
        .lists(&name),
        "UpdateInstallation" => Request::on(
            &name,
            r::UpdateInstallationRequest {
                installation: Some(r::Installation {
                    name: name.clone(),
                    ..r::Installation::default()
                }),
                update_mask: Some(mask(&["values"])),
            },
        ),
        "DeleteInstallation" => Request::on(
            &name,
            r::DeleteInstallationRequest {
                name: name.clone(),
                etag,
            },
        ),
        "ListInstallationTools" => Request::on(
            &name,
            r::ListInstallationToolsRequest {
                parent: name.clone(),
                ..r::ListInstallationToolsRequest::default()
            },
        ),
        _ => return None,
    })
}
