//! All four services in this process, their callers, and the resources that calls are about.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use contracts::{
    orchestrator as o,
    registry::{self as r, tool_assignment::Selection, visibility::Audience},
};
use integration_tests::{
    Caller, eventually, stack,
    upstream::recording::RecordingUpstream,
    walk::{self, assignment, bearer, request_id, with_static},
};
use registry_svc::Database;
use service_kit::{
    App, Clock, Workload,
    egress::EgressPolicy,
    pipe::{pipe, tcp},
    serve,
    testing::TestIssuer,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::OnceCell, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// The callers, in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Sends no token.
    Anonymous,
    /// Has an account, but no relation to the resource.
    Stranger,
    /// Is in a team whose members do not manage its installations.
    Member,
    /// Is in a team whose members manage its installations.
    Manager,
    /// Created the resource, and is not an admin (any more).
    Owner,
    /// Is an admin, but did not create the resource.
    Admin,
    /// An unrestricted gateway token of the owner.
    GatewayToken,
    /// A service, over its own connection and without a person's token.
    Service(Workload),
}

impl Who {
    /// All callers.
    pub(crate) const ALL: [Self; 11] = [
        Self::Anonymous,
        Self::Stranger,
        Self::Member,
        Self::Manager,
        Self::Owner,
        Self::Admin,
        Self::GatewayToken,
        Self::Service(Workload::Registry),
        Self::Service(Workload::Credential),
        Self::Service(Workload::Orchestrator),
        Self::Service(Workload::Gateway),
    ];

    /// The name in the table's columns.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Stranger => "stranger",
            Self::Member => "member",
            Self::Manager => "manager",
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::GatewayToken => "gateway token",
            Self::Service(workload) => workload.name(),
        }
    }

    /// The team that owns the resources of the caller's calls.
    pub(crate) const fn team(self) -> Team {
        match self {
            Self::Member => Team::Readers,
            _ => Team::Managers,
        }
    }
}

/// A team that owns resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Team {
    /// Contains [`Who::Member`]. Only admins manage its installations.
    Readers,
    /// Contains [`Who::Manager`]. Its members manage its installations.
    Managers,
}

impl Team {
    /// `teams/{team}`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Readers => "teams/readers",
            Self::Managers => "teams/managers",
        }
    }
}

/// Who may see a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Everybody with an account.
    ByAll,
    /// The members of both teams.
    ByTeams,
}

/// The services and their dependencies. They stop when this is dropped.
#[derive(Debug)]
pub(crate) struct World {
    /// The descriptors of each service, as reflection serves them.
    pub(crate) descriptors: Vec<&'static [u8]>,
    /// The full names of the gRPC services that are served.
    pub(crate) served: Vec<&'static str>,
    people: Channel,
    pipes: Vec<(Workload, Channel)>,
    issuer: TestIssuer,
    tokens: BTreeMap<Who, String>,
    /// An admin, who creates what a call requires.
    pub(crate) admin: Caller,
    /// The owner while they have the right to create things.
    pub(crate) curator: Caller,
    /// The owner without that right.
    pub(crate) owner: Caller,
    address: String,
    upstream: RecordingUpstream,
    count: AtomicUsize,
    local: OnceCell<String>,
    running: [OnceCell<String>; 3],
    stop: CancellationToken,
    _tasks: JoinSet<()>,
    _data: TempDir,
}

impl World {
    /// Starts all services, with the teams and their members.
    pub(crate) async fn start() -> Self {
        let program = stack::binary();
        let issuer = TestIssuer::start()
            .await
            .expect("the loopback interface has free ports");
        let data = tempfile::tempdir().expect("there is a place for temporary files");
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        let (apps, mut listeners) = build(&issuer, &data, program).await;
        let descriptors = apps.iter().map(|app| app.descriptors).collect();
        let served = apps.iter().flat_map(|app| app.services.clone()).collect();

        let mut pipes = Vec::new();
        for workload in [
            Workload::Registry,
            Workload::Credential,
            Workload::Orchestrator,
            Workload::Gateway,
        ] {
            let (channel, listener) = pipe(workload);
            pipes.push((workload, channel));
            listeners.push(listener);
        }
        let (routes, health) = serve::routes(&apps.iter().collect::<Vec<_>>());
        running.spawn(health);
        for listener in listeners {
            let serving = serve::serve(routes.clone(), listener, stop.clone());
            running.spawn(async { drop(serving.await) });
        }
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback interface has free ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let serving = serve::serve(routes, tcp(listener), stop.clone());
        running.spawn(async { drop(serving.await) });
        for task in apps.into_iter().flat_map(|app| app.tasks) {
            running.spawn((task.run)(stop.clone()));
        }

        let person = |name: &str, admin| Caller::new(&address, Some(issuer.token(name, &[], admin)));
        let mut world = Self {
            descriptors,
            served,
            people: Endpoint::from_shared(format!("http://{address}"))
                .expect("host and port")
                .connect_lazy(),
            pipes,
            tokens: BTreeMap::new(),
            admin: person("admin", true),
            curator: person("owner", true),
            owner: person("owner", false),
            issuer,
            address,
            upstream: RecordingUpstream::start().await,
            count: AtomicUsize::new(0),
            local: OnceCell::new(),
            running: Default::default(),
            stop,
            _tasks: running,
            _data: data,
        };
        world.settle().await;
        world
    }

