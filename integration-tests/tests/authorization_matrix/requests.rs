//! One real request for each row of the table: what it is about is made before each call, by those who may, so that a call that is let
//! through does what it is for.

use contracts::{
    credential as c, gateway as g, orchestrator as o,
    registry::{
        self as r, add_team_member_request::Member, deactivate_user_request, gateway_token::Subject,
        installation::Scope,
    },
};
use integration_tests::walk::{request_id, secrets};
use prost::Message;
use service_kit::UserId;

use crate::world::{Seen, Team, Who, World, all_tools};

/// A call that is about to be made.
#[derive(Debug)]
pub(crate) struct Request {
    /// The message, encoded.
    pub(crate) message: Vec<u8>,
    /// The id of what the call is about, where it must exist: with another id, whoever it is hidden from gets the same answer.
    pub(crate) about: Option<String>,
    /// Of a list: the resource name that it holds for whoever may see it.
    pub(crate) listed: Option<String>,
    /// An error that only whoever is let through gets: its reason.
    pub(crate) beyond: Option<&'static str>,
    /// Whether what is asked about may be seen by whoever calls: else a refusal must not tell that it is there.
    pub(crate) seen: bool,
}

impl Request {
    fn new(message: impl Message) -> Self {
        Self {
            message: message.encode_to_vec(),
            about: None,
            listed: None,
            beyond: None,
            seen: true,
        }
    }

    /// About the resource of this name.
    fn on(name: &str, message: impl Message) -> Self {
        // What is below something is hidden by what it is below: a runtime, a revision, an assignment.
        let id = name.split('/').nth(1).expect("a resource name has an id");
        Self {
            about: Some(id.to_owned()),
            ..Self::new(message)
        }
    }

    fn lists(mut self, name: &str) -> Self {
        self.listed = Some(name.to_owned());
        self
    }

    fn unseen(mut self) -> Self {
        self.seen = false;
        self
    }

    fn or(mut self, reason: &'static str) -> Self {
        self.beyond = Some(reason);
        self
    }
}

/// What `rpc` (`EntryService/GetEntry`) is called with by `who` about a thing of this kind; `None`: nobody has said yet.
pub(crate) async fn request(world: &World, rpc: &str, about: &str, who: Who) -> Option<Request> {
    let (service, method) = rpc.split_once('/')?;
    match service {
        "EntryService" => entries(world, method, about).await,
        "InstallationService" => installations(world, method, about, who).await,
        "GatewayService" => gateways(world, method, about).await,
        "AgentService" => agents(world, method, about).await,
        "ToolAssignmentService" => {
            let request = assignments(world, method, about).await?;
            let unseen = who == Who::Stranger && about == OF_HIDDEN_ENTRY;
            Some(if unseen { request.unseen() } else { request })
        }
        "TeamService" => teams(world, method, about, who).await,
        "UserService" => users(world, method, about).await,
        "GatewayTokenService" => gateway_tokens(world, method, about, who).await,
        "ReportService" => reports(world, method, about, who).await,
        "AccessService" => access(world, method, about).await,
        "WatchService" => watch(method, about, world),
        "CredentialService" => credentials(world, method, about, who).await,
        "VendService" => vend(world, method, about).await,
        "RuntimeService" => runtimes(world, method, about, who).await,
        "ToolService" => tools(world, method, about, who).await,
        _ => None,
    }
}

/// What hides such an assignment is its entry.
const OF_HIDDEN_ENTRY: &str = "at everybody's, of the teams' entry";

fn seen(about: &str) -> Option<Seen> {
    match about {
        "everybody's" => Some(Seen::ByAll),
        "the teams'" => Some(Seen::ByTeams),
        _ => None,
    }
}

/// The owner's own, or the team's of whoever calls.
fn scope(about: &str, who: Who) -> Option<Option<Team>> {
    match about {
        "personal" => Some(None),
        "a team's" => Some(Some(who.team())),
        _ => None,
    }
}

