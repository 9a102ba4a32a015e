//! Installations: making, reading, changing and deleting them.

use contracts::registry::{
    CreateInstallationRequest, DeleteInstallationRequest, EntryLifecycle, Installation, ListInstallationsRequest,
    ListInstallationsResponse, UpdateInstallationRequest, installation::Scope,
};
use service_kit::status::Violations;
use uuid::Uuid;

use super::{Done, entries, require_request, slug_in, uid_in, unchanged, written};
use crate::{
    api::{Registry, paging::Page},
    domain::{
        Caller, Error, etag, field_mask,
        installation::{check, require_manager, require_team_manager, sees},
        text::{id_in, is_slug},
    },
    store::{
        self, Tx,
        installations::{NewInstallation, Owner},
        load,
        requests::Request,
    },
};

/// How many expired installations one transaction clears away.
const EXPIRE_AT_ONCE: i64 = 100;

/// Installs an approved entry for the caller or a team.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: CreateInstallationRequest,
) -> Result<Done<Installation>, Error> {
    let mut violations = Violations::new();
    let retry = require_request(&mut violations, retry(&caller.uid, &request));
    let wanted = request.installation.unwrap_or_default();
    if !id_in("entries", &wanted.entry).is_some_and(is_slug) {
        violations.add("installation.entry", "must be an entry's name: entries/{entry}");
    }
    let scope = parse_scope(&mut violations, caller, wanted.scope)?;
    let (Some(retry), true) = (retry, violations.is_empty()) else {
        return Err(violations.into());
    };

    let mut tx = registry.db.write().await?;
    if let Some(uid) = retry.replayed(&mut tx).await? {
        let found = find(&mut tx, &uid).await?;
        let installation = found.ok_or_else(|| Error::NotFound(format!("installations/{uid}")))?;
        return unchanged(registry, tx, installation).await;
    }
    let entry = entries::visible(&mut tx, caller, "installation.entry", &wanted.entry).await?;
    let owner = owner(&mut tx, caller, scope).await?;
    if let Some(uid) = store::installations::of_owner(&mut tx, &entry.uid, &owner).await? {
        return Err(Error::AlreadyExists(format!("installations/{uid}")));
    }
    if entry.lifecycle() != EntryLifecycle::Approved {
        return Err(Error::EntryNotApproved(entry.name));
    }
    let spec = written(store::entries::at_revision(&mut tx, &entry.uid, entry.entry_revision).await?)?;
    let values = check(&spec, wanted.values)?;
    let now = registry.clock.now_micros();
    let patience = i64::try_from(registry.pending_expiry.as_micros()).unwrap_or(i64::MAX);
    let uid = Uuid::new_v4().to_string();
    let new = NewInstallation {
        uid: &uid,
        entry_uid: &entry.uid,
        entry_revision: entry.entry_revision,
        owner: &owner,
        values: &values,
        creator: &caller.uid,
        now,
        expire_time: now.saturating_add(patience),
    };
    store::installations::insert(&mut tx, &new).await?;
    retry.made(&mut tx, &uid, now).await?;
    finish(registry, tx, &uid).await
}

fn retry<'a>(caller: &'a str, request: &CreateInstallationRequest) -> Option<Request<'a>> {
    let mut message = request.clone();
    let values = message
        .installation
        .as_mut()
        .map(|installation| std::mem::take(&mut installation.values))
        .unwrap_or_default();
    Request::new(caller, "CreateInstallation", &request.request_id, &[&values], &message)
}

/// Whose it is to be; the caller's own when unset. Somebody else's is for nobody to make.
fn parse_scope(violations: &mut Violations, caller: &Caller, scope: Option<Scope>) -> Result<Scope, Error> {
    match scope {
        None => Ok(Scope::User(caller.name())),
        Some(Scope::User(user)) if user == "users/me" || user == caller.name() => Ok(Scope::User(caller.name())),
        Some(Scope::User(_)) => Err(Error::Denied {
            what: "a personal installation is made by its owner alone; leave `user` unset for your own".to_owned(),
            required: "owner",
        }),
        Some(Scope::Team(team)) => {
            if !id_in("teams", &team).is_some_and(is_slug) {
                violations.add("installation.team", "must be a team's name: teams/{team}");
            }
            Ok(Scope::Team(team))
        }
    }
}

