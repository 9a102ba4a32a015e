//! What the registry does: each operation checks permission and fields, then reads, applies the rules of the domain and writes in one
//! transaction.

pub(crate) mod access;
pub(crate) mod assignments;
pub(crate) mod consumers;
mod creation;
pub(crate) mod entries;
pub(crate) mod gateway_tokens;
pub(crate) mod housekeeping;
pub(crate) mod installations;
pub(crate) mod lifecycle;
mod paging;
pub(crate) mod propagation;
mod registry;
pub(crate) mod report;
pub(crate) mod rollout;
pub(crate) mod runtime_lease;
pub(crate) mod teams;
pub(crate) mod tools;
pub(crate) mod users;
pub(crate) mod watch;

use crate::{
    domain::{
        Error,
        text::{id_in, is_slug, is_uuid},
    },
    store::{self, Object, Tx},
};
use propagation::Propagated;

pub(crate) use registry::Registry;

/// What a mutation answers: the resource, and how far the change has come.
pub(crate) type Done<T> = (T, Propagated);

/// The slug in `{collection}/{slug}`; INVALID_ARGUMENT for anything else.
fn slug_in<'a>(collection: &str, field: &str, name: &'a str) -> Result<&'a str, Error> {
    id_in(collection, name).filter(|slug| is_slug(slug)).ok_or_else(|| {
        Error::invalid(
            field,
            format!("must be a resource name: {collection}/ and the id, of a-z, 0-9 and -"),
        )
    })
}

/// The uid in `{collection}/{uid}`; INVALID_ARGUMENT for anything else.
fn uid_in<'a>(collection: &str, field: &str, name: &'a str) -> Result<&'a str, Error> {
    id_in(collection, name).filter(|uid| is_uuid(uid)).ok_or_else(|| {
        Error::invalid(
            field,
            format!("must be a resource name: {collection}/ and the uid, a UUID"),
        )
    })
}

/// The uids of the teams that a visibility names; a violation for one that does not exist.
async fn visible_to(tx: &mut Tx, field: &str, names: &[String]) -> Result<Vec<String>, Error> {
    store::teams::uids(tx, names).await?.map_err(|index| {
        Error::invalid(
            &format!("{field}.visibility.teams.teams[{index}]"),
            format!("{} does not exist", names[index]),
        )
    })
}

/// Ends a transaction in which nothing changed: the answer waits until the object, as it is, is in force everywhere.
async fn unchanged<T>(
    registry: &Registry,
    mut tx: Tx,
    object: Object,
    registry_revision: i64,
    resource: T,
) -> Result<Done<T>, Error> {
    tx.stands_at(object, registry_revision);
    let propagated = registry.commit(tx, None).await?;
    Ok((resource, propagated))
}

/// What was just written must be there.
fn written<T>(found: Option<T>) -> Result<T, Error> {
    found.ok_or_else(|| Error::Internal("a row is missing in the transaction that wrote it".to_owned()))
}
