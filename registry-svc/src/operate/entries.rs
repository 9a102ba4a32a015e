//! Entries: creating, reading, changing and deleting them.

use contracts::registry::{
    CreateEntryRequest, DeleteEntryRequest, Entry, EntryLifecycle, EntryRevision, EntryRollout, ListEntriesRequest,
    ListEntriesResponse, UpdateEntryRequest, entry::Server,
};
use prost::Message as _;
use service_kit::status::Violations;
use tokio::time::Instant;

use super::{
    Done, Registry,
    creation::Creation,
    propagation::{PATIENCE, Propagated},
    slug_in, unchanged, visible_to,
};
use crate::{
    domain::{
        Caller, Error, conditions,
        entry::{EntrySpec, apply_mask, query_words, without_outputs},
        etag,
        field_mask::check_size,
        label_revisions, new_uid,
        text::{check_labels, id_in},
        time::timestamp,
        visibility,
    },
    store::{Object, Tx, entries, entry_list, list::Listed, revisions},
};

/// The most labels that a list is narrowed by.
const MAX_LABELS: usize = 8;
/// How many installations the refusal to delete an entry knows by name: one more than it names.
const NAMED: i64 = 11;

/// Adds an entry.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: CreateEntryRequest,
) -> Result<Done<Entry>, Error> {
    caller.require_admin()?;
    let mut creation = begin(caller, &request);
    creation.require_slug("entry_id", &request.entry_id);
    let spec = creation.parse("entry", request.entry, |entry| {
        EntrySpec::parse(entry, &registry.egress)
    });
    let (spec, retry) = creation.finish(spec)?;
    let name = format!("entries/{}", request.entry_id);
    let mut tx = registry.write(caller.actor()).await?;
    if let Some(replay) = retry.replayed::<Entry>(&mut tx).await? {
        let present = entries::by_uid(&mut tx, &replay.resource_uid).await?;
        let present = present
            .filter(|entry| sees(caller, entry))
            .ok_or(Error::NotFound(name))?;
        return unchanged(registry, tx, Object::Entry, present.registry_revision, replay.answer).await;
    }
    if entries::by_slug(&mut tx, &request.entry_id).await?.is_some() {
        return Err(Error::AlreadyExists(name));
    }
    let teams = visible_to(&mut tx, "entry", visibility::teams(spec.message().visibility.as_ref())).await?;
    let (uid, now) = (new_uid(), timestamp(tx.now()));
    let mut entry = Entry {
        name,
        etag: etag::of(&uid, tx.revision()),
        uid,
        lifecycle: EntryLifecycle::Draft.into(),
        entry_revision: 1,
        creator: caller.name(),
        updater: caller.name(),
        create_time: Some(now),
        update_time: Some(now),
        label_revisions: label_revisions::begin(&spec.message().labels, tx.revision()),
        ..spec.message().clone()
    };
    entries::put(&mut tx, &mut entry).await?;
    revisions::insert(&mut tx, &revision_of(&spec, &entry, caller)).await?;
    entries::index(&mut tx, None, &entry, &teams).await?;
    entry.rollout = Some(EntryRollout {
        entry_revision: entry.entry_revision,
        ..EntryRollout::default()
    });
    retry.made(&mut tx, &entry.uid, &entry).await?;
    let propagated = registry.commit(tx, None).await?;
    Ok((entry, propagated))
}

/// The entry's current revision, as it is made now.
fn revision_of(spec: &EntrySpec, entry: &Entry, caller: &Caller) -> EntryRevision {
    EntryRevision {
        name: format!("{}/revisions/{}", entry.name, entry.entry_revision),
        entry_uid: entry.uid.clone(),
        number: entry.entry_revision,
        create_time: entry.update_time,
        creator: caller.name(),
        ..spec.revision()
    }
}

fn begin<'a>(caller: &'a Caller, request: &CreateEntryRequest) -> Creation<'a> {
    let mut message = request.clone();
    message.request_id.clear();
    let (mut labels, mut environment) = Default::default();
    if let Some(entry) = &mut message.entry {
        labels = std::mem::take(&mut entry.labels);
        if let Some(Server::SelfHosted(server)) = &mut entry.server {
            environment = std::mem::take(&mut server.environment);
        }
    }
    Creation::new(
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
    let mut entry = visible(&mut tx, caller, "name", name).await?;
    entry.rollout = Some(entries::rollout(&mut tx, &entry.uid, entry.entry_revision).await?);
    Ok(entry)
}