async fn entries(world: &World, method: &str, about: &str) -> Option<Request> {
    if (method, about) == ("CreateEntry", "new") {
        return Some(Request::new(r::CreateEntryRequest {
            entry_id: world.fresh("e"),
            entry: Some(integration_tests::walk::remote("https://mcp.example.com/mcp")),
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

async fn installations(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
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
                update_mask: Some(integration_tests::walk::mask(&["values"])),
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

async fn gateways(world: &World, method: &str, about: &str) -> Option<Request> {
    if (method, about) == ("CreateGateway", "new") {
        return Some(Request::new(r::CreateGatewayRequest {
            gateway_id: world.fresh("g"),
            gateway: Some(r::Gateway::default()),
            request_id: request_id(),
        }));
    }
    let name = world.gateway(seen(about)?).await;
    let etag = String::new();
    Some(match method {
        "GetGateway" => Request::on(&name, r::GetGatewayRequest { name: name.clone() }),
        "ListGateways" => Request::new(r::ListGatewaysRequest {
            page_size: 500,
            ..r::ListGatewaysRequest::default()
        })
        .lists(&name),
        "UpdateGateway" => Request::on(
            &name,
            r::UpdateGatewayRequest {
                gateway: Some(r::Gateway {
                    name: name.clone(),
                    description: "changed".to_owned(),
                    ..r::Gateway::default()
                }),
                update_mask: None,
            },
        ),
        "DeleteGateway" => Request::on(
            &name,
            r::DeleteGatewayRequest {
                name: name.clone(),
                etag,
            },
        ),
        _ => return None,
    })
}

async fn agents(world: &World, method: &str, about: &str) -> Option<Request> {
    if (method, about) == ("CreateAgent", "new") {
        return Some(Request::new(r::CreateAgentRequest {
            agent_id: world.fresh("a"),
            agent: Some(r::Agent::default()),
            request_id: request_id(),
        }));
    }
    let name = world.agent(seen(about)?).await;
    let etag = String::new();
    Some(match method {
        "GetAgent" => Request::on(&name, r::GetAgentRequest { name: name.clone() }),
        "ListAgents" => Request::new(r::ListAgentsRequest {
            page_size: 500,
            ..r::ListAgentsRequest::default()
        })
        .lists(&name),
        "UpdateAgent" => Request::on(
            &name,
            r::UpdateAgentRequest {
                agent: Some(r::Agent {
                    name: name.clone(),
                    description: "changed".to_owned(),
                    ..r::Agent::default()
                }),
                update_mask: None,
            },
        ),
        "DeleteAgent" => Request::on(
            &name,
            r::DeleteAgentRequest {
                name: name.clone(),
                etag,
            },
        ),
        _ => return None,
    })
}

async fn assignments(world: &World, method: &str, about: &str) -> Option<Request> {
    let (parent, of) = match about {
        "at everybody's" => (world.gateway(Seen::ByAll).await, Seen::ByAll),
        "at the teams'" => (world.gateway(Seen::ByTeams).await, Seen::ByAll),
        OF_HIDDEN_ENTRY => (world.agent(Seen::ByAll).await, Seen::ByTeams),
        _ => return None,
    };
    let entry = world.open_entry(of).await;
    let hides = if of == Seen::ByAll { &parent } else { &entry };
    let create = || r::CreateToolAssignmentRequest {
        parent: parent.clone(),
        tool_assignment: Some(all_tools(&entry)),
        ..r::CreateToolAssignmentRequest::default()
    };
    match method {
        "CreateToolAssignment" => return Some(Request::on(hides, create())),
        "BatchCreateToolAssignments" => {
            return Some(Request::on(
                hides,
                r::BatchCreateToolAssignmentsRequest {
                    parent: parent.clone(),
                    requests: vec![create()],
                    request_id: request_id(),
                },
            ));
        }
        _ => {}
    }
    let name = world.assignment(&parent, &entry).await;
    let uid = name.rsplit('/').next().map(str::to_owned);
    let on_it = |message| Request {
        about: uid.clone(),
        ..message
    };
    Some(match method {
        "GetToolAssignment" => on_it(Request::new(r::GetToolAssignmentRequest { name })),
        "ListToolAssignments" => Request::on(
            &parent,
            r::ListToolAssignmentsRequest {
                parent: parent.clone(),
                ..r::ListToolAssignmentsRequest::default()
            },
        )
        .lists(&name),
        "UpdateToolAssignment" => on_it(Request::new(r::UpdateToolAssignmentRequest {
            tool_assignment: Some(r::ToolAssignment {
                name,
                binding: Some(r::tool_assignment::Binding::ResolveAtCallTime(r::ResolveAtCallTime {})),
                ..r::ToolAssignment::default()
            }),
            ..r::UpdateToolAssignmentRequest::default()
        })),
        "DeleteToolAssignment" => on_it(Request::new(r::DeleteToolAssignmentRequest {
            name,
            etag: String::new(),
        })),
        "BatchDeleteToolAssignments" => on_it(Request::new(r::BatchDeleteToolAssignmentsRequest {
            parent,
            names: vec![name],
        })),
        _ => return None,
    })
}

async fn teams(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    if (method, about) == ("CreateTeam", "new") {
        return Some(Request::new(r::CreateTeamRequest {
            team_id: world.fresh("t"),
            team: Some(r::Team::default()),
            request_id: request_id(),
        }));
    }
    if about != "a team's" {
        return None;
    }
    let name = format!("teams/{}", world.fresh("t"));
    world.create_team(&name, who.team() == Team::Managers).await;
    if matches!(who, Who::Member | Who::Manager) {
        world.join(&name, &World::subject(who)).await;
    }
    Some(match method {
        "GetTeam" => Request::on(&name, r::GetTeamRequest { name: name.clone() }),
        "ListTeams" => Request::new(r::ListTeamsRequest {
            page_size: 500,
            ..r::ListTeamsRequest::default()
        })
        .lists(&name),
        "UpdateTeam" => Request::on(
            &name,
            r::UpdateTeamRequest {
                team: Some(r::Team {
                    name: name.clone(),
                    members_manage_installations: Some(true),
                    ..r::Team::default()
                }),
                update_mask: None,
            },
        ),
        "DeleteTeam" => Request::on(
            &name,
            r::DeleteTeamRequest {
                name: name.clone(),
                etag: String::new(),
            },
        ),
        "AddTeamMember" => Request::on(
            &name,
            r::AddTeamMemberRequest {
                team: name.clone(),
                member: Some(Member::User(
                    UserId::of(world.issuer(), &World::subject(who)).resource_name(),
                )),
            },
        ),
        "RemoveTeamMember" => Request::on(
            &name,
            r::RemoveTeamMemberRequest {
                team: name.clone(),
                user: world.join(&name, &world.fresh("joiner")).await,
            },
        ),
        "ListTeamMembers" => Request::on(
            &name,
            r::ListTeamMembersRequest {
                parent: name.clone(),
                ..r::ListTeamMembersRequest::default()
            },
        ),
        _ => return None,
    })
}

async fn users(world: &World, method: &str, about: &str) -> Option<Request> {
    if (method, about) == ("GetUser", "oneself") {
        return Some(Request::new(r::GetUserRequest {
            name: "users/me".to_owned(),
        }));
    }
    if about != "another" {
        return None;
    }
    let name = world.newcomer().await;
    if method == "ListUsers" {
        return Some(Request::new(r::ListUsersRequest::default()));
    }
    let request = match method {
        "GetUser" => Request::on(&name, r::GetUserRequest { name: name.clone() }),
        "DeactivateUser" => Request::on(
            &name,
            r::DeactivateUserRequest {
                user: Some(deactivate_user_request::User::Name(name.clone())),
            },
        ),
        "ReactivateUser" => Request::on(&name, r::ReactivateUserRequest { name: name.clone() }),
        _ => return None,
    };
    Some(request.unseen())
}

async fn gateway_tokens(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    let team = scope(about, who)?;
    if method == "CreateGatewayToken" {
        let message = r::CreateGatewayTokenRequest {
            gateway_token: Some(r::GatewayToken {
                display_name: "a client".to_owned(),
                subject: team.map(|team| Subject::Team(team.name().to_owned())),
                ..r::GatewayToken::default()
            }),
            request_id: request_id(),
        };
        return Some(match team {
            None => Request::new(message),
            Some(team) => Request::on(team.name(), message),
        });
    }
    let made = world.create_token(team).await.gateway_token.unwrap_or_default();
    let name = made.name;
    Some(match method {
        "GetGatewayToken" => Request::on(&name, r::GetGatewayTokenRequest { name: name.clone() }),
        "ListGatewayTokens" => Request::new(r::ListGatewayTokensRequest {
            page_size: 500,
            ..r::ListGatewayTokensRequest::default()
        })
        .lists(&name),
        "RevokeGatewayToken" => Request::on(&name, r::RevokeGatewayTokenRequest { name: name.clone() }),
        _ => return None,
    })
}

async fn reports(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    if about != "personal" {
        return None;
    }
    let entry = world.open_entry(Seen::ByAll).await;
    let name = world.installation(&entry, None).await;
    let uid = name.trim_start_matches("installations/").to_owned();
    Some(match method {
        "ReportCredential" => Request::new(r::ReportCredentialRequest {
            subject: Some(r::report_credential_request::Subject::InstallationUid(uid)),
            status: r::ConditionStatus::True.into(),
            reason: "STORED".to_owned(),
            observed_generation: 1,
            ..r::ReportCredentialRequest::default()
        }),
        "ReportRuntime" => Request::new(r::ReportRuntimeRequest {
            subject: Some(r::report_runtime_request::Subject::InstallationUid(uid)),
            state: r::RuntimeState::Failed.into(),
            reason: "EXITED".to_owned(),
            observed_generation: 1,
            ..r::ReportRuntimeRequest::default()
        })
        // The program's own orchestrator holds the lease.
        .or("LEASE_LOST"),
        "ReportDiscovery" => Request::new(r::ReportDiscoveryRequest {
            subject: Some(r::report_discovery_request::Subject::InstallationUid(uid)),
            outcome: Some(r::report_discovery_request::Outcome::Tools(
                r::DiscoveredTools::default(),
            )),
            observed_generation: 1,
        }),
        // It is not deleted, which is looked up for whoever may report; an orchestrator that does not hold the lease is refused before.
        "ReportCleanup" => Request::new(r::ReportCleanupRequest {
            subject: Some(r::report_cleanup_request::Subject::InstallationUid(uid)),
            lease: None,
        })
        .or(if who == Who::Service(service_kit::Workload::Orchestrator) {
            "LEASE_LOST"
        } else {
            "ILLEGAL_TRANSITION"
        }),
        "AcquireRuntimeLease" => Request::new(r::AcquireRuntimeLeaseRequest {
            holder: "somebody else".to_owned(),
            ..r::AcquireRuntimeLeaseRequest::default()
        }),
        "ReleaseRuntimeLease" => Request::new(r::ReleaseRuntimeLeaseRequest {
            lease: Some(r::RuntimeLease {
                holder: "somebody else".to_owned(),
                epoch: 1,
            }),
        }),
        "ReportTokenUse" => {
            let token = world.create_token(None).await.gateway_token.unwrap_or_default();
            Request::new(r::ReportTokenUseRequest {
                uses: vec![r::TokenUse {
                    gateway_token: token.name,
                    use_time: token.create_time,
                }],
            })
        }
        _ => return None,
    })
}

async fn access(world: &World, method: &str, about: &str) -> Option<Request> {
    let principal = Some(r::Principal {
        issuer: world.issuer().to_owned(),
        subject: "owner".to_owned(),
        ..r::Principal::default()
    });
    let action = r::AccessAction::Read.into();
    let entry = world.open_entry(Seen::ByAll).await;
    Some(match (method, about) {
        ("AuthorizeInstallation", "personal") => {
            let installation = world.installation(&entry, None).await;
            Request::new(r::AuthorizeInstallationRequest {
                installation,
                principal,
                action,
            })
        }
        ("AuthorizeEntry", "everybody's") => Request::new(r::AuthorizeEntryRequest {
            entry,
            principal,
            action,
        }),
        _ => return None,
    })
}

fn watch(method: &str, about: &str, world: &World) -> Option<Request> {
    let kinds = match about {
        "all that it may" => vec![],
        "gateway tokens" => vec![r::ObjectKind::GatewayToken.into()],
        "runtimes" => vec![r::ObjectKind::Runtime.into()],
        _ => return None,
    };
    let start = r::WatchStart {
        kinds,
        instance: world.fresh("watcher"),
        ..r::WatchStart::default()
    };
    let message = Some(r::watch_request::Message::Start(start));
    (method == "Watch").then(|| Request::new(r::WatchRequest { message }))
}

async fn credentials(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    if about == "everybody's" {
        return entry_credentials(world, method).await;
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

/// Where an installation's secrets would go now.
async fn present_destination(world: &World, name: &str) -> String {
    let request = c::GetInstallationCredentialRequest {
        installation: name.to_owned(),
    };
    let credential = world.admin.credentials().get_installation_credential(request).await;
    credential.expect("admins may look").into_inner().present_destination
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

async fn vend(world: &World, method: &str, about: &str) -> Option<Request> {
    if about != "personal" {
        return None;
    }
    let entry = world.entry(Seen::ByAll).await;
    let name = world.installation_with_secret(&entry, None).await;
    let destination = present_destination(world, &name).await;
    let installation_uid = name.trim_start_matches("installations/").to_owned();
    Some(match method {
        "VendHeaders" => Request::new(c::VendHeadersRequest {
            installation_uid,
            destination,
            ..c::VendHeadersRequest::default()
        }),
        "VendRuntime" => Request::new(c::VendRuntimeRequest {
            installation_uid,
            destination,
        }),
        _ => return None,
    })
}

async fn runtimes(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    let team = scope(about, who)?;
    let installation = world.running(team).await;
    let name = format!("{installation}/runtime");
    Some(match method {
        "GetRuntime" => Request::on(&installation, o::GetRuntimeRequest { name }),
        "RestartRuntime" => Request::on(
            &installation,
            o::RestartRuntimeRequest {
                name,
                ..o::RestartRuntimeRequest::default()
            },
        ),
        "StreamRuntimeLogs" => Request::on(
            &installation,
            o::StreamRuntimeLogsRequest {
                name,
                ..o::StreamRuntimeLogsRequest::default()
            },
        ),
        _ => return None,
    })
}

async fn tools(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    if method == "DiscoverTools" {
        let entry = world.open_entry(Seen::ByAll).await;
        let installation = world.ready_installation(&entry, scope(about, who)?).await;
        return Some(Request::on(
            &installation,
            g::DiscoverToolsRequest {
                installation: installation.clone(),
            },
        ));
    }
    let (user, about) = match (method, about) {
        ("ExplainResolution", "everybody's, for another user") => (world.newcomer().await, "everybody's"),
        (_, about) => (String::new(), about),
    };
    let (parent, exposed_name) = world.gateway_with_tool(who, seen(about)?).await;
    let name = parent.clone();
    Some(match method {
        "ListTools" => Request::on(
            &name,
            g::ListToolsRequest {
                parent,
                ..g::ListToolsRequest::default()
            },
        ),
        "CallTool" => Request::on(
            &name,
            g::CallToolRequest {
                parent,
                exposed_name,
                arguments_json: String::new(),
            },
        ),
        "ExplainResolution" => Request::on(
            &name,
            g::ExplainResolutionRequest {
                parent,
                exposed_name,
                user,
            },
        ),
        _ => return None,
    })
}
