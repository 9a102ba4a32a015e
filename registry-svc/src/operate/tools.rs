//! The tools of entries and installations, as discovered.

use contracts::registry::{ConditionStatus, ConditionType, Tool, ToolRef};

use super::{entries, installations};
use crate::{
    api::{Registry, paging::Page},
    domain::{Caller, Error},
    store::{Tx, load, tools},
};

/// A page of the tools of an entry.
pub(crate) async fn of_entry(
    registry: &Registry,
    caller: &Caller,
    parent: &str,
    page_size: i32,
    page_token: &str,
) -> Result<(Vec<Tool>, String), Error> {
    let mut tx = registry.db.read().await?;
    let entry = entries::visible(&mut tx, caller, "parent", parent).await?;
    let binding = format!("ListEntryTools {} {}", caller.uid, entry.uid);
    let page = Page::parse(&registry.pages, binding, page_size, page_token)?;
    let refs = load::tool_set(&mut tx, &entry.uid)
        .await?
        .map(|set| set.tools)
        .unwrap_or_default();
    cut(registry, &mut tx, &page, refs).await
}

/// A page of the tools of an installation: its own where they differ, else those of its entry once it has been discovered.
pub(crate) async fn of_installation(
    registry: &Registry,
    caller: &Caller,
    parent: &str,
    page_size: i32,
    page_token: &str,
) -> Result<(Vec<Tool>, String), Error> {
    let mut tx = registry.db.read().await?;
    let installation = installations::visible(&mut tx, caller, "parent", parent).await?;
    let binding = format!("ListInstallationTools {} {}", caller.uid, installation.uid);
    let page = Page::parse(&registry.pages, binding, page_size, page_token)?;
    let discovered = installation.conditions.iter().any(|condition| {
        condition.r#type() == ConditionType::ToolsDiscovered && condition.status() == ConditionStatus::True
    });
    let refs = match load::tool_set(&mut tx, &installation.uid).await? {
        Some(own) => own.tools,
        None if discovered => load::tool_set(&mut tx, &installation.entry_uid)
            .await?
            .map(|set| set.tools)
            .unwrap_or_default(),
        None => Vec::new(),
    };
    cut(registry, &mut tx, &page, refs).await
}

async fn cut(
    registry: &Registry,
    tx: &mut Tx,
    page: &Page<String>,
    mut refs: Vec<ToolRef>,
) -> Result<(Vec<Tool>, String), Error> {
    if let Some(after) = &page.after {
        refs.retain(|tool| tool.tool > *after);
    }
    let next = page.cut(&registry.pages, &mut refs, |tool| tool.tool.clone());
    let mut found = Vec::with_capacity(refs.len());
    for tool in refs {
        let definition_json = tools::definition(tx, &tool.definition_hash).await?.unwrap_or_default();
        found.push(Tool {
            tool: tool.tool,
            definition_hash: tool.definition_hash,
            definition_json,
        });
    }
    Ok((found, next))
}
