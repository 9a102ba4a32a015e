//! The program as an organization runs it: with an identity provider of its own, and browsers reach it over https. So authorization servers
//! accept the gateway's client metadata document.

use integration_tests::{Caller, Stack};
use serde_json::{Value, json};
use service_kit::testing::{AUDIENCE, TestIssuer};

/// Where browsers reach the gateway. Nobody answers there: the people take what would be sent there to Chandlery.
const PUBLIC_URL: &str = "https://conformance-test.local";

/// Who is there.
pub(super) struct Stage {
    pub(super) stack: Stack,
    issuer: TestIssuer,
    _folder: tempfile::TempDir,
}

impl Stage {
    pub(super) async fn start() -> Self {
        let issuer = TestIssuer::start()
            .await
            .expect("the loopback interface has free ports");
        let folder = tempfile::tempdir().expect("a place for temporary files");
        let file = folder.path().join("issuers.yaml");
        // JSON is YAML.
        let issuers = json!({"issuers": [{
            "issuer": issuer.issuer(), "audiences": [AUDIENCE], "roles_claim": "roles",
        }]});
        std::fs::write(&file, issuers.to_string()).expect("it can be written");
        let stack = Stack::builder()
            .flag("--issuers", file.to_string_lossy())
            .flag("--public-url", PUBLIC_URL)
            .flag("--allow-upstream-cidr", "::1/128")
            .start()
            .await;
        Self {
            stack,
            issuer,
            _folder: folder,
        }
    }

    pub(super) fn admin(&self) -> Caller {
        self.stack.caller(Some(self.issuer.token("admin", &[], true)))
    }

    pub(super) fn member(&self, name: &str) -> Caller {
        self.stack.caller(Some(self.issuer.token(name, &[], false)))
    }

    /// Where authorization servers send people.
    pub(super) fn callback() -> String {
        format!("{PUBLIC_URL}/oauth/callback")
    }

    /// Whether a client's id is a metadata document of the gateway's.
    pub(super) fn is_client_document(id: &Value) -> bool {
        let below = format!("{PUBLIC_URL}/oauth/client/");
        id.as_str().is_some_and(|id| id.starts_with(&below))
    }
}
