//! Definitions of tools, and sets of them: each kept once by hash, as long as something has it.

use std::collections::{BTreeMap, BTreeSet};

use contracts::registry::{FeatureDefinition, FeatureKind, FeatureRef, FeatureSet, Tool};
use hex::encode;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use sqlx::{QueryBuilder, Row as _};

use super::{
    Object, Tx,
    document::{SCHEMA_VERSION, document},
    execute, fitting, on, rows,
};
use crate::domain::Room;

/// Rows written by one statement.
const AT_ONCE: usize = 500;

/// The hash under which a definition is kept.
pub(crate) fn hash(definition_json: &str) -> String {
    encode(Sha256::digest(definition_json))
}

/// The set of these tools.
pub(crate) fn set_of(tools: &[Tool]) -> FeatureSet {
    let mut features: Vec<FeatureRef> = tools
        .iter()
        .map(|tool| FeatureRef {
            name: tool.tool.clone(),
            definition_hash: hash(&tool.definition_json),
        })
        .collect();
    features.sort_by(|a, b| a.name.cmp(&b.name));
    let mut set = FeatureSet {
        hash: String::new(),
        kind: FeatureKind::Tool.into(),
        features,
    };
    set.hash = encode(Sha256::digest(set.encode_to_vec()));
    set
}

/// Keeps a set with its definitions, unless it is kept already.
pub(crate) async fn keep(tx: &mut Tx, set: &FeatureSet, tools: &[Tool]) -> sqlx::Result<()> {
    const SET: &str = "INSERT INTO feature_sets (hash, document, schema_version, registry_revision) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (hash) DO NOTHING";
    const DEFINITION: &str = "INSERT INTO feature_definitions (hash, document, schema_version, registry_revision) ";
    let revision = tx.revision();
    let set_document = set.encode_to_vec();
    if execute!(tx, SET, [&set.hash, &set_document, SCHEMA_VERSION, revision])? == 0 {
        return Ok(());
    }
    tx.put(Object::FeatureSet, &set.hash, &set_document);
    let mut definitions: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for tool in tools {
        let definition = FeatureDefinition {
            hash: hash(&tool.definition_json),
            definition_json: tool.definition_json.clone(),
        };
        definitions.insert(definition.hash.clone(), definition.encode_to_vec());
    }
    let all: Vec<(&String, &Vec<u8>)> = definitions.iter().collect();
    for some in all.chunks(AT_ONCE) {
        let new: Vec<String> = on!(tx, c => {
            let mut insert = QueryBuilder::new(DEFINITION);
            insert.push_values(some, |mut row, (hash, document)| {
                row.push_bind(*hash).push_bind(*document).push_bind(SCHEMA_VERSION).push_bind(revision);
            });
            insert.push(" ON CONFLICT (hash) DO NOTHING RETURNING hash");
            insert.build_query_scalar().fetch_all(&mut *c).await
        })?;
        for hash in new {
            tx.put(Object::FeatureDefinition, &hash, &definitions[&hash]);
        }
    }
    for some in set.features.chunks(AT_ONCE) {
        on!(tx, c => {
            let mut insert = QueryBuilder::new("INSERT INTO feature_set_features (set_hash, name, definition_hash) ");
            insert.push_values(some, |mut row, feature| {
                row.push_bind(&set.hash).push_bind(&feature.name).push_bind(&feature.definition_hash);
            });
            insert.build().execute(&mut *c).await.map(drop)
        })?;
    }
    Ok(())
}

/// What a set has, sorted by name; nothing where none is kept under this hash.
pub(crate) async fn of(tx: &mut Tx, set_hash: &str) -> sqlx::Result<Vec<FeatureRef>> {
    const FIND: &str = "SELECT document, schema_version FROM feature_sets WHERE hash = $1";
    let found = rows!(tx, FIND, [set_hash], row => document::<FeatureSet, _>(row))?;
    Ok(found.into_iter().next().map(|set| set.features).unwrap_or_default())
}

/// Forgets a set that no entry and no installation has any more, and those of its definitions that no set holds. To be called
/// after the last one has got another. `''` is no set.
pub(crate) async fn release(tx: &mut Tx, set_hash: &str) -> sqlx::Result<()> {
    const USED: &str = "SELECT 1 FROM entries WHERE tool_set = $1 AND tool_set <> '' \
        UNION ALL SELECT 1 FROM installations WHERE tool_set = $1 AND tool_set <> '' LIMIT 1";
    const EMPTY: &str = "DELETE FROM feature_set_features WHERE set_hash = $1 RETURNING definition_hash";
    const FORGET_SET: &str = "DELETE FROM feature_sets WHERE hash = $1";
    const FORGET: &str = "DELETE FROM feature_definitions WHERE hash IN (";
    const UNUSED: &str = ") AND NOT EXISTS \
        (SELECT 1 FROM feature_set_features f WHERE f.definition_hash = feature_definitions.hash) RETURNING hash";
    if set_hash.is_empty() || !rows!(tx, USED, [set_hash], _row => Ok(()))?.is_empty() {
        return Ok(());
    }
    let held: BTreeSet<String> = rows!(tx, EMPTY, [set_hash], row => row.try_get::<String, _>("definition_hash"))?
        .into_iter()
        .collect();
    if execute!(tx, FORGET_SET, [set_hash])? == 0 {
        return Ok(());
    }
    tx.remove(Object::FeatureSet, set_hash);
    for some in held.into_iter().collect::<Vec<_>>().chunks(AT_ONCE) {
        let forgotten: Vec<String> = on!(tx, c => {
            let mut forget = QueryBuilder::new(FORGET);
            let mut list = forget.separated(", ");
            for hash in some {
                list.push_bind(hash);
            }
            forget.push(UNUSED);
            forget.build_query_scalar().fetch_all(&mut *c).await
        })?;
        for hash in forgotten {
            tx.remove(Object::FeatureDefinition, &hash);
        }
    }
    Ok(())
}

/// The statement of [`tools_after`].
pub(super) const AFTER: &str = "SELECT f.name, f.definition_hash, d.document, d.schema_version \
    FROM feature_set_features f JOIN feature_definitions d ON d.hash = f.definition_hash \
    WHERE f.set_hash = $1 AND f.name > $2 ORDER BY f.name LIMIT $3";

/// Up to `limit` tools of a set behind this name, with their definitions; fewer where they are too large for a page.
pub(crate) async fn tools_after(tx: &mut Tx, set_hash: &str, after: &str, limit: i64) -> sqlx::Result<Vec<Tool>> {
    fitting!(tx, Room::of_page(), sqlx::query(AFTER).bind(set_hash).bind(after).bind(limit), row => {
        let definition: FeatureDefinition = document(row)?;
        Ok(Tool {
            tool: row.try_get("name")?,
            definition_hash: definition.hash,
            definition_json: definition.definition_json,
        })
    }, tool => Tool::encoded_len(tool))
}
