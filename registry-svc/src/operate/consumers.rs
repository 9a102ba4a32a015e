//! MCP gateways and agents: the same operations, on the former's message.

use contracts::registry::{Agent, AssignmentMode, Gateway};
use prost_types::FieldMask;

use super::{Done, Registry, creation::Creation, slug_in, unchanged, visible_to};
use crate::{
    domain::{
        Caller, Error,
        consumer::{ConsumerKind, ConsumerSpec, apply_mask, from_agent, into_agent},
        etag,
        field_mask::check_size,
        label_revisions, new_uid,
        time::timestamp,
        visibility,
    },
    store::{
        Tx,
        consumers::{self, object},
        requests::{Replay, Request},
    },
};

/// What somebody asks to create.
#[derive(Debug)]
pub(crate) struct Requested {
    pub(crate) slug: String,
    pub(crate) message: Option<Gateway>,
    pub(crate) request_id: String,
}

/// Adds one.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    kind: ConsumerKind,
    requested: Requested,
) -> Result<Done<Gateway>, Error> {
    caller.require_admin()?;
    let mut creation = begin(caller, kind, &requested);
    creation.require_slug(&format!("{}_id", kind.field()), &requested.slug);
    let spec = creation.parse(kind.field(), requested.message, |message| {
        ConsumerSpec::parse(kind, message)
    });
    let (spec, retry) = creation.finish(spec)?;
    let name = format!("{}/{}", kind.collection(), requested.slug);
    let mut tx = registry.write(caller.actor()).await?;
    if let Some(replay) = replayed(&mut tx, kind, &retry).await? {
        let consumer = consumers::by_uid(&mut tx, kind, &replay.resource_uid).await?;
        let consumer = consumer.filter(|one| caller.sees(one.visibility.as_ref(), &one.creator));
        let revision = consumer.ok_or(Error::NotFound(name))?.registry_revision;
        return unchanged(registry, tx, object(kind), revision, replay.answer).await;
    }
    if consumers::find(&mut tx, kind, &requested.slug).await?.is_some() {
        return Err(Error::AlreadyExists(name));
    }
    if consumers::is_being_forgotten(&mut tx, kind, &requested.slug).await? {
        return Err(Error::BeingDeleted(name));
    }
    let teams = teams_of(&mut tx, kind, &spec).await?;
    let now = Some(timestamp(tx.now()));
    let mut consumer = Gateway {
        name,
        uid: new_uid(),
        create_time: now,
        update_time: now,
        creator: caller.name(),
        label_revisions: label_revisions::begin(&spec.message().labels, tx.revision()),
        ..spec.into_message()
    };
    consumers::put(&mut tx, kind, &mut consumer, &teams).await?;
    match kind {
        ConsumerKind::Gateway => retry.made(&mut tx, &consumer.uid, &consumer).await?,
        ConsumerKind::Agent => {
            retry
                .made(&mut tx, &consumer.uid, &into_agent(consumer.clone()))
                .await?
        }
    }
    Ok((consumer, registry.commit(tx, None).await?))
}

async fn replayed(tx: &mut Tx, kind: ConsumerKind, retry: &Request<'_>) -> Result<Option<Replay<Gateway>>, Error> {
    if kind == ConsumerKind::Gateway {
        return retry.replayed(tx).await;
    }
    let replay = retry.replayed::<Agent>(tx).await?;
    Ok(replay.map(|replay| Replay {
        resource_uid: replay.resource_uid,
        answer: from_agent(replay.answer),
    }))
}

/// The uids of the teams that its visibility names.
async fn teams_of(tx: &mut Tx, kind: ConsumerKind, spec: &ConsumerSpec) -> Result<Vec<String>, Error> {
    visible_to(tx, kind.field(), visibility::teams(spec.message().visibility.as_ref())).await
}

fn begin<'a>(caller: &'a Caller, kind: ConsumerKind, requested: &Requested) -> Creation<'a> {
    let mut message = requested.message.clone().unwrap_or_default();
    let labels = std::mem::take(&mut message.labels);
    message.name.clone_from(&requested.slug);
    let rpc = match kind {
        ConsumerKind::Gateway => "CreateGateway",
        ConsumerKind::Agent => "CreateAgent",
    };
    Creation::new(caller, rpc, &requested.request_id, &[&labels], &message)
}