async fn owner(tx: &mut Tx, caller: &Caller, scope: Scope) -> Result<Owner, Error> {
    let team = match scope {
        Scope::User(_) => return Ok(Owner::User(caller.uid.clone())),
        Scope::Team(team) => team,
    };
    let not_found = || Error::NotFound(team.clone());
    if !caller.admin && caller.team_named(&team).is_none() {
        return Err(not_found());
    }
    let uid = load::team_uid(tx, slug_in("teams", "installation.team", &team)?)
        .await?
        .ok_or_else(not_found)?;
    require_team_manager(caller, &team)?;
    Ok(Owner::Team(uid))
}

/// Reads one installation.
pub(crate) async fn get(registry: &Registry, caller: &Caller, name: &str) -> Result<Installation, Error> {
    let mut tx = registry.db.read().await?;
    visible(&mut tx, caller, "name", name).await
}

/// Lists what the caller may see; those that wait for cleanup are left out.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    request: ListInstallationsRequest,
) -> Result<ListInstallationsResponse, Error> {
    let binding = format!(
        "ListInstallations {} {:?} {:?} {:?}",
        caller.uid, request.entry, request.team, request.user
    );
    let page = Page::parse(&registry.pages, binding, request.page_size, &request.page_token)?;
    let mut tx = registry.db.read().await?;
    let Some(filter) = Filter::parse(&mut tx, caller, &request).await? else {
        return Ok(ListInstallationsResponse::default());
    };
    let mut after = (page.start().0, page.start().1.to_owned());
    let mut found: Vec<((i64, String), Installation)> = Vec::new();
    while found.len() <= page.size {
        let rows = store::installations::after(&mut tx, (after.0, &after.1), &filter.entry_uid, page.limit()).await?;
        let Some((last, _)) = rows.last() else { break };
        after = last.clone();
        for (position, _) in rows.into_iter().filter(|(_, owner)| filter.takes(caller, owner)) {
            if let Some(installation) = find(&mut tx, &position.1).await? {
                found.push((position, installation));
            }
        }
    }
    let next_page_token = page.cut(&registry.pages, &mut found, |(position, _)| position.clone());
    let installations = found.into_iter().map(|(_, installation)| installation).collect();
    Ok(ListInstallationsResponse {
        installations,
        next_page_token,
    })
}

/// Which installations a list is of, by uid; empty: any.
struct Filter {
    entry_uid: String,
    team_uid: String,
    user_uid: String,
}

impl Filter {
    /// `None` if what it names does not exist: then nothing matches.
    async fn parse(tx: &mut Tx, caller: &Caller, request: &ListInstallationsRequest) -> Result<Option<Self>, Error> {
        let mut filter = Self {
            entry_uid: String::new(),
            team_uid: String::new(),
            user_uid: String::new(),
        };
        if !request.entry.is_empty() {
            match load::entry_uid(tx, slug_in("entries", "entry", &request.entry)?).await? {
                Some(uid) => filter.entry_uid = uid,
                None => return Ok(None),
            }
        }
        if !request.team.is_empty() {
            match load::team_uid(tx, slug_in("teams", "team", &request.team)?).await? {
                Some(uid) => filter.team_uid = uid,
                None => return Ok(None),
            }
        }
        if !request.user.is_empty() {
            let user = id_in("users", &request.user)
                .ok_or_else(|| Error::invalid("user", "must be users/{user} or users/me"))?;
            filter.user_uid = if user == "me" {
                caller.uid.clone()
            } else {
                user.to_owned()
            };
        }
        Ok(Some(filter))
    }

    fn takes(&self, caller: &Caller, owner: &Owner) -> bool {
        match owner {
            Owner::User(uid) => {
                (caller.admin || *uid == caller.uid)
                    && self.team_uid.is_empty()
                    && (self.user_uid.is_empty() || self.user_uid == *uid)
            }
            Owner::Team(uid) => {
                (caller.admin || caller.team(uid).is_some())
                    && self.user_uid.is_empty()
                    && (self.team_uid.is_empty() || self.team_uid == *uid)
            }
        }
    }
}

