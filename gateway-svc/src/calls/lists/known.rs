//! The URIs that a client knows what servers have by.

use std::sync::Arc;

use super::item::ListKind;
use super::listing::{Listed, Listing, Of, Whose};
use crate::resolve::Reached;

/// What a client was shown of resources.
#[derive(Clone, Debug, Default)]
pub(in crate::calls) struct Known {
    pub(super) resources: Option<Arc<Listing>>,
    pub(super) templates: Option<Arc<Listing>>,
}

impl Known {
    /// What is known without asking any server: which resources show their tools.
    pub(in crate::calls) fn of_tools(reached: Vec<Reached>) -> Self {
        let unasked = reached
            .into_iter()
            .map(|reached| Listed::new(reached, ListKind::Resources, None));
        Self {
            resources: Some(Arc::new(Listing::of(ListKind::Resources, true, unasked.collect()))),
            templates: None,
        }
    }

    /// Whether the client was shown resources when this server was one of those that have them.
    pub(in crate::calls) fn is_of(&self, server: Of<'_>) -> bool {
        self.resources.as_ref().is_some_and(|list| list.is_of(server))
    }

    /// The URI that the client knows by which this server names a resource of its own, if it is another one.
    pub(in crate::calls) fn exposed(&self, server: Of<'_>, own: &str) -> Option<Arc<str>> {
        match self.whose(server, own) {
            Whose::Own(exposed) => exposed,
            Whose::Anothers | Whose::Nobodys => None,
        }
    }

    /// The URI of a resource that this server says has changed. `None`: it is not the server's.
    pub(in crate::calls) fn updated(&self, server: Of<'_>, own: &str) -> Option<String> {
        match self.whose(server, own) {
            Whose::Own(Some(exposed)) => Some(exposed.to_string()),
            // A server may have more than it lists, and a part of a resource may have changed.
            Whose::Own(None) | Whose::Nobodys => Some(own.to_owned()),
            Whose::Anothers => None,
        }
    }

    fn whose(&self, server: Of<'_>, own: &str) -> Whose {
        let listed = self.resources.as_ref().map(|list| list.whose(server, own));
        match (listed, &self.templates) {
            (None | Some(Whose::Nobodys), Some(templates)) => templates.made_by(server, own),
            (listed, _) => listed.unwrap_or(Whose::Nobodys),
        }
    }
}