/// Lists what the caller may see.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    request: ListEntriesRequest,
) -> Result<ListEntriesResponse, Error> {
    let mut violations = Violations::new();
    let lifecycle = EntryLifecycle::try_from(request.lifecycle).unwrap_or_else(|_| {
        violations.add("lifecycle", "must be DRAFT, APPROVED or DEPRECATED");
        EntryLifecycle::Unspecified
    });
    let words = query_words(&request.query).unwrap_or_else(|wrong| {
        violations.add("query", wrong);
        Vec::new()
    });
    check_labels(&mut violations, "labels", &request.labels);
    if request.labels.len() > MAX_LABELS {
        violations.add("labels", format!("must have at most {MAX_LABELS} elements"));
    }
    if !violations.is_empty() {
        return Err(violations.into());
    }
    let mut labels: Vec<(String, String)> = request.labels.into_iter().collect();
    labels.sort();
    let binding = format!(
        "ListEntries {} {} {labels:?} {lifecycle:?} {words:?}",
        caller.uid, caller.admin
    );
    let page = registry.page(binding, request.page_size, &request.page_token)?;
    let filter = entry_list::Filter {
        labels,
        lifecycle,
        words,
    };
    let mut tx = registry.db.read().await?;
    let Some(list) = entry_list::list(&mut tx, caller, &filter).await? else {
        return Ok(ListEntriesResponse::default());
    };
    let (entries, next_page_token) = page.of(&mut tx, &list, Listed::message).await?;
    Ok(ListEntriesResponse {
        entries,
        next_page_token,
    })
}

/// Changes an entry. A change of what runs makes a new revision, which its installations then follow as far as they can; the
/// answer waits for them as long as it waits for watchers.
pub(crate) async fn update(
    registry: &Registry,
    caller: &Caller,
    request: UpdateEntryRequest,
) -> Result<Done<Entry>, Error> {
    check_size(request.update_mask.as_ref())?;
    let change = request.entry.ok_or_else(|| Error::invalid("entry", "must be set"))?;
    let allowed = async |tx: &mut Tx| administered(tx, caller, "entry.name", &change.name, &change.etag).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let current = allowed(&mut tx).await?;
    let spec = EntrySpec::from_stored(without_outputs(current.clone()));
    let merged = apply_mask(spec.message(), change, request.update_mask.as_ref())?;
    let next = EntrySpec::parse(merged, &registry.egress)?;
    if next == spec {
        // The rollout of the change before may still be in progress.
        tx.stands_at(Object::Entry, current.registry_revision);
        return roll_out(registry, tx, current).await;
    }
    let teams = visible_to(&mut tx, "entry", visibility::teams(next.message().visibility.as_ref())).await?;
    let runs_as_before = next.runs_as(&spec);
    let before = current.clone();
    let mut entry = Entry {
        name: current.name,
        etag: etag::of(&current.uid, tx.revision()),
        uid: current.uid,
        lifecycle: current.lifecycle,
        entry_revision: current.entry_revision + i64::from(!runs_as_before),
        creator: current.creator,
        updater: caller.name(),
        create_time: current.create_time,
        update_time: Some(timestamp(tx.now())),
        conditions: conditions::of_entry(next.has_shared_runtime(), current.conditions),
        credential_generation: current.credential_generation,
        discovered: current.discovered,
        label_revisions: label_revisions::follow(
            &current.labels,
            &current.label_revisions,
            &next.message().labels,
            tx.revision(),
        ),
        ..next.message().clone()
    };
    entries::put(&mut tx, &mut entry).await?;
    entries::index(&mut tx, Some(&before), &entry, &teams).await?;
    if runs_as_before {
        let propagated = registry.commit(tx, None).await?;
        return Ok(answer(registry, entry, propagated).await);
    }
    revisions::insert(&mut tx, &revision_of(&next, &entry, caller)).await?;
    entries::set_unfinished(&mut tx, &entry.uid, true).await?;
    roll_out(registry, tx, entry).await
}

/// Commits a change that installations are to follow, and waits for them and for watchers.
async fn roll_out(registry: &Registry, tx: Tx, entry: Entry) -> Result<Done<Entry>, Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut commit = tx.commit().await?;
    registry.rollouts.wake();
    // It is committed: what cannot be looked up now is no reason to say that it failed.
    match registry.rollouts.wait(&registry.db, &entry.uid, deadline).await {
        Ok(Some(revision)) => {
            // What became of the installations and the assignments is to be in force, too.
            commit.revision = commit.revision.max(revision);
            commit.kinds |= Object::Installation.bit() | Object::EntryRevision.bit() | Object::ToolAssignment.bit();
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(error = %error, entry.uid = %entry.uid, "the progress of its installations could not be read")
        }
    }
    let propagated = registry.propagation.wait_until(commit, None, deadline).await;
    Ok(answer(registry, entry, propagated).await)
}

