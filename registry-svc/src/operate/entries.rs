//! Entries: adding, reading and changing them.

use contracts::registry::{
    CreateEntryRequest, DeleteEntryRequest, Entry, EntryRevision, ListEntriesRequest, ListEntriesResponse,
    UpdateEntryRequest, entry::Server,
};
use service_kit::status::Violations;
use uuid::Uuid;

use super::{Done, require_request, slug_in, unchanged, visible_to, written};
use crate::{
    api::{Registry, paging::Page},
    domain::{
        Caller, Error,
        entry::{EntrySpec, apply_mask},
        etag,
        installation::{Step, follow},
        text::{SLUG_RULE, id_in, is_slug},
        visibility,
    },
    store::{Tx, assignments, entries, installations, load, requests::Request},
};

/// Adds an entry.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: CreateEntryRequest,
) -> Result<Done<Entry>, Error> {
    caller.require_admin()?;
    let mut violations = Violations::new();
    let retry = require_request(&mut violations, retry(&caller.uid, &request));
    if !is_slug(&request.entry_id) {
        violations.add("entry_id", SLUG_RULE);
    }
    let spec = match request.entry {
        None => {
            violations.add("entry", "must be set");
            None
        }
        Some(entry) => match EntrySpec::parse(entry, &registry.egress) {
            Ok(spec) => Some(spec),
            Err(more) => {
                more.iter()
                    .for_each(|(field, description)| violations.add(field, description));
                None
            }
        },
    };
    let (Some(spec), Some(retry), true) = (spec, retry, violations.is_empty()) else {
        return Err(violations.into());
    };
    let mut tx = registry.db.write().await?;
    if let Some(uid) = retry.replayed(&mut tx).await? {
        let name = format!("entries/{}", request.entry_id);
        let entry = load::entry(&mut tx, &uid).await?.ok_or(Error::NotFound(name))?;
        return unchanged(registry, tx, entry).await;
    }
    if load::entry_uid(&mut tx, &request.entry_id).await?.is_some() {
        return Err(Error::AlreadyExists(format!("entries/{}", request.entry_id)));
    }
    let teams = visible_to(&mut tx, "entry", visibility::teams(spec.message().visibility.as_ref())).await?;
    let (uid, now) = (Uuid::new_v4().to_string(), registry.clock.now_micros());
    entries::insert(&mut tx, &uid, &request.entry_id, &spec, &caller.uid, now).await?;
    entries::set_teams(&mut tx, &uid, &teams).await?;
    retry.made(&mut tx, &uid, now).await?;
    finish(registry, tx, &uid).await
}

fn retry<'a>(caller: &'a str, request: &CreateEntryRequest) -> Option<Request<'a>> {
    let mut message = request.clone();
    let (mut labels, mut environment) = Default::default();
    if let Some(entry) = &mut message.entry {
        labels = std::mem::take(&mut entry.labels);
        if let Some(Server::SelfHosted(server)) = &mut entry.server {
            environment = std::mem::take(&mut server.environment);
        }
    }
    Request::new(
        caller,
        "CreateEntry",
        &request.request_id,
        &[&labels, &environment],
        &message,
    )
}

/// Reads one entry.
pub(crate) async fn get(registry: &Registry, caller: &Caller, name: &str) -> Result<Entry, Error> {
    let mut tx = registry.db.read().await?;
    visible(&mut tx, caller, "name", name).await
}

/// Lists what the caller may see.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    request: ListEntriesRequest,
) -> Result<ListEntriesResponse, Error> {
    let mut labels: Vec<_> = request.labels.iter().collect();
    labels.sort();
    let binding = format!("ListEntries {} {labels:?} {}", caller.uid, request.lifecycle);
    let page = Page::parse(&registry.pages, binding, request.page_size, &request.page_token)?;
    let wanted = |entry: &Entry| {
        caller.sees(entry.visibility.as_ref(), &entry.creator)
            && (request.lifecycle == 0 || request.lifecycle == entry.lifecycle)
            && labels.iter().all(|(key, value)| entry.labels.get(*key) == Some(value))
    };
    let mut tx = registry.db.read().await?;
    let mut after = (page.start().0, page.start().1.to_owned());
    let mut found: Vec<((i64, String), Entry)> = Vec::new();
    while found.len() <= page.size {
        let positions = entries::uids_after(&mut tx, (after.0, &after.1), page.limit()).await?;
        let Some(last) = positions.last() else { break };
        after = last.clone();
        for position in positions {
            if let Some(entry) = load::entry(&mut tx, &position.1).await?.filter(&wanted) {
                found.push((position, entry));
            }
        }
    }
    let next_page_token = page.cut(&registry.pages, &mut found, |(position, _)| position.clone());
    Ok(ListEntriesResponse {
        entries: found.into_iter().map(|(_, entry)| entry).collect(),
        next_page_token,
    })
}

/// Changes an entry: a new revision, which its installations follow as far as they can.
pub(crate) async fn update(
    registry: &Registry,
    caller: &Caller,
    request: UpdateEntryRequest,
) -> Result<Done<Entry>, Error> {
    let change = request.entry.ok_or_else(|| Error::invalid("entry", "must be set"))?;
    let mut tx = registry.db.write().await?;
    let current = administered(&mut tx, caller, "entry.name", &change.name, &change.etag).await?;
    let spec = written(entries::at_revision(&mut tx, &current.uid, current.entry_revision).await?)?;
    let merged = apply_mask(spec.message(), change, request.update_mask.as_ref())?;
    let next = EntrySpec::parse(merged, &registry.egress)?;
    if next == spec {
        return unchanged(registry, tx, current).await;
    }
    let teams = visible_to(&mut tx, "entry", visibility::teams(next.message().visibility.as_ref())).await?;
    let now = registry.clock.now_micros();
    let number = current.entry_revision + 1;
    entries::update(&mut tx, &current.uid, number, &next, &caller.uid, now).await?;
    entries::set_teams(&mut tx, &current.uid, &teams).await?;
    move_installations(&mut tx, &current.uid, number, &next, now).await?;
    finish(registry, tx, &current.uid).await
}

