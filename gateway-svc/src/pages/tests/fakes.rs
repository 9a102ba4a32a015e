//! Stand-ins for the services of registry-svc and credential-svc that people call, with just as much behaviour as the pages rely on.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::Body,
    http::Request,
    routing::{MethodRouter, post},
};
use contracts::{credential as c, registry as r};
use data_encoding::BASE64URL_NOPAD;
use prost::Message;
use serde_json::Value;
use service_kit::{Workload, status::Violations};
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes, transport::Channel};

/// What the fake services hold. Everybody's token is taken for what it says: verification is not what is tested here.
#[derive(Default)]
pub(super) struct World {
    pub(super) entries: BTreeMap<String, r::Entry>,
    /// Teams, and their members' email addresses.
    pub(super) teams: BTreeMap<String, (r::Team, Vec<String>)>,
    pub(super) installations: Vec<r::Installation>,
    /// Email addresses.
    pub(super) admins: Vec<String>,
    /// By installation: the secrets, and where they may go.
    pub(super) secrets: HashMap<String, (BTreeMap<String, String>, String)>,
    pub(super) present_destination: String,
    /// The destination after the installation was changed.
    pub(super) present_after_update: Option<String>,
    /// What differs from what is bound.
    pub(super) changes: Vec<c::DestinationChange>,
    /// Every request id that came, in order.
    pub(super) request_ids: Vec<String>,
    /// Answers the next put is refused with.
    pub(super) refuse_put: Option<Status>,
    /// By installation: the account.
    pub(super) connections: HashMap<String, c::Connection>,
    /// What came to connect accounts, in order.
    pub(super) started: Vec<c::StartAuthorizationRequest>,
    pub(super) finished: Vec<c::FinishAuthorizationRequest>,
    /// Where people are sent; the state is added.
    pub(super) authorization_url: String,
    /// What the next start or finish is refused with.
    pub(super) refuse_authorization: Option<Status>,
    replies: HashMap<String, r::Installation>,
}

impl World {
    fn is_admin(&self, email: &str) -> bool {
        self.admins.iter().any(|admin| admin == email)
    }
}

/// The fake services.
#[derive(Clone, Default)]
pub(super) struct FakeServices(Arc<Mutex<World>>);

type Handler<Req, Res> = fn(&mut World, &str, Req) -> Result<Res, Status>;

impl FakeServices {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel to registry and credential service in one.
    pub(super) fn serve(&self) -> Channel {
        let registry = "/chandlery.registry.v1";
        let credential = "/chandlery.credential.v1.CredentialService";
        let router = Router::new()
            .route(&format!("{registry}.EntryService/GetEntry"), self.method(get_entry))
            .route(&format!("{registry}.UserService/GetUser"), self.method(get_user))
            .route(&format!("{registry}.TeamService/GetTeam"), self.method(get_team))
            .route(
                &format!("{registry}.InstallationService/ListInstallations"),
                self.method(list),
            )
            .route(
                &format!("{registry}.InstallationService/GetInstallation"),
                self.method(get_installation),
            )
            .route(
                &format!("{registry}.InstallationService/CreateInstallation"),
                self.method(create),
            )
            .route(
                &format!("{registry}.InstallationService/UpdateInstallation"),
                self.method(update),
            )
            .route(
                &format!("{registry}.InstallationService/ListInstallationTools"),
                self.method(tools),
            )
            .route(
                &format!("{credential}/GetInstallationCredential"),
                self.method(get_credential),
            )
            .route(
                &format!("{credential}/PutInstallationCredential"),
                self.method(put_credential),
            )
            .route(&format!("{credential}/StartAuthorization"), self.method(start))
            .route(&format!("{credential}/FinishAuthorization"), self.method(finish))
            .route(
                &format!("{credential}/DeleteInstallationCredential"),
                self.method(delete_credential),
            )
            .route(
                &format!("{credential}/ConfirmInstallationDestination"),
                self.method(confirm),
            );
        let (channel, listener) = service_kit::pipe::pipe(Workload::Gateway);
        tokio::spawn(service_kit::serve::serve(
            Routes::from(router),
            listener,
            CancellationToken::new(),
        ));
        channel
    }

