//! Tool assignments made and deleted in batches, on both engines.

#[path = "support/assigning.rs"]
mod assigning;
mod support;

use assigning::*;
use contracts::registry::{tool_assignment::Selection, *};
use support::*;
use tonic::{Code, Status};

on_both_engines!(are_made_all_or_none, are_made_by_the_thousand, are_deleted_all_or_none,);

fn batch(assignments: impl IntoIterator<Item = ToolAssignment>) -> BatchCreateToolAssignmentsRequest {
    let requests = assignments.into_iter().map(|assignment| CreateToolAssignmentRequest {
        tool_assignment: Some(assignment),
        ..Default::default()
    });
    BatchCreateToolAssignmentsRequest {
        parent: GATEWAY.to_owned(),
        requests: requests.collect(),
        request_id: String::new(),
    }
}

async fn assign_all(
    person: &Person,
    request: BatchCreateToolAssignmentsRequest,
) -> Result<Vec<ToolAssignment>, Status> {
    let made = person.assignments().batch_create_tool_assignments(request).await;
    made.map(|made| made.into_inner().tool_assignments)
}

async fn are_made_all_or_none(stack: Stack) {
    let (admin, alice, hers) = prepare(&stack).await;
    let teams = admin.install("entries/time", None, &[]).await.unwrap();
    admin.approved("other", remote()).await;
    let other = admin.install("entries/other", None, &[]).await.unwrap();

    // All that can be said of fields is said at once.
    let mut wrong = batch([
        tool("now"),
        tool_of("x", ""),
        tool("convert"),
        ToolAssignment {
            exposed_name: "a b".to_owned(),
            ..tool("now")
        },
    ]);
    wrong.requests[2].parent = "gateways/other".to_owned();
    wrong.requests[3].request_id = service_kit::random::uuid().to_string();
    wrong.request_id = "x".to_owned();
    let refused = assign_all(&admin, wrong).await.unwrap_err();
    assert_eq!(
        fields(&refused),
        [
            "request_id",
            "requests[1].tool_assignment.entry",
            "requests[1].tool_assignment.tool",
            "requests[2].parent",
            "requests[3].request_id",
            "requests[3].tool_assignment.exposed_name",
        ]
    );
    let refused = assign_all(&admin, batch([])).await.unwrap_err();
    assert_eq!(fields(&refused), ["requests"]);
    let many = vec![tool("now"); 1_001];
    let refused = assign_all(&admin, batch(many)).await.unwrap_err();
    assert_eq!(fields(&refused), ["requests"]);
    let twice = [
        tool("now"),
        tool("convert"),
        tool("now"),
        ToolAssignment {
            exposed_name: "clock".to_owned(),
            ..pinned("now", &teams)
        },
        ToolAssignment {
            exposed_name: "clock".to_owned(),
            ..pinned("convert", &teams)
        },
    ];
    let mut twice = batch(twice);
    for request in &mut twice.requests[3..] {
        request.confirm_shared_account = true;
    }
    let refused = assign_all(&admin, twice).await.unwrap_err();
    let expected = [
        "requests[2].tool_assignment",
        "requests[4].tool_assignment.exposed_name",
    ];
    assert_eq!(fields(&refused), expected);
    let elsewhere = batch([tool("now"), pinned("now", &other), tool("later")]);
    let refused = assign_all(&admin, elsewhere).await.unwrap_err();
    assert_eq!(fields(&refused), ["requests[1].tool_assignment.pinned_installation"]);

    // One that cannot be done stops all of them.
    for (assignment, expected) in [
        (tool("later"), "TOOL_UNKNOWN"),
        (tool_of("entries/none", "now"), "RESOURCE_NOT_FOUND"),
        (pinned("now", &hers), "PERMISSION_DENIED"),
        (pinned("now", &teams), "SHARED_ACCOUNT_NOT_CONFIRMED"),
    ] {
        let refused = assign_all(&admin, batch([tool("now"), assignment])).await.unwrap_err();
        assert_eq!(reason(&refused).1, expected);
    }
    let refused = assign_all(&alice, batch([tool("now")])).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(listed(&admin, 50).await, [], "nothing of any of them was made");

    let mut request = batch([tool("now"), tool("convert"), pinned("now", &teams)]);
    request.requests[1].parent = GATEWAY.to_owned();
    request.requests[2].confirm_shared_account = true;
    request.request_id = service_kit::random::uuid().to_string();
    let made = assign_all(&admin, request.clone()).await.unwrap();
    let selections: Vec<_> = made.iter().map(|one| one.selection.clone()).collect();
    let expected = ["now", "convert", "now"].map(|tool| Some(Selection::Tool(tool.to_owned())));
    assert_eq!(selections, expected, "in the order of the requests");
    assert_eq!(made[2].consented_visibility, for_organization());
    let mut found = listed(&admin, 50).await;
    let mut expected = made.clone();
    found.sort_by(|a, b| a.uid.cmp(&b.uid));
    expected.sort_by(|a, b| a.uid.cmp(&b.uid));
    assert_eq!(found, expected);
    let refused = assign_all(&admin, batch([pinned("convert", &teams), tool("now")])).await;
    assert_eq!(reason(&refused.unwrap_err()).1, "SHARED_ACCOUNT_NOT_CONFIRMED");
    let mut taken = batch([pinned("convert", &teams), tool("now")]);
    taken.requests[0].confirm_shared_account = true;
    let refused = assign_all(&admin, taken).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::AlreadyExists, "ALREADY_EXISTS".to_owned()));
    assert!(refused.message().contains(&made[0].uid));

    // A retry returns the first answer, until something of it is gone.
    let change = ToolAssignment {
        name: made[1].name.clone(),
        exposed_name: "clock".to_owned(),
        ..Default::default()
    };
    update(&admin, change, None, false).await.unwrap();
    assert_eq!(assign_all(&admin, request.clone()).await.unwrap(), made);
    let other = BatchCreateToolAssignmentsRequest {
        request_id: request.request_id.clone(),
        ..batch([tool("now")])
    };
    assert_eq!(
        reason(&assign_all(&admin, other).await.unwrap_err()).1,
        "REQUEST_ID_REUSED"
    );
    let delete = delete_tool_assignment(&made[2].name);
    admin.assignments().delete_tool_assignment(delete).await.unwrap();
    assert_eq!(assign_all(&admin, request).await.unwrap_err().code(), Code::NotFound);
}

