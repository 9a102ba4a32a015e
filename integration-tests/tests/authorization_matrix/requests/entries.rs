//! Requests of EntryService.

use contracts::registry as r;
use integration_tests::walk::{remote, request_id};

use super::request::{Request, seen};
use crate::world::World;

pub(super) async fn entries(world: &World, method: &str, about: &str) -> Option<Request> {
    if (method, about) == ("CreateEntry", "new") {
        return Some(Request::new(r::CreateEntryRequest {
            entry_id: world.fresh("e"),
            entry: Some(remote("https://mcp.example.com/mcp")),
            request_id: request_id(),
        }));
    }
    let name = world.open_entry(seen(about)?).await;
    let etag = String::new();
    Some(match method {
        "GetEntry" => Request::on(&name, r::GetEntryRequest { name: name.clone() }),
        "ListEntries" => Request::new(r::ListEntriesRequest {
            page_size: 500,
            ..r::ListEntriesRequest::default()
        })
        .lists(&name),
        "UpdateEntry" => Request::on(
            &name,
            r::UpdateEntryRequest {
                entry: Some(r::Entry {
                    name: name.clone(),
                    description: "changed".to_owned(),
                    ..r::Entry::default()
                }),
                update_mask: None,
            },
        ),
        "DeleteEntry" => Request::on(
            &name,
            r::DeleteEntryRequest {
                name: name.clone(),
                etag,
                force: false,
            },
        ),
        "ApproveEntry" => Request::on(
            &name,
            r::ApproveEntryRequest {
                name: name.clone(),
                etag,
            },
        ),
        "DeprecateEntry" => Request::on(
            &name,
            r::DeprecateEntryRequest {
                name: name.clone(),
                etag,
            },
        ),
        "GetEntryRevision" => Request::on(
            &name,
            r::GetEntryRevisionRequest {
                name: format!("{name}/revisions/1"),
            },
        ),
        "ListEntryRevisions" => Request::on(
            &name,
            r::ListEntryRevisionsRequest {
                parent: name.clone(),
                ..r::ListEntryRevisionsRequest::default()
            },
        ),
        "ListEntryTools" => Request::on(
            &name,
            r::ListEntryToolsRequest {
                parent: name.clone(),
                ..r::ListEntryToolsRequest::default()
            },
        ),
        _ => return None,
    })
}
