//! Installations: creating, reading, changing and deleting them.

use std::collections::HashMap;

use contracts::registry::{
    CreateInstallationRequest, DeleteInstallationRequest, EntryLifecycle, Installation, InstallationState,
    ListInstallationsRequest, ListInstallationsResponse, UpdateInstallationRequest, installation::Scope,
};
use prost_types::FieldMask;
use service_kit::status::Violations;

use super::{
    Done, Registry, creation::Creation, entries, rollout::mark_deleted, slug_in, teams::user_id, uid_in, unchanged,
    written,
};
use crate::{
    domain::{
        Actor, Caller, Error, conditions,
        entry::{EntrySpec, MAX_FIELDS},
        etag,
        field_mask::{Mask, check_size},
        installation::{check, require_manager, require_team_manager, sees, values_author},
        new_uid,
        text::{id_in, is_slug},
        time::timestamp,
    },
    store::{
        self, Object, Tx,
        installations::{Filter, Owner},
        list::Listed,
        revisions, teams,
    },
};

/// How many expired installations one transaction clears away.
const EXPIRE_AT_ONCE: i64 = 20;

/// Installs an approved entry for the caller or a team.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: CreateInstallationRequest,
) -> Result<Done<Installation>, Error> {
    let mut creation = begin(caller, &request);
    let wanted = request.installation.unwrap_or_default();
    if !id_in("entries", &wanted.entry).is_some_and(is_slug) {
        let text = "must be an entry's name: entries/{entry}";
        creation.violations().add("installation.entry", text);
    }
    check_count(creation.violations(), &wanted.values);
    let scope = parse_scope(creation.violations(), caller, wanted.scope)?;
    let (scope, retry) = creation.finish(Some(scope))?;

    let mut tx = registry.write(caller.actor()).await?;
    if let Some(replay) = retry.replayed::<Installation>(&mut tx).await? {
        let uid = &replay.resource_uid;
        let present = store::installations::by_uid(&mut tx, uid).await?;
        let present = present
            .filter(|installation| sees(caller, installation))
            .ok_or_else(|| Error::NotFound(format!("installations/{uid}")))?;
        let revision = present.registry_revision;
        return unchanged(registry, tx, Object::Installation, revision, replay.answer).await;
    }
    let owner = owner(&mut tx, caller, &scope).await?;
    let slug = slug_in("entries", "installation.entry", &wanted.entry)?;
    let (entry, installed) = store::installations::of_owner(&mut tx, slug, &owner)
        .await?
        .filter(|(entry, _)| entries::sees(caller, entry))
        .ok_or(Error::NotFound(wanted.entry))?;
    if let Some(uid) = installed {
        return Err(Error::AlreadyExists(format!("installations/{uid}")));
    }
    if entry.lifecycle() != EntryLifecycle::Approved {
        return Err(Error::EntryNotApproved(entry.name));
    }
    let spec = EntrySpec::from_stored(entry.clone());
    let values = check(&spec, wanted.values)?;
    let patience = i64::try_from(registry.pending_expiry.as_micros()).unwrap_or(i64::MAX);
    let (uid, now) = (new_uid(), tx.now());
    let mut installation = Installation {
        name: format!("installations/{uid}"),
        etag: etag::of(&uid, tx.revision()),
        uid,
        entry: entry.name,
        entry_uid: entry.uid,
        scope: Some(scope),
        values: values.into_iter().collect(),
        created_entry_revision: entry.entry_revision,
        running_entry_revision: entry.entry_revision,
        generation: 1,
        conditions: conditions::applicable(spec.has_own_runtimes(), &[], Some(timestamp(now))),
        state: InstallationState::Pending.into(),
        create_time: Some(timestamp(now)),
        update_time: Some(timestamp(now)),
        creator: caller.name(),
        expire_time: Some(timestamp(now.saturating_add(patience))),
        ..Installation::default()
    };
    store::installations::insert(&mut tx, &mut installation, &owner).await?;
    retry.made(&mut tx, &installation.uid, &installation).await?;
    let propagated = registry.commit(tx, None).await?;
    Ok((installation, propagated))
}

/// Refuses more values than an entry can have fields, before a transaction begins.
fn check_count(violations: &mut Violations, values: &HashMap<String, String>) {
    if values.len() > MAX_FIELDS {
        violations.add(
            "installation.values",
            format!("must have at most {MAX_FIELDS} elements"),
        );
    }
}

