//! Gateways and agents that list no tools of servers, but two of their own: `search_tools`, which finds those, and `call_tool`, which calls one.
//! A client that knows the name of a tool can call it by that, too.

mod arguments;
mod find;
mod shown;

use std::borrow::Cow;

use super::{
    params::Parts,
    rpc::{INVALID_PARAMS, RpcError},
    visit::Visit,
};
use crate::{
    calls::Visitor,
    domain::{CALL_TOOL, OwnTools, SEARCH_TOOLS},
    json,
    listing::Use,
    resolve,
    snapshot::Snapshot,
};
use arguments::{CallArguments, SearchArguments};
pub(super) use shown::{fingerprint, listed};

/// Tools whose names are proposed in place of one that does not exist.
const PROPOSED: usize = 3;

/// What a `tools/call` is about.
pub(super) enum Addressed<'a> {
    /// The tool of this exposed name.
    Tool(Named<'a>),
    /// The gateway's own: the result.
    Answered(Vec<u8>),
}

/// A tool that is called.
pub(super) struct Named<'a> {
    /// The exposed name.
    pub(super) name: Cow<'a, str>,
    /// What it is called with.
    pub(super) parts: Parts<'a>,
    /// Whether the client called it by this name, rather than by `call_tool`.
    pub(super) directly: bool,
}

impl Visit {
    /// What a `tools/call` with these parameters is about.
    pub(super) async fn addressed<'a>(
        &self,
        visitor: &Visitor<'_>,
        parts: Parts<'a>,
    ) -> Result<Addressed<'a>, RpcError> {
        let name = json::unescape(parts.key);
        let name = name.ok_or_else(|| RpcError::new(INVALID_PARAMS, "params.name must name a tool"))?;
        match &*name {
            SEARCH_TOOLS if self.who.consumer.searched => {
                let result = match SearchArguments::parse(parts.arguments()) {
                    Ok(wanted) => Box::pin(self.find(visitor, &wanted)).await?,
                    Err(what) => arguments::refused(SEARCH_TOOLS, &what),
                };
                Ok(Addressed::Answered(result))
            }
            CALL_TOOL if self.who.consumer.searched => match CallArguments::parse(parts.arguments()) {
                Ok(call) => Box::pin(self.called(visitor, call, parts)).await,
                Err(what) => Ok(Addressed::Answered(arguments::refused(CALL_TOOL, &what))),
            },
            _ => Ok(Addressed::Tool(Named {
                name,
                parts,
                directly: true,
            })),
        }
    }

    /// The call that `call_tool` stands for, as if the client had made it by name.
    async fn called<'a>(
        &self,
        visitor: &Visitor<'_>,
        call: CallArguments<'a>,
        mut parts: Parts<'a>,
    ) -> Result<Addressed<'a>, RpcError> {
        let CallArguments { name, key, arguments } = call;
        let Visitor { caller, consumer, .. } = *visitor;
        let has = |snapshot: &Snapshot, own: &OwnTools| {
            resolve::has_tool(snapshot, caller, consumer, &name, Some(own)).map_err(RpcError::not_listed)
        };
        let mut snapshot = self.at.mcp.store.load().map_err(RpcError::not_listed)?;
        let mut own = self.at.mcp.calls.known_own_tools(visitor);
        let mut is_known = has(&snapshot, &own)?;
        if !is_known {
            // A server that takes long to list its tools keeps nobody waiting who calls those of others.
            own = self.at.mcp.calls.own_tools(visitor).await;
            snapshot = self.at.mcp.store.load().map_err(RpcError::not_listed)?;
            is_known = has(&snapshot, &own)?;
        }
        if !is_known {
            let listings = &self.at.mcp.listings;
            let listing = listings.of(&snapshot, caller, consumer, Some(own), Use::Search);
            let listing = listing.await.map_err(RpcError::not_listed)?;
            let proposed = listing.nearest(&name, PROPOSED).await;
            return Ok(Addressed::Answered(arguments::unknown(&name, &proposed)));
        }
        parts.key = key;
        parts.params.retain(|(name, _)| *name != "arguments");
        parts.params.extend(arguments.map(|arguments| ("arguments", arguments)));
        Ok(Addressed::Tool(Named {
            name,
            parts,
            directly: false,
        }))
    }
}