    fn method<Req, Res>(&self, handler: Handler<Req, Res>) -> MethodRouter
    where
        Req: Message + Default + Send + Sync + 'static,
        Res: Message + Default + Send + Sync + 'static,
    {
        let world = self.clone();
        post(async move |request: Request<Body>| {
            let service = tower::service_fn(move |request: tonic::Request<Req>| {
                let token = request
                    .metadata()
                    .get("authorization")
                    .and_then(|value| value.to_str().ok());
                let answer = match token.and_then(|token| token.strip_prefix("Bearer ")).and_then(email) {
                    Some(email) => handler(&mut world.world(), &email, request.into_inner()),
                    None => Err(Status::unauthenticated("no token")),
                };
                std::future::ready(answer.map(tonic::Response::new))
            });
            let codec = tonic_prost::ProstCodec::<Res, Req>::default();
            tonic::server::Grpc::new(codec).unary(service, request).await
        })
    }
}

fn email(token: &str) -> Option<String> {
    let claims = BASE64URL_NOPAD.decode(token.split('.').nth(1)?.as_bytes()).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(claims["email"].as_str()?.to_owned())
}

fn missing(name: &str) -> Status {
    service_kit::status::not_found(name)
}

fn get_entry(world: &mut World, _: &str, request: r::GetEntryRequest) -> Result<r::Entry, Status> {
    world
        .entries
        .get(&request.name)
        .cloned()
        .ok_or_else(|| missing(&request.name))
}

fn get_user(world: &mut World, email: &str, request: r::GetUserRequest) -> Result<r::User, Status> {
    if let Some(other) = request.name.strip_prefix("users/").filter(|other| *other != "me") {
        return Ok(r::User {
            email: other.to_owned(),
            ..r::User::default()
        });
    }
    let teams = world
        .teams
        .iter()
        .filter(|(_, (_, members))| members.iter().any(|member| member == email));
    let teams = teams.map(|(name, _)| name.clone()).collect();
    Ok(r::User {
        name: format!("users/{email}"),
        email: email.to_owned(),
        teams,
        admin: world.is_admin(email),
        ..r::User::default()
    })
}

fn get_team(world: &mut World, _: &str, request: r::GetTeamRequest) -> Result<r::Team, Status> {
    world
        .teams
        .get(&request.name)
        .map(|(team, _)| team.clone())
        .ok_or_else(|| missing(&request.name))
}

fn owner(email: &str, scope: &r::installation::Scope) -> r::installation::Scope {
    match scope {
        r::installation::Scope::User(user) if user == "users/me" => {
            r::installation::Scope::User(format!("users/{email}"))
        }
        other => other.clone(),
    }
}

fn list(
    world: &mut World,
    email: &str,
    request: r::ListInstallationsRequest,
) -> Result<r::ListInstallationsResponse, Status> {
    let wanted = match (request.team.as_str(), request.user.as_str()) {
        ("", "") if world.is_admin(email) => None,
        ("", _) => Some(owner(email, &r::installation::Scope::User(request.user))),
        _ => Some(r::installation::Scope::Team(request.team)),
    };
    let found = world
        .installations
        .iter()
        .filter(|other| other.entry == request.entry && (wanted.is_none() || other.scope == wanted));
    Ok(r::ListInstallationsResponse {
        installations: found.cloned().collect(),
        next_page_token: String::new(),
    })
}

fn get_installation(
    world: &mut World,
    email: &str,
    request: r::GetInstallationRequest,
) -> Result<r::Installation, Status> {
    let mine = Some(r::installation::Scope::User(format!("users/{email}")));
    let found = world.installations.iter().find(|other| other.name == request.name);
    let found = found.filter(|found| {
        found.scope == mine || matches!(found.scope, Some(r::installation::Scope::Team(_))) || world.is_admin(email)
    });
    found.cloned().ok_or_else(|| missing(&request.name))
}

fn create(world: &mut World, email: &str, request: r::CreateInstallationRequest) -> Result<r::Installation, Status> {
    world.request_ids.push(request.request_id.clone());
    if let Some(reply) = world.replies.get(&request.request_id) {
        return Ok(reply.clone());
    }
    let mut installation = request.installation.unwrap_or_default();
    installation.scope = installation.scope.map(|scope| owner(email, &scope));
    if world
        .installations
        .iter()
        .any(|other| other.scope == installation.scope && other.entry == installation.entry)
    {
        return Err(Status::already_exists("it is installed"));
    }
    let uid = format!("uid-{}", world.installations.len() + 1);
    installation.name = format!("installations/{uid}");
    installation.uid = uid;
    installation.generation = 1;
    installation.set_state(r::InstallationState::Pending);
    installation.update_time = Some(service_kit::Clock::System.now().into());
    world.installations.push(installation.clone());
    world.replies.insert(request.request_id, installation.clone());
    Ok(installation)
}

