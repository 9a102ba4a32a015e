//! Tools that the caller's own server has, and that its entry is not known to have.
//!
//! A person's account may have other tools than those that the entry shows everybody, and has new ones first: what a person's own installation
//! lists does not become what others see. Nor does what a server lists to one client alone. Where all tools of the entry are assigned, these are among
//! them.

use std::sync::Arc;

use super::{access::Entered, choose};
use crate::{
    domain::ToolSet,
    route::{Beside, More},
};

/// Sorted by exposed name. Takes no time for the tools of servers that have just those of their entries.
pub(super) fn routes<'a>(entered: &Entered<'a>) -> Vec<Beside<'a>> {
    let Entered { snapshot, table, .. } = *entered;
    let mut more = Vec::new();
    for source in table.whole() {
        let Some(entry) = entered.entry(source) else { continue };
        let Some(installation) = choose::installation(entered, source) else {
            continue;
        };
        let known = entry.tools.as_ref().and_then(|known| snapshot.tools(known));
        let is_known = |tool: &Arc<str>| known.is_some_and(|known| known.hash(tool).is_some());
        let tools: Vec<&Arc<str>> = match (entered.own_tools(source, installation), &installation.tools) {
            (Some(own), _) => own.names().filter(|tool| !is_known(tool)).collect(),
            (None, Some(own)) if entry.tools.as_ref() != Some(own) => {
                let own = snapshot.tools(own).into_iter().flat_map(ToolSet::names);
                own.filter(|tool| !is_known(tool)).collect()
            }
            _ => continue,
        };
        more.push(More {
            source,
            prefix: (!entered.consumer.omit_entry_prefix).then_some(&*entry.slug),
            tools,
        });
    }
    table.beside(&more)
}
