//! The steps of an entry's life.

use contracts::registry::{Entry, EntryLifecycle};

use super::{
    Done, Registry,
    entries::{administered, answer, finish},
};
use crate::{
    domain::{
        Caller, Error,
        entry::{lifecycle_word, may_become},
        label_revisions,
    },
    store::{Object, Tx, entries::index_lifecycle},
};

/// Moves an entry to another lifecycle, if that step exists. An entry that is in it already stays as it is, so that a retry succeeds.
pub(crate) async fn step(
    registry: &Registry,
    caller: &Caller,
    name: &str,
    etag: &str,
    to: EntryLifecycle,
) -> Result<Done<Entry>, Error> {
    let allowed = async |tx: &mut Tx| administered(tx, caller, "name", name, etag).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let mut entry = allowed(&mut tx).await?;
    if entry.lifecycle() == to {
        tx.stands_at(Object::Entry, entry.registry_revision);
        let propagated = registry.commit(tx, None).await?;
        return Ok(answer(registry, entry, propagated).await);
    }
    if !may_become(entry.lifecycle(), to) {
        let (from, to) = (lifecycle_word(entry.lifecycle()), lifecycle_word(to));
        return Err(Error::IllegalTransition(format!(
            "{name} is {from}, so it cannot become {to}"
        )));
    }
    if entry.lifecycle() == EntryLifecycle::Draft {
        entry.label_revisions = label_revisions::begin(&entry.labels, tx.revision());
    }
    entry.set_lifecycle(to);
    index_lifecycle(&mut tx, &entry).await?;
    finish(registry, tx, caller, entry).await
}
