//! Runtimes, by their owner: an installation, or an entry whose installations share one.

use contracts::registry::Runtime;
use prost::Message as _;

use super::{
    Object, Tx,
    document::{SCHEMA_VERSION, document},
    execute, rows,
};

/// The runtime of this owner.
pub(crate) async fn of(tx: &mut Tx, owner_uid: &str) -> sqlx::Result<Option<Runtime>> {
    const FIND: &str = "SELECT document, schema_version FROM runtimes WHERE owner_uid = $1";
    let found = rows!(tx, FIND, [owner_uid], row => document(row))?;
    Ok(found.into_iter().next())
}

/// Writes one, new or there already; sets its revision.
pub(crate) async fn put(tx: &mut Tx, runtime: &mut Runtime) -> sqlx::Result<()> {
    const PUT: &str = "INSERT INTO runtimes (owner_uid, document, schema_version, registry_revision) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (owner_uid) DO UPDATE SET document = excluded.document, schema_version = excluded.schema_version, \
        registry_revision = excluded.registry_revision";
    runtime.registry_revision = tx.revision();
    let document = runtime.encode_to_vec();
    execute!(
        tx,
        PUT,
        [&runtime.owner_uid, &document, SCHEMA_VERSION, runtime.registry_revision]
    )?;
    tx.put(Object::Runtime, &runtime.owner_uid, &document);
    Ok(())
}

/// Takes away that of an owner that goes; for watchers it goes with the owner.
pub(crate) async fn remove(tx: &mut Tx, owner_uid: &str) -> sqlx::Result<()> {
    execute!(tx, "DELETE FROM runtimes WHERE owner_uid = $1", [owner_uid]).map(drop)
}