/// The answer to a change that is committed, with how far the installations have come, unless that cannot be read now.
pub(super) async fn answer(registry: &Registry, mut entry: Entry, propagated: Propagated) -> Done<Entry> {
    let rollout = async {
        let mut tx = registry.db.read().await?;
        if entry.delete_time.is_some() {
            let left = entries::count_installed(&mut tx, &entry.uid).await?;
            let entry_revision = entry.entry_revision;
            return Ok(EntryRollout {
                entry_revision,
                left,
                ..EntryRollout::default()
            });
        }
        entries::rollout(&mut tx, &entry.uid, entry.entry_revision).await
    };
    match rollout.await {
        Ok(rollout) => entry.rollout = Some(rollout),
        Err(error) => {
            tracing::warn!(error = %error, entry.uid = %entry.uid, "the progress of its installations could not be read")
        }
    }
    (entry, propagated)
}

/// Deletes an entry and its assignments; with `force` also its installations, which follow in the background.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    request: DeleteEntryRequest,
) -> Result<Done<Entry>, Error> {
    let allowed = async |tx: &mut Tx| administered(tx, caller, "name", &request.name, &request.etag).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let mut entry = allowed(&mut tx).await?;
    if !request.force {
        let some = entries::some_installations(&mut tx, &entry.uid, NAMED).await?;
        if !some.is_empty() {
            let count = entries::count_installed(&mut tx, &entry.uid).await?;
            return Err(Error::EntryInstalled {
                entry: entry.name,
                count,
                some,
            });
        }
    }
    let now = timestamp(tx.now());
    entry.delete_time = Some(now);
    entry.update_time = Some(now);
    entry.updater = caller.name();
    entry.etag = etag::of(&entry.uid, tx.revision());
    entries::put(&mut tx, &mut entry).await?;
    entries::index(&mut tx, None, &entry, &[]).await?;
    entries::set_unfinished(&mut tx, &entry.uid, true).await?;
    roll_out(registry, tx, entry).await
}

/// Reads one revision: `entries/{entry}/revisions/{number}`.
pub(crate) async fn get_revision(registry: &Registry, caller: &Caller, name: &str) -> Result<EntryRevision, Error> {
    let parsed = name.rsplit_once("/revisions/").and_then(|(entry, number)| {
        let number: i64 = number
            .parse()
            .ok()
            .filter(|parsed: &i64| *parsed > 0 && parsed.to_string() == number)?;
        id_in("entries", entry).map(|_| (entry, number))
    });
    let wrong = || Error::invalid("name", "must be a revision's name: entries/{entry}/revisions/{number}");
    let (entry, number) = parsed.ok_or_else(wrong)?;
    let mut tx = registry.db.read().await?;
    let entry = visible(&mut tx, caller, "name", entry).await?;
    revisions::get(&mut tx, &entry.uid, number)
        .await?
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
    let page = registry.page(binding, page_size, page_token)?;
    let before = page.after.unwrap_or(i64::MAX);
    let found = revisions::before(&mut tx, &entry.uid, before, page.limit()).await?;
    Ok(page.cut(found, |revision| revision.number, EntryRevision::encoded_len))
}

/// The entry of this name, if the caller may see it.
pub(crate) async fn visible(tx: &mut Tx, caller: &Caller, field: &str, name: &str) -> Result<Entry, Error> {
    let slug = slug_in("entries", field, name)?;
    entries::by_slug(tx, slug)
        .await?
        .filter(|entry| sees(caller, entry))
        .ok_or_else(|| Error::NotFound(name.to_owned()))
}

/// Whether they may know of it.
pub(super) fn sees(caller: &Caller, entry: &Entry) -> bool {
    caller.sees(entry.visibility.as_ref(), &entry.creator)
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

/// Writes an entry that somebody has changed, but not what it runs nor, but for its lifecycle, what it is found by.
pub(super) async fn finish(
    registry: &Registry,
    mut tx: Tx,
    caller: &Caller,
    mut entry: Entry,
) -> Result<Done<Entry>, Error> {
    entry.updater = caller.name();
    entry.update_time = Some(timestamp(tx.now()));
    entry.etag = etag::of(&entry.uid, tx.revision());
    entries::put(&mut tx, &mut entry).await?;
    let propagated = registry.commit(tx, None).await?;
    Ok(answer(registry, entry, propagated).await)
}
