//! Loads what the opener may see of an entry and its installations.

use contracts::{
    credential::Credential,
    registry::{Entry, InstallationState, installation},
};
use tonic::{Code, Status};

use super::{
    guard::FormState,
    link::{Link, entry_name},
    model::{
        everybody::{Everybody, Owned},
        install::{Loaded, Scope, Target},
    },
    services::Opener,
};

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
    Ok(Some(Loaded {
        entry,
        admin: me.admin,
        me: me.name,
        scopes,
        target,
    }))
}

/// What an admin sees of the installations of an entry.
pub(super) async fn everybody(opener: &Opener<'_>, entry: &Entry) -> Result<Everybody, Status> {
    let (found, more) = opener.installations(&entry.name).await?;
    let installations = futures::future::join_all(found.into_iter().map(async |installation| Owned {
        owner: match &installation.scope {
            Some(installation::Scope::Team(team)) => format!("The team {}", team.trim_start_matches("teams/")),
            Some(installation::Scope::User(user)) => {
                opener.user(user).await.map_or_else(|_| user.clone(), |user| user.email)
            }
            None => installation.name.clone(),
        },
        installation,
    }))
    .await;
    Ok(Everybody { installations, more })
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