fn update(world: &mut World, _: &str, request: r::UpdateInstallationRequest) -> Result<r::Installation, Status> {
    let wanted = request.installation.unwrap_or_default();
    let found = world.installations.iter_mut().find(|other| other.name == wanted.name);
    let found = found.ok_or_else(|| missing(&wanted.name))?;
    found.values = wanted.values;
    found.reinstall_required = None;
    let found = found.clone();
    if let Some(present) = world.present_after_update.take() {
        world.present_destination = present;
    }
    Ok(found)
}

fn tools(
    _: &mut World,
    _: &str,
    _: r::ListInstallationToolsRequest,
) -> Result<r::ListInstallationToolsResponse, Status> {
    Ok(r::ListInstallationToolsResponse {
        tools: vec![r::Tool::default(); 3],
        next_page_token: String::new(),
    })
}

fn credential(world: &World, installation: &str) -> c::Credential {
    let (secrets, bound) = world.secrets.get(installation).cloned().unwrap_or_default();
    let fields = secrets
        .into_keys()
        .map(|key| c::StoredField {
            key,
            ..c::StoredField::default()
        })
        .collect();
    c::Credential {
        fields,
        bound_destination: bound,
        present_destination: world.present_destination.clone(),
        bound_description: "what it was".to_owned(),
        present_description: world.present_destination.clone(),
        changes: world.changes.clone(),
        connection: world.connections.get(installation).cloned(),
        ..Default::default()
    }
}

fn get_credential(
    world: &mut World,
    _: &str,
    request: c::GetInstallationCredentialRequest,
) -> Result<c::Credential, Status> {
    Ok(credential(world, &request.installation))
}

fn put_credential(
    world: &mut World,
    _: &str,
    request: c::PutInstallationCredentialRequest,
) -> Result<c::Credential, Status> {
    world.request_ids.push(request.request_id.clone());
    if let Some(status) = world.refuse_put.take() {
        return Err(status);
    }
    assert_eq!(
        request.destination, world.present_destination,
        "the page says where it goes"
    );
    let destination = world.present_destination.clone();
    let (secrets, bound) = world.secrets.entry(request.installation.clone()).or_default();
    secrets.extend(request.values.into_iter().map(|value| (value.key, value.value)));
    *bound = destination;
    Ok(credential(world, &request.installation))
}

fn confirm(
    world: &mut World,
    _: &str,
    request: c::ConfirmInstallationDestinationRequest,
) -> Result<c::Credential, Status> {
    if let Some((_, bound)) = world.secrets.get_mut(&request.installation) {
        *bound = request.destination;
    }
    Ok(credential(world, &request.installation))
}

fn start(
    world: &mut World,
    _: &str,
    request: c::StartAuthorizationRequest,
) -> Result<c::StartAuthorizationResponse, Status> {
    if let Some(status) = world.refuse_authorization.take() {
        return Err(status);
    }
    world.started.push(request);
    let state = format!("state-{}", world.started.len());
    Ok(c::StartAuthorizationResponse {
        authorization_url: format!("{}{state}", world.authorization_url),
        expire_time: Some((service_kit::Clock::System.now() + std::time::Duration::from_secs(600)).into()),
        state,
    })
}

fn finish(world: &mut World, _: &str, request: c::FinishAuthorizationRequest) -> Result<c::Credential, Status> {
    world.finished.push(request.clone());
    if let Some(status) = world.refuse_authorization.take() {
        return Err(status);
    }
    let number: usize = request.state.trim_start_matches("state-").parse().unwrap();
    let installation = world.started[number - 1].installation.clone();
    let connection = c::Connection {
        issuer: "https://as.example.com".to_owned(),
        account: "alice-at-mail".to_owned(),
        scopes: vec!["read".to_owned(), "write".to_owned()],
        expire_time: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        refreshable: true,
        refresh_time: Some(prost_types::Timestamp {
            seconds: 1_600_000_000,
            nanos: 0,
        }),
        ..c::Connection::default()
    };
    world.connections.insert(installation.clone(), connection);
    Ok(credential(world, &installation))
}

fn delete_credential(
    world: &mut World,
    _: &str,
    request: c::DeleteInstallationCredentialRequest,
) -> Result<c::Credential, Status> {
    world.connections.remove(&request.installation);
    Ok(credential(world, &request.installation))
}

/// A refusal as credential-svc gives it.
pub(super) fn bad_field(path: &str, description: &str) -> Status {
    let mut violations = Violations::new();
    violations.add(path, description);
    violations.into()
}
