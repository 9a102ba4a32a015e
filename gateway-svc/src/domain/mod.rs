//! The types that the stations of a call share. Knows no transport.

mod caller;
mod consumer;
mod definition;
mod entry;
mod error;
mod installation;
mod labels;
mod link;
mod revision;
mod running;
mod shown_by;
mod tool;

pub(crate) use caller::{Caller, CallerToken, CallerUser, GatewayToken, Subject};
pub(crate) use consumer::{Audience, Consumer, ConsumerKind, ConsumerRef};
pub(crate) use definition::Definition;
pub(crate) use entry::{Entry, Lifecycle};
pub(crate) use error::{CallError, CredentialFault, FREE, RESTARTED, Repair, RepairReason, UpstreamFault};
pub(crate) use installation::{Condition, ConditionState, Installation, Owner};
pub(crate) use labels::{Label, Labels};
pub(crate) use link::Links;
pub(crate) use revision::{CredentialKind, Endpoint, FixedHeader, HeaderSource, RequiredToken, Revision};
pub(crate) use running::{Running, Runtime, Shared};
pub(crate) use shown_by::shown_by;
pub(crate) use tool::{
    CALL_TOOL, DiscoveredTool, DiscoveredTools, ExposedTool, ListedTool, ListedTools, OwnTools, SEARCH_TOOLS, ToolSet,
    ToolsSince,
};