fn begin<'a>(caller: &'a Caller, request: &CreateInstallationRequest) -> Creation<'a> {
    let mut message = request.clone();
    message.request_id.clear();
    let values = message
        .installation
        .as_mut()
        .map(|installation| std::mem::take(&mut installation.values))
        .unwrap_or_default();
    Creation::new(caller, "CreateInstallation", &request.request_id, &[&values], &message)
}

/// Whose it is to be; the caller's own if unset. Nobody may create one for another person.
fn parse_scope(violations: &mut Violations, caller: &Caller, scope: Option<Scope>) -> Result<Scope, Error> {
    let personal = !matches!(scope, Some(Scope::Team(_)));
    if caller.machine && personal {
        return Err(Error::Denied {
            what: "a program has no personal installations: name a `team` that it belongs to, whose members may create them".to_owned(),
            required: "person",
        });
    }
    match scope {
        None => Ok(Scope::User(caller.name())),
        Some(Scope::User(user)) if user == "users/me" || user == caller.name() => Ok(Scope::User(caller.name())),
        Some(Scope::User(_)) => Err(Error::Denied {
            what: "only its owner may create a personal installation; leave `user` unset for your own".to_owned(),
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

async fn owner(tx: &mut Tx, caller: &Caller, scope: &Scope) -> Result<Owner, Error> {
    let team = match scope {
        Scope::User(_) => return Ok(Owner::User(caller.uid.clone())),
        Scope::Team(team) => team,
    };
    let not_found = || Error::NotFound(team.clone());
    if !caller.admin && caller.team_named(team).is_none() {
        return Err(not_found());
    }
    let uid = teams::uid(tx, slug_in("teams", "installation.team", team)?)
        .await?
        .ok_or_else(not_found)?;
    require_team_manager(caller, team)?;
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
        "ListInstallations {} {} {:?} {:?} {:?} {}",
        caller.uid, caller.admin, request.entry, request.team, request.user, request.state
    );
    let page = registry.page(binding, request.page_size, &request.page_token)?;
    let mut tx = registry.db.read().await?;
    let Some(filter) = filter(&mut tx, caller, &request).await? else {
        return Ok(ListInstallationsResponse::default());
    };
    let Some(list) = store::installations::list(caller, &filter) else {
        return Ok(ListInstallationsResponse::default());
    };
    let (installations, next_page_token) = page.of(&mut tx, &list, Listed::message).await?;
    Ok(ListInstallationsResponse {
        installations,
        next_page_token,
    })
}

/// Which installations a list is of. `None` if what it names does not exist: then nothing matches.
async fn filter(tx: &mut Tx, caller: &Caller, request: &ListInstallationsRequest) -> Result<Option<Filter>, Error> {
    let state = InstallationState::try_from(request.state)
        .map_err(|_| Error::invalid("state", "must be PENDING, READY, FAILED or DELETING"))?;
    let mut filter = Filter {
        state,
        ..Filter::default()
    };
    if !request.entry.is_empty() {
        match store::entries::by_slug(tx, slug_in("entries", "entry", &request.entry)?).await? {
            Some(entry) => filter.entry_uid = entry.uid,
            None => return Ok(None),
        }
    }
    if !request.team.is_empty() {
        match teams::uid(tx, slug_in("teams", "team", &request.team)?).await? {
            Some(uid) => filter.team_uid = uid,
            None => return Ok(None),
        }
    }
    if !request.user.is_empty() {
        filter.user_uid = if request.user == "users/me" {
            caller.uid.clone()
        } else {
            user_id("user", &request.user)?
        };
    }
    Ok(Some(filter))
}

/// Gives an installation other values, and moves it to the current revision of its entry.
pub(crate) async fn update(
    registry: &Registry,
    caller: &Caller,
    request: UpdateInstallationRequest,
) -> Result<Done<Installation>, Error> {
    check_size(request.update_mask.as_ref())?;
    let change = request
        .installation
        .ok_or_else(|| Error::invalid("installation", "must be set"))?;
    let mut violations = Violations::new();
    check_count(&mut violations, &change.values);
    violations.into_result(())?;
    let mut tx = registry.write(caller.actor()).await?;
    let mut current = managed(&mut tx, caller, "installation.name", &change.name, &change.etag).await?;
    let mut values = current.values.clone();
    let given = apply_mask(&mut values, change, request.update_mask.as_ref())?;
    let entry = written(store::entries::by_uid(&mut tx, &current.entry_uid).await?)?;
    let next = EntrySpec::from_stored(entry.clone());
    // Values of fields that the entry no longer has are dropped, not refused.
    values.retain(|key, _| next.field(key).is_some() || !current.values.contains_key(key));
    let values = check(&next, values)?;
    let same_values = values == current.values.clone().into_iter().collect();
    let foreign = values_author(caller, &current, &next, given.then_some(&values));
    let same_author = foreign == current.foreign_values_generation;
    if same_values && same_author && current.running_entry_revision == entry.entry_revision {
        let revision = current.registry_revision;
        return unchanged(registry, tx, Object::Installation, revision, current).await;
    }
    let running = written(revisions::get(&mut tx, &entry.uid, current.running_entry_revision).await?)?;
    let new_generation = !same_values || !EntrySpec::of_revision(running).runs_as(&next);
    current.values = values.into_iter().collect();
    current.foreign_values_generation = foreign;
    current.running_entry_revision = entry.entry_revision;
    current.reinstall_required = None;
    current.generation += i64::from(new_generation);
    current.conditions = conditions::applicable(next.has_own_runtimes(), &current.conditions, current.create_time);
    finish(registry, tx, current, entry.entry_revision).await
}

/// Says whether `values` were given.
fn apply_mask(
    values: &mut HashMap<String, String>,
    change: Installation,
    mask: Option<&FieldMask>,
) -> Result<bool, Error> {
    let Installation {
        name: _,
        uid: _,
        entry: _,
        entry_uid: _,
        scope: _,
        values: changed,
        created_entry_revision: _,
        running_entry_revision: _,
        generation: _,
        credential_generation: _,
        conditions: _,
        state: _,
        reinstall_required: _,
        first_ready_time: _,
        etag: _,
        create_time: _,
        update_time: _,
        creator: _,
        delete_time: _,
        expire_time: _,
        registry_revision: _,
        discovered: _,
        foreign_values_generation: _,
    } = change;
    let mut mask = Mask::new(mask);
    let given = mask.apply("values", values, changed);
    mask.finish()?;
    Ok(given)
}

/// Deletes an installation. Assignments pinned to it go when its cleanup has been reported; until then their calls say that it
/// is not available.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    request: DeleteInstallationRequest,
) -> Result<Done<Installation>, Error> {
    let mut tx = registry.write(caller.actor()).await?;
    let mut current = managed(&mut tx, caller, "name", &request.name, &request.etag).await?;
    mark_deleted(&mut current, tx.now());
    finish(registry, tx, current, 0).await
}

/// Writes an installation that somebody has changed, and that was settled at this entry revision.
async fn finish(
    registry: &Registry,
    mut tx: Tx,
    mut installation: Installation,
    settled: i64,
) -> Result<Done<Installation>, Error> {
    installation.update_time = Some(timestamp(tx.now()));
    installation.etag = etag::of(&installation.uid, tx.revision());
    installation.state = conditions::state(&installation).into();
    store::installations::update(&mut tx, std::slice::from_mut(&mut installation), settled).await?;
    if settled > 0 {
        // It may have been the last that ran an older one.
        revisions::retire(&mut tx, &installation.entry_uid, settled).await?;
    }
    let propagated = registry.commit(tx, None).await?;
    Ok((installation, propagated))
}

/// Deletes installations that were not completed in time; returns how many.
pub(crate) async fn expire(registry: &Registry) -> Result<usize, Error> {
    let now = registry.clock.now_micros();
    let mut read = registry.db.read().await?;
    if store::installations::expired(&mut read, now, 1).await?.is_empty() {
        return Ok(0);
    }
    drop(read);
    let mut tx = registry.write(Actor::Registry).await?;
    let expired = store::installations::expired(&mut tx, now, EXPIRE_AT_ONCE).await?;
    for uid in &expired {
        if let Some(mut installation) = store::installations::by_uid(&mut tx, uid).await? {
            mark_deleted(&mut installation, now);
            store::installations::update_one(&mut tx, &mut installation).await?;
        }
        tracing::info!(installation.uid = %uid, "a pending installation that nobody completed has expired");
    }
    tx.commit().await?;
    Ok(expired.len())
}

/// The installation of this name, if the caller may see it; also one that waits for cleanup.
pub(crate) async fn visible(tx: &mut Tx, caller: &Caller, field: &str, name: &str) -> Result<Installation, Error> {
    let found = store::installations::by_uid(tx, uid_in("installations", field, name)?).await?;
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
