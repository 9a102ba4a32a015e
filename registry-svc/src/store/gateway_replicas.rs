//! Gateways that peers can reach: watched, so that they find each other.

use contracts::registry::GatewayReplica;
use prost::Message as _;
use sqlx::Row as _;

use super::{
    Object, Tx,
    document::{SCHEMA_VERSION, document},
    execute, rows,
};

/// All of them.
pub(crate) async fn all(tx: &mut Tx) -> sqlx::Result<Vec<GatewayReplica>> {
    const ALL: &str = "SELECT document, schema_version FROM gateway_replicas ORDER BY instance";
    rows!(tx, ALL, [], row => document::<GatewayReplica, _>(row))
}

/// Adds one, or changes its address.
pub(crate) async fn put(tx: &mut Tx, replica: &GatewayReplica) -> sqlx::Result<()> {
    const PUT: &str = "INSERT INTO gateway_replicas (instance, document, schema_version, registry_revision) \
        VALUES ($1, $2, $3, $4) ON CONFLICT (instance) DO UPDATE SET document = excluded.document, \
        schema_version = excluded.schema_version, registry_revision = excluded.registry_revision";
    let document = replica.encode_to_vec();
    let revision = tx.revision();
    execute!(tx, PUT, [&replica.instance, &document, SCHEMA_VERSION, revision])?;
    tx.put(Object::GatewayReplica, &replica.instance, &document);
    Ok(())
}

/// Removes one that is no longer connected.
pub(crate) async fn remove(tx: &mut Tx, instance: &str) -> sqlx::Result<()> {
    const REMOVE: &str = "DELETE FROM gateway_replicas WHERE instance = $1";
    if execute!(tx, REMOVE, [instance])? > 0 {
        tx.remove(Object::GatewayReplica, instance);
    }
    Ok(())
}

/// The instances of gateways that some replica knows to be connected, as the database of replicas has it at this moment.
pub(crate) async fn connected(tx: &mut Tx) -> sqlx::Result<Vec<String>> {
    const CONNECTED: &str = "SELECT instance FROM watchers WHERE workload = 'gateway-svc'";
    rows!(tx, CONNECTED, [], row => row.try_get(0))
}