/// Reads one.
pub(crate) async fn get(
    registry: &Registry,
    caller: &Caller,
    kind: ConsumerKind,
    name: &str,
) -> Result<Gateway, Error> {
    let mut tx = registry.db.read().await?;
    visible(&mut tx, caller, kind, "name", name).await
}

/// Lists those the caller may see.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    kind: ConsumerKind,
    page_size: i32,
    page_token: &str,
) -> Result<(Vec<Gateway>, String), Error> {
    let binding = format!("List {} {}", kind.collection(), caller.uid);
    let page = registry.page(binding, page_size, page_token)?;
    let mut tx = registry.db.read().await?;
    page.of(&mut tx, &consumers::list(caller, kind), |listed| {
        consumers::listed(kind, listed)
    })
    .await
}

/// Changes one.
pub(crate) async fn update(
    registry: &Registry,
    caller: &Caller,
    kind: ConsumerKind,
    message: Option<Gateway>,
    mask: Option<&FieldMask>,
) -> Result<Done<Gateway>, Error> {
    check_size(mask)?;
    let change = message.ok_or_else(|| Error::invalid(kind.field(), "must be set"))?;
    let field = format!("{}.name", kind.field());
    let allowed = async |tx: &mut Tx| administered(tx, caller, kind, &field, &change.name, &change.etag).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let current = allowed(&mut tx).await?;
    let spec = ConsumerSpec::of(current.clone());
    let next = ConsumerSpec::parse(kind, apply_mask(spec.message(), change, mask)?)?;
    if next == spec {
        return unchanged(registry, tx, object(kind), current.registry_revision, current).await;
    }
    let teams = teams_of(&mut tx, kind, &next).await?;
    let (was, becomes) = (spec.message(), next.message());
    let label_revisions = match becomes.assignment_mode() {
        AssignmentMode::Automatic if was.assignment_mode() != AssignmentMode::Automatic => {
            label_revisions::begin(&becomes.labels, tx.revision())
        }
        _ => label_revisions::follow(&was.labels, &current.label_revisions, &becomes.labels, tx.revision()),
    };
    let mut consumer = Gateway {
        name: current.name,
        uid: current.uid,
        create_time: current.create_time,
        update_time: Some(timestamp(tx.now())),
        creator: current.creator,
        label_revisions,
        ..next.into_message()
    };
    consumers::put(&mut tx, kind, &mut consumer, &teams).await?;
    Ok((consumer, registry.commit(tx, None).await?))
}

/// Deletes one, with its assignments.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    kind: ConsumerKind,
    name: &str,
    etag: &str,
) -> Result<Done<Gateway>, Error> {
    let allowed = async |tx: &mut Tx| administered(tx, caller, kind, "name", name, etag).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let mut consumer = allowed(&mut tx).await?;
    consumers::delete(&mut tx, kind, &consumer).await?;
    consumer.registry_revision = tx.revision();
    let propagated = registry.commit(tx, None).await?;
    registry.rollouts.wake();
    Ok((consumer, propagated))
}

/// The one of this name, if the caller may see it.
pub(super) async fn visible(
    tx: &mut Tx,
    caller: &Caller,
    kind: ConsumerKind,
    field: &str,
    name: &str,
) -> Result<Gateway, Error> {
    let found = consumers::find(tx, kind, slug_in(kind.collection(), field, name)?).await?;
    found
        .filter(|one| caller.sees(one.visibility.as_ref(), &one.creator))
        .ok_or_else(|| Error::NotFound(name.to_owned()))
}

async fn administered(
    tx: &mut Tx,
    caller: &Caller,
    kind: ConsumerKind,
    field: &str,
    name: &str,
    given: &str,
) -> Result<Gateway, Error> {
    let consumer = visible(tx, caller, kind, field, name).await?;
    caller.require_admin()?;
    etag::check(given, &consumer.etag, name)?;
    Ok(consumer)
}
