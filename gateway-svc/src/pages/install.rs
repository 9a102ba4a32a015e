//! Shows the install page: the entry, for whom it is installed, and the form for a new installation or one that is there.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use contracts::{
    credential::Credential,
    registry::{Entry, EntryRevision, Installation, InstallationState, entry::Server, entry_revision},
};
use registry_model::destination::{self, Destination};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};
use url::form_urlencoded;

use super::{
    Pages,
    form::{Errors, Submission},
    guard::FormState,
    problem::Problem,
    services::Opener,
    session::Session,
    signin, view,
};

/// What an install link carries besides the entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Link {
    /// The gateway the call came through.
    pub(super) gateway: Option<String>,
    /// The agent the call came through.
    pub(super) agent: Option<String>,
    /// Uid of an installation to look at.
    pub(super) installation: Option<String>,
    /// Set to make another installation although there is one.
    pub(super) new: Option<String>,
}

/// For whom an installation can be.
#[derive(Debug)]
pub(super) struct Scope {
    /// `me` or `teams/{team}`.
    pub(super) value: String,
    /// For people.
    pub(super) label: String,
    /// Whether the opener may make and change the installation.
    pub(super) manageable: bool,
    /// The one there is.
    pub(super) installation: Option<Installation>,
}

/// Everything the page shows.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) entry: Entry,
    pub(super) scopes: Vec<Scope>,
    pub(super) target: Target,
}

/// What the form is for.
#[derive(Debug)]
pub(super) enum Target {
    /// A new installation.
    New,
    /// The installation of this scope; what is known of its secrets, where the opener may know.
    Existing {
        scope: usize,
        credential: Option<Box<Credential>>,
    },
}

pub(super) async fn show(
    State(pages): State<Arc<Pages>>,
    Path(entry): Path<String>,
    Query(link): Query<Link>,
    headers: HeaderMap,
) -> Response {
    let here = path(&entry, &link);
    let Some(session) = pages.session(&headers).await else {
        return signin::redirect(&pages.sign_in_path(&here));
    };
    let _under_way = match pages.charge(&session, false) {
        Ok(under_way) => under_way,
        Err(problem) => return pages.refuse_to(&session, &here, &problem),
    };
    let opener = pages.services.of(&session.token);
    let problem = match load(&opener, &entry, Choice::Link(&link)).await {
        Ok(Some(loaded)) => {
            let shown = Shown {
                session: &session,
                link: &link,
                loaded: &loaded,
                entered: None,
                errors: &Errors::default(),
            };
            return view::install::page(&pages, StatusCode::OK, &shown);
        }
        Ok(None) => Problem::not_found(),
        Err(status) => Problem::of(&status, pages.sign_in_path(&here), format!("{}{here}", pages.prefix)),
    };
    pages.refuse_to(&session, &here, &problem)
}

/// What the view is made from.
pub(super) struct Shown<'a> {
    pub(super) session: &'a Session,
    pub(super) link: &'a Link,
    pub(super) loaded: &'a Loaded,
    /// What was submitted, where the form comes back.
    pub(super) entered: Option<&'a Submission>,
    pub(super) errors: &'a Errors,
}

