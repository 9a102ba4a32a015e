//! Tool definitions, kept once each, and the sets of entries and installations.

use std::collections::BTreeSet;

use contracts::registry::Tool;
use hex::encode;
use sha2::{Digest as _, Sha256};

use super::{Object, Tx, load, on};

/// The hash under which a definition is kept.
pub(crate) fn hash(definition_json: &str) -> String {
    encode(Sha256::digest(definition_json))
}

/// One definition, exactly as a server gave it.
pub(crate) async fn definition(tx: &mut Tx, hash: &str) -> sqlx::Result<Option<String>> {
    const READ: &str = "SELECT definition FROM tool_definitions WHERE hash = $1";
    on!(tx, c => sqlx::query_scalar(READ).bind(hash).fetch_optional(&mut *c).await)
}

/// Makes these the tools of an entry or an installation; says whether that changed anything.
pub(crate) async fn put_set(tx: &mut Tx, owner_uid: &str, tools: &[Tool]) -> sqlx::Result<bool> {
    const KEEP: &str =
        "INSERT INTO tool_definitions (hash, definition, revision) VALUES ($1, $2, $3) ON CONFLICT (hash) DO NOTHING";
    const SET: &str = "INSERT INTO tool_sets (owner_uid, revision) VALUES ($1, $2) ON CONFLICT (owner_uid) DO NOTHING";
    const ADD: &str = "INSERT INTO tool_set_tools (owner_uid, tool, definition_hash) VALUES ($1, $2, $3)";
    let mut wanted: Vec<(String, &Tool)> = tools.iter().map(|tool| (hash(&tool.definition_json), tool)).collect();
    wanted.sort_by(|(_, a), (_, b)| a.tool.cmp(&b.tool));
    let known = load::tool_set(tx, owner_uid).await?;
    if let Some(known) = &known {
        let known = known
            .tools
            .iter()
            .map(|tool| (tool.tool.as_str(), tool.definition_hash.as_str()));
        if known.eq(wanted.iter().map(|(hash, tool)| (tool.tool.as_str(), hash.as_str()))) {
            return Ok(false);
        }
    }
    let revision = tx.revision();
    let left = clear(tx, owner_uid).await?;
    on!(tx, c => sqlx::query(SET).bind(owner_uid).bind(revision).execute(&mut *c).await.map(drop))?;
    for (hash, tool) in &wanted {
        let added = on!(tx, c => sqlx::query(KEEP).bind(hash).bind(&tool.definition_json).bind(revision)
            .execute(&mut *c).await.map(|done| done.rows_affected()))?;
        if added > 0 {
            tx.changed(Object::ToolDefinition, hash).await?;
        }
        on!(tx, c => sqlx::query(ADD).bind(owner_uid).bind(&tool.tool).bind(hash).execute(&mut *c).await.map(drop))?;
    }
    forget_unused(tx, &left).await?;
    tx.changed(Object::ToolSet, owner_uid).await?;
    Ok(true)
}

/// Takes away the set of an entry or an installation that goes.
pub(crate) async fn remove_set(tx: &mut Tx, owner_uid: &str) -> sqlx::Result<()> {
    let left = clear(tx, owner_uid).await?;
    let removed = on!(tx, c => sqlx::query("DELETE FROM tool_sets WHERE owner_uid = $1").bind(owner_uid)
        .execute(&mut *c).await.map(|done| done.rows_affected()))?;
    if removed > 0 {
        tx.changed(Object::ToolSet, owner_uid).await?;
    }
    forget_unused(tx, &left).await
}

/// Empties a set; the hashes that were in it.
async fn clear(tx: &mut Tx, owner_uid: &str) -> sqlx::Result<BTreeSet<String>> {
    const CLEAR: &str = "DELETE FROM tool_set_tools WHERE owner_uid = $1 RETURNING definition_hash";
    let hashes: Vec<String> = on!(tx, c => sqlx::query_scalar(CLEAR).bind(owner_uid).fetch_all(&mut *c).await)?;
    Ok(hashes.into_iter().collect())
}

/// Forgets those of these definitions that no set names any more.
async fn forget_unused(tx: &mut Tx, hashes: &BTreeSet<String>) -> sqlx::Result<()> {
    const FORGET: &str = "DELETE FROM tool_definitions WHERE hash = $1 \
        AND NOT EXISTS (SELECT 1 FROM tool_set_tools t WHERE t.definition_hash = $1)";
    for hash in hashes {
        let forgotten =
            on!(tx, c => sqlx::query(FORGET).bind(hash).execute(&mut *c).await.map(|done| done.rows_affected()))?;
        if forgotten > 0 {
            tx.changed(Object::ToolDefinition, hash).await?;
        }
    }
    Ok(())
}
