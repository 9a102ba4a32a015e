//! The registry as it is deployed, on a separate database: SQLite, or PostgreSQL where `CHANDLERY_TEST_POSTGRES_URL` holds the URL
//! of a server on which databases may be made.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::result_large_err,
    reason = "each test uses its part of it"
)]

pub mod requests;
pub mod watcher;

use std::{collections::HashMap, time::Duration};

use contracts::registry::{
    agent_service_client::AgentServiceClient, entry_service_client::EntryServiceClient,
    gateway_service_client::GatewayServiceClient, gateway_token_service_client::GatewayTokenServiceClient,
    installation_service_client::InstallationServiceClient, report_service_client::ReportServiceClient,
    team_service_client::TeamServiceClient, tool_assignment_service_client::ToolAssignmentServiceClient,
    user_service_client::UserServiceClient, watch_service_client::WatchServiceClient, *,
};
use registry_svc::{Config, Database, Deps};
use secrecy::ExposeSecret as _;
use service_kit::{
    Clock, Readiness, UserId, Workload,
    clock::ManualClock,
    not_run,
    telemetry::LogFormat,
    testing::{Served, TestIssuer},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

pub use requests::*;

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Sqlite,
    Postgres,
}

/// Makes two tests of each `async fn(Stack)`: one an engine.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let stack = $crate::support::Stack::start($crate::support::On::Sqlite).await;
                super::$name(stack.expect("SQLite is part of the program")).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(stack) = $crate::support::Stack::start($crate::support::On::Postgres).await {
                    super::$name(stack).await;
                }
            })*
        }
    };
}

/// A registry that serves.
pub struct Stack {
    pub issuer: TestIssuer,
    pub clock: ManualClock,
    pub database: Database,
    /// What health says of it, in words.
    pub ready: tokio::sync::watch::Receiver<Readiness>,
    config: Config,
    routes: tonic::service::Routes,
    served: Served,
    address: String,
    _data: TempDir,
}

impl Stack {
    /// `None` where the engine is not there.
    pub async fn start(on: On) -> Option<Self> {
        // RUST_LOG shows what the registry logs.
        service_kit::telemetry::init(LogFormat::Text, "off");
        let data = tempfile::tempdir().unwrap();
        let database = match on {
            On::Sqlite => Database::Sqlite(data.path().join("registry.db")),
            On::Postgres => Database::Postgres(new_postgres_database().await?.into()),
        };
        Some(Self::on(Config::new(database, [7; 32]), data).await)
    }

    /// Another registry on the same database: the next start of the program, or a replica.
    pub async fn again(&self) -> Self {
        Self::on(self.config.clone(), tempfile::tempdir().unwrap()).await
    }

    async fn on(config: Config, data: TempDir) -> Self {
        let issuer = TestIssuer::start().await.unwrap();
        let clock = ManualClock::at(service_kit::Clock::System.now());
        let database = config.database.clone();
        // Tokens are of the system's time; what the registry does is of a time that tests move.
        let deps = Deps {
            verifier: issuer.verifier(Clock::System),
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::Manual(clock.clone()),
        };
        let app = registry_svc::build(config.clone(), deps).await.unwrap();
        let ready = app.ready.clone();
        let (routes, _) = service_kit::serve::routes(&[&app]);
        let served = Served::start(app);
        let address = served.tcp().await.unwrap().to_string();
        Self {
            issuer,
            clock,
            database,
            ready,
            config,
            routes,
            served,
            address,
            _data: data,
        }
    }

    /// The next start of the program, after this one was ended in the middle of whatever it did.
    pub async fn succeed(self) -> Self {
        self.succeed_with(|_| {}).await
    }