/// Who says what the form is for.
pub(super) enum Choice<'a> {
    /// The link that was opened.
    Link(&'a Link),
    /// The form that came back.
    Form(&'a FormState),
}

/// Loads what the opener may see; `None` where they may not see it.
pub(super) async fn load(opener: &Opener<'_>, entry: &str, choice: Choice<'_>) -> Result<Option<Loaded>, Status> {
    let Some(name) = entry_name(entry) else {
        return Ok(None);
    };
    let (entry, me) = tokio::try_join!(opener.entry(&name), opener.me())?;
    let teams = futures::future::try_join_all(me.teams.iter().map(async |team| {
        let (team, installation) = tokio::try_join!(opener.team(team), opener.installation_of(&name, Some(team)))?;
        let display_name = if team.display_name.is_empty() {
            &team.name
        } else {
            &team.display_name
        };
        Ok::<_, Status>(Scope {
            label: format!("The team {display_name}"),
            manageable: team.members_manage_installations() || me.admin,
            value: team.name,
            installation,
        })
    }));
    let (own, teams) = tokio::try_join!(opener.installation_of(&name, None), teams)?;
    let mut scopes = vec![Scope {
        value: "me".to_owned(),
        label: "Only you".to_owned(),
        manageable: true,
        installation: own,
    }];
    scopes.extend(teams);
    let Some(existing) = choose(&scopes, &choice) else {
        return Ok(None);
    };
    let target = match existing {
        None => Target::New,
        Some(scope) => Target::Existing {
            scope,
            credential: credential(opener, &scopes[scope]).await?,
        },
    };
    Ok(Some(Loaded { entry, scopes, target }))
}

async fn credential(opener: &Opener<'_>, scope: &Scope) -> Result<Option<Box<Credential>>, Status> {
    let Some(installation) = scope.installation.as_ref().filter(|_| scope.manageable) else {
        return Ok(None);
    };
    match opener.credential(&installation.name).await {
        Ok(credential) => Ok(Some(Box::new(credential))),
        Err(status) if status.code() == Code::PermissionDenied => Ok(None),
        Err(status) => Err(status),
    }
}

/// The scope whose installation the form is for; `Some(None)` for a new one, `None` where what was asked for is not there.
fn choose(scopes: &[Scope], choice: &Choice<'_>) -> Option<Option<usize>> {
    let by_name = |name: &str| {
        scopes
            .iter()
            .position(|scope| scope.installation.as_ref().is_some_and(|found| found.name == name))
    };
    match choice {
        Choice::Form(FormState {
            installation: Some(name),
            ..
        }) => by_name(name).map(Some),
        Choice::Form(_) => Some(None),
        Choice::Link(Link {
            installation: Some(id), ..
        }) => by_name(&format!("installations/{id}")).map(Some),
        Choice::Link(link) => {
            let free = scopes
                .iter()
                .any(|scope| scope.manageable && scope.installation.is_none());
            if link.new.is_some() && free {
                return Some(None);
            }
            // The opener's own comes first, as it does when a call is resolved; then what needs repair.
            let needs_repair = |scope: &Scope| {
                scope.manageable
                    && scope.installation.as_ref().is_some_and(|found| {
                        found.state() != InstallationState::Ready || found.reinstall_required.is_some()
                    })
            };
            let own = scopes
                .iter()
                .position(|scope| scope.value == "me" && scope.installation.is_some());
            Some(own.or_else(|| scopes.iter().position(needs_repair)))
        }
    }
}

impl Loaded {
    /// The installation the form is for.
    pub(super) fn installation(&self) -> Option<&Installation> {
        match &self.target {
            Target::New => None,
            Target::Existing { scope, .. } => self.scopes[*scope].installation.as_ref(),
        }
    }

    /// What is known of its secrets.
    pub(super) fn credential(&self) -> Option<&Credential> {
        match &self.target {
            Target::Existing { credential, .. } => credential.as_deref(),
            Target::New => None,
        }
    }

    /// The secret fields that hold a value.
    pub(super) fn stored(&self) -> BTreeSet<String> {
        self.credential()
            .map(|credential| credential.fields.iter().map(|field| field.key.clone()).collect())
            .unwrap_or_default()
    }

    /// What is known of the secrets, if they would go now where their owner has not agreed to. Of an installation that is behind its entry
    /// this is asked once it has come up to it.
    pub(super) fn moved(&self) -> Option<&Credential> {
        let bound = |credential: &&Credential| !credential.bound_destination.is_empty();
        self.credential()
            .filter(|_| !self.is_behind())
            .filter(bound)
            .filter(|credential| credential.bound_destination != credential.present_destination)
    }

    fn is_behind(&self) -> bool {
        let behind = |installation: &Installation| installation.reinstall_required.is_some();
        self.installation().is_some_and(behind)
    }

    /// Where secrets that are entered now go: an installation that stayed behind its entry comes up to it with the form.
    pub(super) fn goes_to(&self) -> Option<GoesTo> {
        match self.credential() {
            Some(credential) if !self.is_behind() => Some(GoesTo::Exactly(credential.present_destination.clone())),
            _ => destination(&self.entry).map(|destination| GoesTo::Entry(destination.binding)),
        }
    }
}

/// Where somebody was told that secrets go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum GoesTo {
    /// To this destination, as credential-svc says it.
    Exactly(String),
    /// To what the current entry revision runs, with what is stored on the entry: there is no installation of it yet.
    Entry(String),
}

impl GoesTo {
    /// Whether that is where they go by now.
    pub(super) fn covers(&self, present: &str) -> bool {
        match self {
            Self::Exactly(shown) => destination::covers(shown, present),
            Self::Entry(shown) => destination::covers(shown, destination::without_stored(present)),
        }
    }
}

/// Where what is entered for the current entry revision goes.
pub(super) fn destination(entry: &Entry) -> Option<Destination> {
    let server = match entry.server.clone()? {
        Server::Remote(remote) => entry_revision::Server::Remote(remote),
        Server::SelfHosted(hosted) => entry_revision::Server::SelfHosted(hosted),
    };
    destination::describe(&EntryRevision {
        server: Some(server),
        install_fields: entry.install_fields.clone(),
        ..EntryRevision::default()
    })
}

/// `entries/{entry}`, if it can be one.
pub(super) fn entry_name(id: &str) -> Option<String> {
    let valid = (1..=40).contains(&id.len()) && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    valid.then(|| format!("entries/{id}"))
}

/// The page's path and query below the public URL.
pub(super) fn path(entry: &str, link: &Link) -> String {
    let entry: String = form_urlencoded::byte_serialize(entry.as_bytes()).collect();
    let pairs = [
        ("gateway", &link.gateway),
        ("agent", &link.agent),
        ("installation", &link.installation),
        ("new", &link.new),
    ];
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(
        pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?))),
    );
    match query.finish() {
        query if query.is_empty() => format!("/install/{entry}"),
        query => format!("/install/{entry}?{query}"),
    }
}
