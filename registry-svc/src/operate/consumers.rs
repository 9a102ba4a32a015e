//! MCP gateways and agents: the same operations, on the former's message.

use contracts::registry::Gateway;
use prost_types::FieldMask;
use service_kit::status::Violations;
use uuid::Uuid;

use super::{Done, require_request, slug_in, unchanged, visible_to, written};
use crate::{
    api::{Registry, paging::Page},
    domain::{
        Caller, Error,
        consumer::{ConsumerKind, ConsumerSpec, apply_mask, from_agent, output_free},
        etag,
        text::{SLUG_RULE, is_slug},
        visibility,
    },
    store::{Tx, consumers, load, requests::Request},
};

/// What somebody asks to create.
#[derive(Debug)]
pub(crate) struct Creation {
    pub(crate) slug: String,
    pub(crate) message: Option<Gateway>,
    pub(crate) request_id: String,
}

/// Adds one.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    kind: ConsumerKind,
    creation: Creation,
) -> Result<Done<Gateway>, Error> {
    caller.require_admin()?;
    let mut violations = Violations::new();
    let retry = require_request(&mut violations, retry(&caller.uid, kind, &creation));
    let name = format!("{}/{}", kind.collection(), creation.slug);
    if !is_slug(&creation.slug) {
        violations.add(format!("{}_id", kind.field()), SLUG_RULE);
    }
    let spec = match creation.message.map(|message| ConsumerSpec::parse(kind, message)) {
        None => {
            violations.add(kind.field(), "must be set");
            None
        }
        Some(Ok(spec)) => Some(spec),
        Some(Err(more)) => {
            more.iter()
                .for_each(|(field, description)| violations.add(field, description));
            None
        }
    };
    let (Some(spec), Some(retry), true) = (spec, retry, violations.is_empty()) else {
        return Err(violations.into());
    };
    let mut tx = registry.db.write().await?;
    if let Some(uid) = retry.replayed(&mut tx).await? {
        let consumer = find(&mut tx, kind, &uid).await?.ok_or(Error::NotFound(name))?;
        return unchanged(registry, tx, consumer).await;
    }
    if load::consumer_uid(&mut tx, kind as i64, &creation.slug)
        .await?
        .is_some()
    {
        return Err(Error::AlreadyExists(name));
    }
    let teams = visible_to(
        &mut tx,
        kind.field(),
        visibility::teams(spec.message().visibility.as_ref()),
    )
    .await?;
    let (uid, now) = (Uuid::new_v4().to_string(), registry.clock.now_micros());
    consumers::insert(&mut tx, kind, &uid, &creation.slug, &spec, &caller.uid, now).await?;
    consumers::set_teams(&mut tx, &uid, &teams).await?;
    retry.made(&mut tx, &uid, now).await?;
    finish(registry, tx, kind, &uid).await
}

fn retry<'a>(caller: &'a str, kind: ConsumerKind, creation: &Creation) -> Option<Request<'a>> {
    let mut message = creation.message.clone().unwrap_or_default();
    let labels = std::mem::take(&mut message.labels);
    message.name.clone_from(&creation.slug);
    let rpc = match kind {
        ConsumerKind::Gateway => "CreateGateway",
        ConsumerKind::Agent => "CreateAgent",
    };
    Request::new(caller, rpc, &creation.request_id, &[&labels], &message)
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
    let page = Page::parse(&registry.pages, binding, page_size, page_token)?;
    let mut tx = registry.db.read().await?;
    let mut after = (page.start().0, page.start().1.to_owned());
    let mut found: Vec<((i64, String), Gateway)> = Vec::new();
    while found.len() <= page.size {
        let positions = consumers::uids_after(&mut tx, kind, (after.0, &after.1), page.limit()).await?;
        let Some(last) = positions.last() else { break };
        after = last.clone();
        for position in positions {
            let consumer = find(&mut tx, kind, &position.1).await?;
            if let Some(consumer) = consumer.filter(|one| caller.sees(one.visibility.as_ref(), &one.creator)) {
                found.push((position, consumer));
            }
        }
    }
    let next = page.cut(&registry.pages, &mut found, |(position, _)| position.clone());
    Ok((found.into_iter().map(|(_, consumer)| consumer).collect(), next))
}

/// Changes one.
pub(crate) async fn update(
    registry: &Registry,
    caller: &Caller,
    kind: ConsumerKind,
    message: Option<Gateway>,
    mask: Option<&FieldMask>,
) -> Result<Done<Gateway>, Error> {
    let change = message.ok_or_else(|| Error::invalid(kind.field(), "must be set"))?;
    let mut tx = registry.db.write().await?;
    let field = format!("{}.name", kind.field());
    let current = administered(&mut tx, caller, kind, &field, &change.name, &change.etag).await?;
    let spec = ConsumerSpec::from_stored(output_free(current.clone()));
    let next = ConsumerSpec::parse(kind, apply_mask(spec.message(), change, mask)?)?;
    if next == spec {
        return unchanged(registry, tx, current).await;
    }
    let teams = visible_to(
        &mut tx,
        kind.field(),
        visibility::teams(next.message().visibility.as_ref()),
    )
    .await?;
    consumers::update(&mut tx, kind, &current.uid, &next, registry.clock.now_micros()).await?;
    consumers::set_teams(&mut tx, &current.uid, &teams).await?;
    finish(registry, tx, kind, &current.uid).await
}

/// Deletes one, with its assignments.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    kind: ConsumerKind,
    name: &str,
    etag: &str,
) -> Result<Done<Gateway>, Error> {
    let mut tx = registry.db.write().await?;
    let current = administered(&mut tx, caller, kind, "name", name, etag).await?;
    consumers::delete(&mut tx, kind, &current.uid, registry.clock.now_micros()).await?;
    let revision = tx.revision();
    let propagated = registry.commit(tx, None).await?;
    Ok((Gateway { revision, ..current }, propagated))
}

/// The one of this name, if the caller may see it.
pub(super) async fn visible(
    tx: &mut Tx,
    caller: &Caller,
    kind: ConsumerKind,
    field: &str,
    name: &str,
) -> Result<Gateway, Error> {
    let slug = slug_in(kind.collection(), field, name)?;
    let found = match load::consumer_uid(tx, kind as i64, slug).await? {
        Some(uid) => find(tx, kind, &uid).await?,
        None => None,
    };
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

async fn find(tx: &mut Tx, kind: ConsumerKind, uid: &str) -> Result<Option<Gateway>, Error> {
    Ok(match kind {
        ConsumerKind::Gateway => load::gateway(tx, uid).await?,
        ConsumerKind::Agent => load::agent(tx, uid).await?.map(from_agent),
    })
}

async fn finish(registry: &Registry, mut tx: Tx, kind: ConsumerKind, uid: &str) -> Result<Done<Gateway>, Error> {
    let consumer = written(find(&mut tx, kind, uid).await?)?;
    let propagated = registry.commit(tx, None).await?;
    Ok((consumer, propagated))
}