/// Lets every installation of the entry go on with the new revision, or says what its owner must provide.
async fn move_installations(
    tx: &mut Tx,
    entry_uid: &str,
    number: i64,
    next: &EntrySpec,
    now: i64,
) -> Result<(), Error> {
    for uid in entries::installations(tx, entry_uid).await? {
        let Some(installation) = load::installation(tx, &uid)
            .await?
            .and_then(|watched| watched.installation)
        else {
            continue;
        };
        let running = entries::at_revision(tx, entry_uid, installation.running_entry_revision).await?;
        let running = written(running)?;
        match follow(&running, next, &installation.values.into_iter().collect()) {
            Step::Move {
                values,
                runs_differently,
            } => {
                installations::follow(tx, &uid, &values, number, runs_differently, now).await?;
            }
            Step::Hold(why) => installations::hold(tx, &uid, &why, now).await?,
        }
    }
    Ok(())
}

/// Deletes an entry; with `force` also what was made from it. Its assignments go in any case.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    request: DeleteEntryRequest,
) -> Result<Done<Entry>, Error> {
    let mut tx = registry.db.write().await?;
    let entry = administered(&mut tx, caller, "name", &request.name, &request.etag).await?;
    let installed = entries::installations(&mut tx, &entry.uid).await?;
    if !installed.is_empty() && !request.force {
        return Err(Error::EntryInstalled {
            entry: entry.name,
            installations: installed,
        });
    }
    let now = registry.clock.now_micros();
    for uid in installed {
        installations::mark_deleted(&mut tx, &uid, now).await?;
    }
    assignments::delete_of_entry(&mut tx, &entry.uid).await?;
    entries::mark_deleted(&mut tx, &entry.uid, &caller.uid, now).await?;
    finish(registry, tx, &entry.uid).await
}

/// Reads one revision: `entries/{entry}/revisions/{number}`.
pub(crate) async fn get_revision(registry: &Registry, caller: &Caller, name: &str) -> Result<EntryRevision, Error> {
    let parsed = name.rsplit_once("/revisions/").and_then(|(entry, number)| {
        let number: i64 = number.parse().ok().filter(|number| *number > 0)?;
        id_in("entries", entry).map(|_| (entry, number))
    });
    let wrong = || Error::invalid("name", "must be a revision's name: entries/{entry}/revisions/{number}");
    let (entry, number) = parsed.ok_or_else(wrong)?;
    let mut tx = registry.db.read().await?;
    let entry = visible(&mut tx, caller, "name", entry).await?;
    let found = entries::revisions_before(&mut tx, &entry, number.saturating_add(1), 1).await?;
    found
        .into_iter()
        .find(|revision| revision.name == name)
        .ok_or_else(|| Error::NotFound(name.to_owned()))
}

/// Lists revisions, newest first.
pub(crate) async fn list_revisions(
    registry: &Registry,
    caller: &Caller,
    parent: &str,
    page_size: i32,
    page_token: &str,
) -> Result<(Vec<EntryRevision>, String), Error> {
    let mut tx = registry.db.read().await?;
    let entry = visible(&mut tx, caller, "parent", parent).await?;
    let binding = format!("ListEntryRevisions {} {}", caller.uid, entry.uid);
    let page: Page<i64> = Page::parse(&registry.pages, binding, page_size, page_token)?;
    let mut found = entries::revisions_before(&mut tx, &entry, page.after.unwrap_or(i64::MAX), page.limit()).await?;
    let next = page.cut(&registry.pages, &mut found, |revision| {
        revision
            .entry
            .as_ref()
            .map(|entry| entry.entry_revision)
            .unwrap_or_default()
    });
    Ok((found, next))
}

/// The entry of this name, if the caller may see it.
pub(crate) async fn visible(tx: &mut Tx, caller: &Caller, field: &str, name: &str) -> Result<Entry, Error> {
    let slug = slug_in("entries", field, name)?;
    let found = match load::entry_uid(tx, slug).await? {
        Some(uid) => load::entry(tx, &uid).await?,
        None => None,
    };
    found
        .filter(|entry| caller.sees(entry.visibility.as_ref(), &entry.creator))
        .ok_or_else(|| Error::NotFound(name.to_owned()))
}

/// The entry of this name, if the caller may change it and has read its latest state.
pub(super) async fn administered(
    tx: &mut Tx,
    caller: &Caller,
    field: &str,
    name: &str,
    given: &str,
) -> Result<Entry, Error> {
    let entry = visible(tx, caller, field, name).await?;
    caller.require_admin()?;
    etag::check(given, &entry.etag, &entry.name)?;
    Ok(entry)
}

/// Commits, and answers with the entry as it is now.
pub(super) async fn finish(registry: &Registry, mut tx: Tx, uid: &str) -> Result<Done<Entry>, Error> {
    let entry = written(load::entry(&mut tx, uid).await?)?;
    let propagated = registry.commit(tx, None).await?;
    Ok((entry, propagated))
}