async fn are_made_by_the_thousand(stack: Stack) {
    let admin = stack.admin();
    admin.gateway("default", Gateway::default()).await.unwrap();
    let tools: Vec<String> = (0..100).map(|number| format!("tool-{number}")).collect();
    let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
    let mut wanted = Vec::new();
    for index in 0..10 {
        let entry = admin.approved(&format!("e{index}"), remote()).await;
        let installation = admin.install(&entry.name, None, &[]).await.unwrap();
        stack.discover(&installation, &tools).await;
        wanted.extend(tools.iter().map(|tool| tool_of(&entry.name, tool)));
    }
    let made = assign_all(&admin, batch(wanted)).await.unwrap();
    assert_eq!(made.len(), 1_000);
    assert_eq!(listed(&admin, 500).await.len(), 1_000);
    let request = BatchDeleteToolAssignmentsRequest {
        parent: GATEWAY.to_owned(),
        names: made.into_iter().map(|one| one.name).collect(),
    };
    admin
        .assignments()
        .batch_delete_tool_assignments(request)
        .await
        .unwrap();
    assert_eq!(listed(&admin, 500).await, []);
}

async fn are_deleted_all_or_none(stack: Stack) {
    let (admin, alice, _) = prepare(&stack).await;
    admin.gateway("other", Gateway::default()).await.unwrap();
    let made = assign_all(&admin, batch([tool("now"), tool("convert")])).await.unwrap();
    let delete = |person: &Person, parent: &str, names: &[&str]| {
        let mut client = person.assignments();
        let request = BatchDeleteToolAssignmentsRequest {
            parent: parent.to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
        };
        async move { client.batch_delete_tool_assignments(request).await.map(drop) }
    };
    let (first, second) = (made[0].name.as_str(), made[1].name.as_str());
    let absent = format!("{GATEWAY}/toolAssignments/{}", service_kit::random::uuid());
    let refused = delete(&admin, GATEWAY, &[first, &absent]).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains(&absent));
    let refused = delete(&admin, GATEWAY, &[first, "x", second, first]).await.unwrap_err();
    assert_eq!(fields(&refused), ["names[1]", "names[3]"]);
    let refused = delete(&admin, "gateways/other", &[first]).await.unwrap_err();
    assert_eq!(fields(&refused), ["names[0]"]);
    assert_eq!(fields(&delete(&admin, GATEWAY, &[]).await.unwrap_err()), ["names"]);
    let refused = delete(&alice, GATEWAY, &[first]).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(listed(&admin, 50).await.len(), 2, "nothing was deleted");
    delete(&admin, GATEWAY, &[second, first]).await.unwrap();
    assert_eq!(listed(&admin, 50).await, []);
}