    /// As [`Stack::succeed`], with other settings.
    pub async fn succeed_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self {
            mut config,
            served,
            _data: data,
            ..
        } = self;
        drop(served);
        change(&mut config);
        Self::on(config, data).await
    }

    /// What the gateway gets of these kinds, in a snapshot.
    pub async fn watched(&self, kinds: &[ObjectKind]) -> Vec<WatchedObject> {
        let (requests, outgoing) = tokio::sync::mpsc::channel(1);
        let start = WatchStart {
            kinds: kinds.iter().map(|&kind| kind.into()).collect(),
            instance: service_kit::random::uuid().to_string(),
            ..WatchStart::default()
        };
        let message = Some(watch_request::Message::Start(start));
        requests.send(WatchRequest { message }).await.unwrap();
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        let mut client = WatchServiceClient::new(self.pipe(Workload::Gateway));
        let mut responses = client.watch(outgoing).await.unwrap().into_inner();
        let mut objects = Vec::new();
        loop {
            match responses.message().await.unwrap().unwrap().message.unwrap() {
                watch_response::Message::SnapshotObjects(some) => objects.extend(some.objects),
                watch_response::Message::SnapshotEnd(_) => return objects,
                _ => {}
            }
        }
    }

    /// A person's clients.
    pub fn person(&self, subject: &str) -> Person {
        self.with_token(subject, &self.issuer.token(subject, &[], false))
    }

    /// A person whose token names groups.
    pub fn grouped(&self, subject: &str, groups: &[&str]) -> Person {
        self.with_token(subject, &self.issuer.token(subject, groups, false))
    }

    /// A program whose token names groups.
    pub fn program(&self, subject: &str, groups: &[&str]) -> Person {
        self.with_token(subject, &self.issuer.machine_token(subject, groups))
    }

    /// An admin's clients.
    pub fn admin(&self) -> Person {
        self.with_token("admin", &self.issuer.token("admin", &[], true))
    }

    /// Another admin's clients.
    pub fn admin_named(&self, subject: &str) -> Person {
        self.with_token(subject, &self.issuer.token(subject, &[], true))
    }

    fn with_token(&self, subject: &str, token: &str) -> Person {
        let channel = Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_lazy();
        let bearer = format!("Bearer {token}").parse().unwrap();
        let user = UserId::of(self.issuer.issuer(), subject).resource_name();
        Person {
            user,
            channel: InterceptedService::new(channel, Bearer(bearer)),
        }
    }

    /// What workloads report with.
    pub fn reports(&self, workload: Workload) -> ReportServiceClient<Channel> {
        ReportServiceClient::new(self.served.pipe(workload))
    }

    /// Where people call it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A workload's channel.
    pub fn pipe(&self, workload: Workload) -> Channel {
        self.served.pipe(workload)
    }

    /// A workload's channel of which the other process is `runtime`: shut down, it takes the connection with it, without a goodbye.
    pub fn pipe_from(&self, runtime: &tokio::runtime::Runtime, workload: Workload) -> Channel {
        let (channel, connections) = {
            let _there = runtime.enter();
            service_kit::pipe::pipe(workload)
        };
        let serving = service_kit::serve::serve(self.routes.clone(), connections, CancellationToken::new());
        tokio::spawn(serving);
        channel
    }

    /// The hashes of the sets of tools that the database keeps.
    pub async fn kept_sets(&self) -> Vec<String> {
        const KEPT: &str = "SELECT hash FROM feature_sets";
        match &self.database {
            Database::Sqlite(path) => {
                let url = format!("sqlite:{}", path.display());
                let mut connection = SqliteConnection::connect(&url).await.unwrap();
                sqlx::query_scalar(KEPT).fetch_all(&mut connection).await.unwrap()
            }
            Database::Postgres(url) => {
                let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
                sqlx::query_scalar(KEPT).fetch_all(&mut connection).await.unwrap()
            }
        }
    }

    /// Lets the gateway report these tools of an installation.
    pub async fn discover(&self, installation: &Installation, tools: &[&str]) {
        let tools = tools.iter().map(|&tool| Tool {
            tool: tool.to_owned(),
            definition_json: format!("{{\"name\":\"{tool}\"}}"),
            ..Tool::default()
        });
        let outcome = report_discovery_request::Outcome::Tools(DiscoveredTools {
            tools: tools.collect(),
            ..DiscoveredTools::default()
        });
        let request = ReportDiscoveryRequest {
            subject: Some(report_discovery_request::Subject::InstallationUid(
                installation.uid.clone(),
            )),
            // Of what is now: a report of a credential has made a generation since.
            observed_generation: i64::MAX,
            outcome: Some(outcome),
        };
        self.reports(Workload::Gateway).report_discovery(request).await.unwrap();
    }

    /// Lets credential-svc report that nothing is missing.
    pub async fn credential_ready(&self, installation: &Installation) {
        let request = ReportCredentialRequest {
            subject: Some(report_credential_request::Subject::InstallationUid(
                installation.uid.clone(),
            )),
            status: ConditionStatus::True.into(),
            reason: "STORED".to_owned(),
            observed_generation: installation.generation,
            credential_generation: 1,
            ..ReportCredentialRequest::default()
        };
        self.reports(Workload::Credential)
            .report_credential(request)
            .await
            .unwrap();
    }
}

async fn new_postgres_database() -> Option<String> {
    let server = not_run::postgres()?;
    let name = format!("registry_{}", service_kit::random::uuid().simple());
    let mut connection = PgConnection::connect(&server)
        .await
        .expect("CHANDLERY_TEST_POSTGRES_URL is a PostgreSQL server");
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .unwrap();
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    Some(url.into())
}

#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Somebody who calls with their token.
#[derive(Clone)]
pub struct Person {
    /// `users/{user}`.
    pub user: String,
    channel: InterceptedService<Channel, Bearer>,
}

type Authenticated = InterceptedService<Channel, Bearer>;

impl Person {
    pub fn entries(&self) -> EntryServiceClient<Authenticated> {
        EntryServiceClient::new(self.channel.clone())
    }

    pub fn installations(&self) -> InstallationServiceClient<Authenticated> {
        InstallationServiceClient::new(self.channel.clone())
    }

    pub fn gateways(&self) -> GatewayServiceClient<Authenticated> {
        GatewayServiceClient::new(self.channel.clone())
    }

