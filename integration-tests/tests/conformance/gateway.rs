//! A gateway with one entry, whose tools have their own names: the suite calls them by these.

use contracts::{
    gateway::DiscoverToolsRequest,
    registry::{self as r, Entry},
};
use integration_tests::{Caller, Stack, caller::reason, eventually, upstream::Served, walk};

use super::{front, server};

/// The running program, and what stands before it.
pub(super) struct Gateway {
    front: Served,
    _stack: Stack,
}

impl Gateway {
    /// Starts it before the server of an entry.
    pub(super) async fn start(entry: Entry) -> Self {
        let stack = Stack::builder().flag("--server-read", server::folders()).start().await;
        let (admin, person) = (stack.admin(), stack.member("alice"));
        admin.publish("suite", entry).await;
        let installation = person.create_installation("suite", None, &[]).await;
        let installation = installation.expect("a member may").name;
        let gateway = r::Gateway {
            omit_entry_prefix: Some(true),
            ..r::Gateway::default()
        };
        admin.create_gateway("team", gateway).await.expect("an admin may");
        let all = walk::all_tools("suite");
        admin
            .create_assignment("gateways/team", all, false)
            .await
            .expect("an admin may");
        discovered(&person, &installation).await;
        Self {
            front: front::start(stack.http(), person.token()).await,
            _stack: stack,
        }
    }

    /// Where the suite reaches it.
    pub(super) fn url(&self) -> String {
        self.front.url("/mcp/team")
    }
}

/// Waits until the server was asked what it has.
async fn discovered(person: &Caller, installation: &str) {
    eventually("the server is asked for its tools", || async {
        let request = DiscoverToolsRequest {
            installation: installation.to_owned(),
        };
        let asked = person.tools().discover_tools(request).await;
        // It is not ready for a moment.
        asked
            .err()
            .is_none_or(|status| reason(&status) != "INSTALLATION_UNAVAILABLE")
            .then_some(())
    })
    .await;
}