/// Gives an installation other values, and moves it to the current revision of its entry.
pub(crate) async fn update(
    registry: &Registry,
    caller: &Caller,
    request: UpdateInstallationRequest,
) -> Result<Done<Installation>, Error> {
    field_mask::parse(request.update_mask.as_ref(), &["values"])?;
    let change = request
        .installation
        .ok_or_else(|| Error::invalid("installation", "must be set"))?;
    let mut tx = registry.db.write().await?;
    let current = managed(&mut tx, caller, "installation.name", &change.name, &change.etag).await?;
    let entry = written(load::entry(&mut tx, &current.entry_uid).await?)?;
    let next = written(store::entries::at_revision(&mut tx, &entry.uid, entry.entry_revision).await?)?;
    let running = store::entries::at_revision(&mut tx, &entry.uid, current.running_entry_revision).await?;
    let values = check(&next, change.values)?;
    let same_values = values == current.values.clone().into_iter().collect();
    if same_values && current.running_entry_revision == entry.entry_revision {
        return unchanged(registry, tx, current).await;
    }
    let new_generation = !same_values || !written(running)?.runs_as(&next);
    let now = registry.clock.now_micros();
    store::installations::update(
        &mut tx,
        &current.uid,
        &values,
        entry.entry_revision,
        new_generation,
        now,
    )
    .await?;
    finish(registry, tx, &current.uid).await
}

/// Deletes an installation. Assignments pinned to it go when its cleanup has been reported; until then their calls say that it
/// is not available.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    request: DeleteInstallationRequest,
) -> Result<Done<Installation>, Error> {
    let mut tx = registry.db.write().await?;
    let current = managed(&mut tx, caller, "name", &request.name, &request.etag).await?;
    store::installations::mark_deleted(&mut tx, &current.uid, registry.clock.now_micros()).await?;
    finish(registry, tx, &current.uid).await
}

/// Deletes installations that nobody has completed in time; says how many.
pub(crate) async fn expire(registry: &Registry) -> Result<usize, Error> {
    let now = registry.clock.now_micros();
    let mut read = registry.db.read().await?;
    if store::installations::expired(&mut read, now, 1).await?.is_empty() {
        return Ok(0);
    }
    drop(read);
    let mut tx = registry.db.write().await?;
    let expired = store::installations::expired(&mut tx, now, EXPIRE_AT_ONCE).await?;
    for uid in &expired {
        store::installations::mark_deleted(&mut tx, uid, now).await?;
        tracing::info!(installation.uid = %uid, "a pending installation that nobody completed has expired");
    }
    registry.commit(tx, None).await?;
    Ok(expired.len())
}

/// The installation of this name, if the caller may see it; also one that waits for cleanup.
pub(crate) async fn visible(tx: &mut Tx, caller: &Caller, field: &str, name: &str) -> Result<Installation, Error> {
    let found = find(tx, uid_in("installations", field, name)?).await?;
    found
        .filter(|installation| sees(caller, installation))
        .ok_or_else(|| Error::NotFound(name.to_owned()))
}

async fn managed(tx: &mut Tx, caller: &Caller, field: &str, name: &str, given: &str) -> Result<Installation, Error> {
    let installation = visible(tx, caller, field, name).await?;
    if installation.delete_time.is_some() {
        return Err(Error::NotFound(name.to_owned()));
    }
    require_manager(caller, &installation)?;
    etag::check(given, &installation.etag, name)?;
    Ok(installation)
}

async fn find(tx: &mut Tx, uid: &str) -> Result<Option<Installation>, Error> {
    Ok(load::installation(tx, uid)
        .await?
        .and_then(|watched| watched.installation))
}

async fn finish(registry: &Registry, mut tx: Tx, uid: &str) -> Result<Done<Installation>, Error> {
    let installation = written(find(&mut tx, uid).await?)?;
    let propagated = registry.commit(tx, None).await?;
    Ok((installation, propagated))
}