    /// Creates the teams, members and tokens.
    async fn settle(&mut self) {
        for (team, manages) in [(Team::Readers, false), (Team::Managers, true)] {
            self.create_team(team.name(), manages).await;
        }
        for (who, subject, admin) in [
            (Who::Stranger, "stranger", false),
            (Who::Member, "member", false),
            (Who::Manager, "manager", false),
            (Who::Owner, "owner", false),
            (Who::Admin, "admin", true),
        ] {
            self.tokens.insert(who, self.issuer.token(subject, &[], admin));
        }
        self.join(Team::Readers.name(), "member").await;
        self.join(Team::Managers.name(), "manager").await;
        let gateway_token = self.create_token(None).await;
        self.tokens.insert(Who::GatewayToken, gateway_token.token);
    }

    /// The caller's connection, and the token they send.
    pub(crate) fn connection(&self, who: Who) -> (Channel, Option<&str>) {
        let channel = match who {
            Who::Service(workload) => {
                let pipe = self.pipes.iter().find(|(of, _)| *of == workload);
                &pipe.expect("each workload has a pipe").1
            }
            _ => &self.people,
        };
        (channel.clone(), self.tokens.get(&who).map(String::as_str))
    }

    /// An id that does not exist yet.
    pub(crate) fn fresh(&self, what: &str) -> String {
        format!("{what}-{:05}", self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// The `iss` of all tokens.
    pub(crate) fn issuer(&self) -> &str {
        self.issuer.issuer()
    }

    /// The subject of the caller's tokens.
    pub(crate) fn subject(who: Who) -> String {
        match who {
            Who::GatewayToken | Who::Service(_) | Who::Anonymous => "owner".to_owned(),
            who => who.name().to_owned(),
        }
    }

    /// A person whom the registry has just seen for the first time: `users/{user}`.
    pub(crate) async fn newcomer(&self) -> String {
        let token = self.issuer.token(&self.fresh("newcomer"), &[], false);
        Caller::new(&self.address, Some(token)).me().await.name
    }

    /// Creates a team.
    pub(crate) async fn create_team(&self, name: &str, members_manage_installations: bool) {
        let request = r::CreateTeamRequest {
            team_id: name.trim_start_matches("teams/").to_owned(),
            team: Some(r::Team {
                members_manage_installations: Some(members_manage_installations),
                ..r::Team::default()
            }),
            request_id: request_id(),
        };
        self.admin
            .teams()
            .create_team(request)
            .await
            .expect("an admin makes a team");
    }

    /// Adds a person to a team, and returns their name.
    pub(crate) async fn join(&self, team: &str, subject: &str) -> String {
        let identity = r::UserIdentity {
            issuer: self.issuer().to_owned(),
            subject: subject.to_owned(),
        };
        let request = r::AddTeamMemberRequest {
            team: team.to_owned(),
            member: Some(r::add_team_member_request::Member::Identity(identity)),
        };
        let added = self.admin.teams().add_team_member(request).await;
        added.expect("an admin adds a member").into_inner().user
    }

    /// An approved entry of the owner, for a remote server that requires a secret: `entries/{entry}`.
    pub(crate) async fn entry(&self, seen: Seen) -> String {
        let mut entry = with_static(walk::remote(&self.upstream.url()), "key", bearer());
        entry.visibility = Some(visibility(seen));
        self.publish(entry).await
    }

    /// An approved entry of the owner, for a remote server without a secret.
    pub(crate) async fn open_entry(&self, seen: Seen) -> String {
        let mut entry = walk::remote(&self.upstream.url());
        entry.visibility = Some(visibility(seen));
        self.publish(entry).await
    }

    /// An approved entry of the owner with one secret for all installations.
    pub(crate) async fn entry_with_stored_secret(&self) -> String {
        let mut entry = with_static(walk::remote(&self.upstream.url()), "key", bearer());
        for field in &mut entry.install_fields {
            field.source = r::InstallFieldSource::Stored.into();
        }
        self.publish(entry).await
    }

    /// An approved entry of the owner whose installations are connected to an account, at an authorization server without metadata.
    pub(crate) async fn entry_with_account(&self, seen: Seen) -> String {
        let model = r::OAuthCredential {
            authorization_server: Some(r::AuthorizationServer {
                authorization_endpoint: "https://login.example.com/authorize".to_owned(),
                token_endpoint: "https://login.example.com/token".to_owned(),
                ..r::AuthorizationServer::default()
            }),
            client: Some(r::OAuthClient {
                client_id: "public".to_owned(),
                ..r::OAuthClient::default()
            }),
            ..r::OAuthCredential::default()
        };
        self.publish(r::Entry {
            visibility: Some(visibility(seen)),
            credential_model: Some(r::entry::CredentialModel::Oauth(model)),
            ..walk::remote(&self.upstream.url())
        })
        .await
    }

    async fn publish(&self, entry: r::Entry) -> String {
        self.curator.publish(&self.fresh("e"), entry).await.name
    }

    /// An installation of an entry, personal or a team's: `installations/{installation}`.
    pub(crate) async fn installation(&self, entry: &str, team: Option<Team>) -> String {
        let by = if team.is_some() { &self.admin } else { &self.owner };
        let slug = entry.trim_start_matches("entries/");
        let made = by.create_installation(slug, team.map(Team::name), &[]).await;
        made.unwrap_or_else(|status| panic!("install {entry}: {status:?}")).name
    }

    /// Like [`World::installation`], with its secret stored.
    pub(crate) async fn installation_with_secret(&self, entry: &str, team: Option<Team>) -> String {
        let name = self.installation(entry, team).await;
        let by = if team.is_some() { &self.admin } else { &self.owner };
        let put = by.put_secrets(&name, &[("key", "s3cret")]).await;
        put.unwrap_or_else(|status| panic!("secret of {name}: {status:?}"));
        name
    }

    /// Like [`World::installation`], when it is ready.
    pub(crate) async fn ready_installation(&self, entry: &str, team: Option<Team>) -> String {
        let name = self.installation(entry, team).await;
        self.admin.until_ready(&name).await;
        name
    }

    /// A gateway of the owner: `gateways/{gateway}`.
    pub(crate) async fn gateway(&self, seen: Seen) -> String {
        let gateway = r::Gateway {
            visibility: Some(visibility(seen)),
            ..r::Gateway::default()
        };
        let made = self.curator.create_gateway(&self.fresh("g"), gateway).await;
        made.expect("an admin makes a gateway").name
    }

    /// An agent of the owner: `agents/{agent}`.
    pub(crate) async fn agent(&self, seen: Seen) -> String {
        let request = r::CreateAgentRequest {
            agent_id: self.fresh("a"),
            agent: Some(r::Agent {
                visibility: Some(visibility(seen)),
                ..r::Agent::default()
            }),
            request_id: request_id(),
        };
        let made = self.curator.agents().create_agent(request).await;
        made.expect("an admin makes an agent").into_inner().name
    }

    /// Assigns all tools of an entry, and returns the assignment's name.
    pub(crate) async fn assignment(&self, gateway: &str, entry: &str) -> String {
        let made = self.curator.create_assignment(gateway, all_tools(entry), false).await;
        made.expect("an admin assigns tools").name
    }

    /// A gateway with the tool `echo` of an entry. An installation of the caller's team, or a personal one, serves it.
    /// Returns the gateway's name and the tool's exposed name.
    pub(crate) async fn gateway_with_tool(&self, who: Who, seen: Seen) -> (String, String) {
        let entry = self.open_entry(seen).await;
        self.ready_installation(&entry, Some(who.team())).await;
        self.ready_installation(&entry, None).await;
        let gateway = self.gateway(seen).await;
        let slug = entry.trim_start_matches("entries/");
        let made = self
            .curator
            .create_assignment(&gateway, assignment(slug, "echo"), false)
            .await;
        made.expect("an admin assigns a tool");
        (gateway, format!("{slug}__echo"))
    }

    /// A gateway token of the owner or of a team.
    pub(crate) async fn create_token(&self, team: Option<Team>) -> r::CreateGatewayTokenResponse {
        let by = if team.is_some() { &self.admin } else { &self.owner };
        let request = r::CreateGatewayTokenRequest {
            gateway_token: Some(r::GatewayToken {
                display_name: "a client".to_owned(),
                subject: team.map(|team| r::gateway_token::Subject::Team(team.name().to_owned())),
                ..r::GatewayToken::default()
            }),
            request_id: request_id(),
        };
        let made = by.gateway_tokens().create_gateway_token(request).await;
        made.expect("they may have tokens").into_inner()
    }

    /// An approved entry of the owner whose installations share a server, which the orchestrator knows.
    pub(crate) async fn shared(&self, seen: Seen) -> String {
        let transport = r::StreamableHttpTransport {
            tenancy: r::Tenancy::Shared.into(),
            ..r::StreamableHttpTransport::default()
        };
        let mut entry = walk::stdio(DEMO, &[]);
        if let Some(r::entry::Server::SelfHosted(server)) = &mut entry.server {
            server.transport = Some(r::self_hosted_server::Transport::StreamableHttp(transport));
        }
        entry.visibility = Some(visibility(seen));
        let name = self.publish(entry).await;
        eventually("the orchestrator knows the server", || async {
            let request = o::GetRuntimeRequest {
                name: format!("{name}/runtime"),
            };
            let runtime = self.admin.runtimes().get_runtime(request).await.ok()?;
            (runtime.into_inner().reason == "NOT_INSTALLED").then_some(())
        })
        .await;
        name
    }

    /// A running installation of the demo server. The owner and each team have one.
    pub(crate) async fn running(&self, team: Option<Team>) -> String {
        let entry = self.local.get_or_init(|| self.publish(walk::stdio(DEMO, &[]))).await;
        let of = match team {
            None => 0,
            Some(Team::Readers) => 1,
            Some(Team::Managers) => 2,
        };
        self.running[of]
            .get_or_init(|| self.ready_installation(entry, team))
            .await
            .clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The command of the demo server.
const DEMO: &str = "demo";

/// All tools of `entries/{entry}`.
pub(crate) fn all_tools(entry: &str) -> r::ToolAssignment {
    r::ToolAssignment {
        entry: entry.to_owned(),
        selection: Some(Selection::AllTools(r::AllTools {})),
        ..r::ToolAssignment::default()
    }
}

pub(crate) fn visibility(seen: Seen) -> r::Visibility {
    let audience = match seen {
        Seen::ByAll => Audience::Organization(r::OrganizationAudience {}),
        Seen::ByTeams => Audience::Teams(r::TeamsAudience {
            teams: [Team::Readers, Team::Managers]
                .map(|team| team.name().to_owned())
                .to_vec(),
        }),
    };
    r::Visibility {
        audience: Some(audience),
    }
}

/// Builds the four services as they are deployed in one process, and connects them with pipes.
async fn build(
    issuer: &TestIssuer,
    data: &TempDir,
    program: &std::path::Path,
) -> (Vec<App>, Vec<service_kit::pipe::PipeListener>) {
    use Workload::{Credential, Gateway, Orchestrator};
    let (credential_to_registry, r1) = pipe(Credential);
    let (orchestrator_to_registry, r2) = pipe(Orchestrator);
    let (gateway_to_registry, r3) = pipe(Gateway);
    let (orchestrator_to_credential, c1) = pipe(Orchestrator);
    let (gateway_to_credential, c2) = pipe(Gateway);
    let verifier = issuer.verifier(Clock::System);
    let egress = EgressPolicy::new(vec!["127.0.0.0/8".parse().expect("a network")]);
    let database = Database::Sqlite(data.path().join("registry.db"));
    let registry = registry_svc::build(
        registry_svc::Config {
            egress: egress.clone(),
            ..registry_svc::Config::new(database, [7; 32])
        },
        registry_svc::Deps {
            verifier: verifier.clone(),
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::System,
        },
    );
    let credential = credential_svc::build(
        credential_svc::Config {
            store: credential_svc::StoreConfig::Local {
                data_dir: data.path().to_owned(),
            },
            instance: None,
            public_url: Some("http://127.0.0.1".parse().expect("a URL")),
            egress: egress.clone(),
        },
        credential_svc::Deps {
            registry: credential_to_registry,
            verifier: verifier.clone(),
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::System,
        },
    );
    let demo = vec![program.to_string_lossy().into_owned(), "demo-server".to_owned()];
    let orchestrator = orchestrator_svc::build(
        orchestrator_svc::Config {
            data_dir: data.path().join("runtimes"),
            program: program.to_owned(),
            builtin_commands: BTreeMap::from([(DEMO.to_owned(), demo)]),
            ..orchestrator_svc::Config::default()
        },
        orchestrator_svc::Deps {
            registry: orchestrator_to_registry,
            credential: orchestrator_to_credential,
            verifier: verifier.clone(),
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::System,
        },
    );
    let public_url = "http://127.0.0.1".parse().expect("a URL");
    let gateway = gateway_svc::build(
        gateway_svc::Config {
            egress,
            ..gateway_svc::Config::new(public_url, [8; 32], [7; 32])
        },
        gateway_svc::Deps {
            registry: gateway_to_registry,
            credential: gateway_to_credential,
            verifier,
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::System,
        },
    );
    let apps = vec![
        registry.await.expect("registry-svc"),
        credential.await.expect("credential-svc"),
        orchestrator.await.expect("orchestrator-svc"),
        gateway.await.expect("gateway-svc"),
    ];
    (apps, vec![r1, r2, r3, c1, c2])
}
