//! What tests of tool assignments share.

#![allow(dead_code, reason = "each test uses its part of it")]

use contracts::registry::{
    tool_assignment::{Binding, Selection},
    *,
};
use tonic::Status;

use super::support::*;

pub(crate) const GATEWAY: &str = "gateways/default";

pub(crate) async fn assign(
    person: &Person,
    assignment: ToolAssignment,
    confirm_shared_account: bool,
) -> Result<ToolAssignment, Status> {
    let request = CreateToolAssignmentRequest {
        parent: GATEWAY.to_owned(),
        tool_assignment: Some(assignment),
        confirm_shared_account,
        ..Default::default()
    };
    let made = person.assignments().create_tool_assignment(request).await;
    made.map(tonic::Response::into_inner)
}

pub(crate) async fn update(
    person: &Person,
    assignment: ToolAssignment,
    update_mask: Option<prost_types::FieldMask>,
    confirm_shared_account: bool,
) -> Result<ToolAssignment, Status> {
    let request = UpdateToolAssignmentRequest {
        tool_assignment: Some(assignment),
        update_mask,
        confirm_shared_account,
    };
    let updated = person.assignments().update_tool_assignment(request).await;
    updated.map(tonic::Response::into_inner)
}

pub(crate) async fn get(person: &Person, name: &str) -> Result<ToolAssignment, Status> {
    let request = get_tool_assignment(name);
    let found = person.assignments().get_tool_assignment(request).await;
    found.map(tonic::Response::into_inner)
}

/// The assignments of all pages.
pub(crate) async fn listed(person: &Person, page_size: i32) -> Vec<ToolAssignment> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListToolAssignmentsRequest {
            parent: GATEWAY.to_owned(),
            page_size,
            page_token,
        };
        let page = person
            .assignments()
            .list_tool_assignments(request)
            .await
            .unwrap()
            .into_inner();
        assert!(page.tool_assignments.len() <= usize::try_from(page_size).unwrap());
        assert!(page.next_page_token.is_empty() || !page.tool_assignments.is_empty());
        found.extend(page.tool_assignments);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

pub(crate) fn names(assignments: &[ToolAssignment]) -> Vec<&str> {
    assignments.iter().map(|one| one.name.as_str()).collect()
}

pub(crate) fn tool_of(entry: &str, tool: &str) -> ToolAssignment {
    ToolAssignment {
        entry: entry.to_owned(),
        selection: Some(Selection::Tool(tool.to_owned())),
        ..Default::default()
    }
}

pub(crate) fn tool(tool: &str) -> ToolAssignment {
    tool_of("entries/time", tool)
}

pub(crate) fn pinned(name: &str, installation: &Installation) -> ToolAssignment {
    ToolAssignment {
        binding: Some(Binding::PinnedInstallation(installation.name.clone())),
        ..tool(name)
    }
}

pub(crate) fn visible_to(audience: visibility::Audience) -> Option<Visibility> {
    Some(Visibility {
        audience: Some(audience),
    })
}

pub(crate) fn for_author() -> Option<Visibility> {
    visible_to(visibility::Audience::Author(AuthorAudience {}))
}

pub(crate) fn for_organization() -> Option<Visibility> {
    visible_to(visibility::Audience::Organization(OrganizationAudience {}))
}

pub(crate) fn for_teams(teams: &[&str]) -> Option<Visibility> {
    let teams = teams.iter().map(|&team| team.to_owned()).collect();
    visible_to(visibility::Audience::Teams(TeamsAudience { teams }))
}

pub(crate) async fn set_visibility(admin: &Person, visibility: Option<Visibility>) {
    let gateway = Gateway {
        name: GATEWAY.to_owned(),
        visibility,
        ..Default::default()
    };
    let request = update_gateway(gateway, &["visibility"]);
    admin.gateways().update_gateway(request).await.unwrap();
}

/// An entry `time` with two tools that alice has installed, and a gateway.
pub(crate) async fn prepare(stack: &Stack) -> (Person, Person, Installation) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    admin.approved("time", remote()).await;
    let installation = alice.install("entries/time", None, &[]).await.unwrap();
    stack.discover(&installation, &["convert", "now"]).await;
    admin.gateway("default", Gateway::default()).await.unwrap();
    (admin, alice, installation)
}
