//! Definitions of tools, and which entries have them.

use contracts::registry::{FeatureDefinition, FeatureKind, FeatureRef, FeatureSet};
use integration_tests::Result;
use prost::Message as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Plan, SCHEMA_VERSION, entries};
use crate::database::bulk::{Bulk, row};

/// The number of tools of an entry. Definitions are shared: each entry has two that the previous one does not have.
const TOOLS: usize = 10;

fn name(definition: usize) -> String {
    format!("tool_{definition:05}")
}

/// Hash and JSON of the n-th definition, of about 700 bytes.
pub(super) fn definition(index: usize) -> (String, String) {
    let text = "Searches the records that the caller may see and gives those that match, newest first. ".repeat(3);
    let json = json!({
        "name": name(index),
        "description": text,
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "Words that a record must have, or a quoted phrase."},
                "limit": {"type": "integer", "minimum": 1, "maximum": 100},
                "after": {"type": "string", "format": "date-time"},
            },
            "required": ["query"],
        },
    })
    .to_string();
    (hex::encode(Sha256::digest(&json)), json)
}

/// The tools of an entry; none if it was never installed.
pub(super) fn set(plan: &Plan, entry: usize) -> FeatureSet {
    let count = match entry {
        entries::RICH => entries::RICH_TOOLS,
        _ if entry == plan.moving() => entries::MOVING_TOOLS,
        _ if plan.is_draft(entry) => 0,
        _ => TOOLS,
    };
    let mut features: Vec<_> = (0..count)
        .map(|index| {
            let definition = (entry * 2 + index) % plan.size.definitions;
            FeatureRef {
                name: name(definition),
                definition_hash: plan.definitions[definition].0.clone(),
            }
        })
        .collect();
    features.sort_by(|a, b| a.name.cmp(&b.name));
    let mut set = FeatureSet {
        hash: String::new(),
        kind: FeatureKind::Tool.into(),
        features,
    };
    if count > 0 {
        set.hash = hex::encode(Sha256::digest(set.encode_to_vec()));
    }
    set
}

impl Plan {
    /// The tools of an entry. The hash is empty if there are none.
    pub(super) fn set(&self, entry: usize) -> &FeatureSet {
        &self.sets[entry]
    }
}

pub(super) async fn add(plan: &Plan, bulk: &mut Bulk) -> Result<usize> {
    const COLUMNS: &str = "hash, document, schema_version, registry_revision";
    let mut rows = bulk
        .add(
            "feature_definitions",
            COLUMNS,
            plan.definitions.iter().map(|(hash, json)| {
                let document = FeatureDefinition {
                    hash: hash.clone(),
                    definition_json: json.clone(),
                };
                row![
                    hash.as_str(),
                    document.encode_to_vec(),
                    SCHEMA_VERSION,
                    plan.next_revision()
                ]
            }),
        )
        .await?;
    let sets = || plan.sets.iter().filter(|set| !set.hash.is_empty());
    rows += bulk
        .add(
            "feature_sets",
            COLUMNS,
            sets().map(|set| {
                row![
                    set.hash.as_str(),
                    set.encode_to_vec(),
                    SCHEMA_VERSION,
                    plan.next_revision()
                ]
            }),
        )
        .await?;
    let features = sets().flat_map(|set| set.features.iter().map(move |feature| (set, feature)));
    rows += bulk
        .add(
            "feature_set_features",
            "set_hash, name, definition_hash",
            features.map(|(set, feature)| {
                row![
                    set.hash.as_str(),
                    feature.name.as_str(),
                    feature.definition_hash.as_str()
                ]
            }),
        )
        .await?;
    Ok(rows)
}