    pub fn agents(&self) -> AgentServiceClient<Authenticated> {
        AgentServiceClient::new(self.channel.clone())
    }

    pub fn assignments(&self) -> ToolAssignmentServiceClient<Authenticated> {
        ToolAssignmentServiceClient::new(self.channel.clone())
    }

    pub fn teams(&self) -> TeamServiceClient<Authenticated> {
        TeamServiceClient::new(self.channel.clone())
    }

    pub fn users(&self) -> UserServiceClient<Authenticated> {
        UserServiceClient::new(self.channel.clone())
    }

    pub fn gateway_tokens(&self) -> GatewayTokenServiceClient<Authenticated> {
        GatewayTokenServiceClient::new(self.channel.clone())
    }

    pub fn watch(&self) -> WatchServiceClient<Authenticated> {
        WatchServiceClient::new(self.channel.clone())
    }

    /// Adds an entry and approves it.
    pub async fn approved(&self, slug: &str, entry: Entry) -> Entry {
        let created = self.created(slug, entry).await;
        let request = ApproveEntryRequest {
            name: created.name,
            etag: created.etag,
        };
        self.entries().approve_entry(request).await.unwrap().into_inner()
    }

    /// Adds an entry.
    pub async fn created(&self, slug: &str, entry: Entry) -> Entry {
        let request = create_entry(slug, entry);
        self.entries().create_entry(request).await.unwrap().into_inner()
    }

    /// Installs an entry for oneself, or for a team.
    pub async fn install(
        &self,
        entry: &str,
        team: Option<&str>,
        values: &[(&str, &str)],
    ) -> Result<Installation, Status> {
        let installation = Installation {
            entry: entry.to_owned(),
            scope: team.map(|team| installation::Scope::Team(team.to_owned())),
            values: map(values),
            ..Installation::default()
        };
        let request = CreateInstallationRequest {
            installation: Some(installation),
            request_id: String::new(),
        };
        self.installations()
            .create_installation(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Reads an installation.
    pub async fn installation(&self, name: &str) -> Result<Installation, Status> {
        let request = get_installation(name);
        self.installations()
            .get_installation(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Reads an entry.
    pub async fn entry(&self, name: &str) -> Result<Entry, Status> {
        let request = get_entry(name);
        self.entries().get_entry(request).await.map(tonic::Response::into_inner)
    }

    /// Changes an entry.
    pub async fn update(&self, entry: Entry, paths: &[&str]) -> Result<Entry, Status> {
        let request = update_entry(entry, paths);
        self.entries()
            .update_entry(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Adds a team with members.
    pub async fn team(&self, slug: &str, members_manage_installations: bool, members: &[&Person]) -> Team {
        let team = Team {
            members_manage_installations: Some(members_manage_installations),
            ..Team::default()
        };
        let request = create_team(slug, team);
        let team = self.teams().create_team(request).await.unwrap().into_inner();
        for person in members {
            // A call makes them known.
            person
                .entries()
                .list_entries(ListEntriesRequest::default())
                .await
                .unwrap();
            let member = Some(add_team_member_request::Member::User(person.user.clone()));
            self.teams()
                .add_team_member(AddTeamMemberRequest {
                    team: team.name.clone(),
                    member,
                })
                .await
                .unwrap();
        }
        team
    }

    /// Adds a gateway.
    pub async fn gateway(&self, slug: &str, gateway: Gateway) -> Result<Gateway, Status> {
        let request = create_gateway(slug, gateway);
        self.gateways()
            .create_gateway(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

pub fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask {
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
    })
}

pub fn map(values: &[(&str, &str)]) -> HashMap<String, String> {
    values
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// A remote server without credential.
pub fn remote() -> Entry {
    let server = RemoteServer {
        url: "https://mcp.example.com/mcp".to_owned(),
        ..RemoteServer::default()
    };
    Entry {
        server: Some(entry::Server::Remote(server)),
        ..Entry::default()
    }
}

/// An entry of about a megabyte.
pub fn large() -> Entry {
    let field = |index: usize| InstallField {
        description: "\u{1F600}".repeat(3_900),
        ..field(&format!("f{index}"), InstallFieldType::String, false)
    };
    Entry {
        install_fields: (0..60).map(field).collect(),
        ..remote()
    }
}

/// An install field that goes to a header.
pub fn field(key: &str, kind: InstallFieldType, required: bool) -> InstallField {
    InstallField {
        key: key.to_owned(),
        r#type: kind.into(),
        required,
        target: Some(install_field::Target::Header(HeaderTarget {
            name: format!("x-{key}"),
        })),
        ..InstallField::default()
    }
}

/// Code and reason of an error; every one must have an `ErrorInfo`.
pub fn reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "chandlery.dev");
    (status.code(), info.reason)
}

/// The fields that an error names.
pub fn fields(status: &Status) -> Vec<String> {
    let bad_request = status.get_details_bad_request().expect("the fields are named");
    bad_request
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

/// What only time brings.
pub const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
