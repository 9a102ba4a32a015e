//! The tools of entries and installations, as discovered.

use contracts::registry::Tool;
use prost::Message as _;

use super::{Registry, entries, installations, paging::Page};
use crate::{
    domain::{Caller, Error},
    store::{Tx, entries::tool_set, features},
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
    let page = registry.page(binding, page_size, page_token)?;
    cut(&mut tx, &page, tool_set(&entry.discovered)).await
}

/// A page of the tools of an installation.
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
    let page = registry.page(binding, page_size, page_token)?;
    cut(&mut tx, &page, tool_set(&installation.discovered)).await
}

async fn cut(tx: &mut Tx, page: &Page<'_, String>, set_hash: &str) -> Result<(Vec<Tool>, String), Error> {
    let after = page.after.as_deref().unwrap_or_default();
    let tools = features::tools_after(tx, set_hash, after, page.limit()).await?;
    Ok(page.cut(tools, |tool| tool.tool.clone(), Tool::encoded_len))
}
