//! What each scenario must come to, by revision of MCP.

/// A person called the tool.
pub(super) const CALLED: &str = "called";
const SIGN_IN_REFUSED: &str = "AUTHORIZATION_STATE_INVALID";
const SERVER_REFUSED: &str = "AUTHORIZATION_SERVER_REFUSED";

/// A scenario, how the people's part ends, and how many different checks pass. No check fails.
pub(super) type Played = (&'static str, &'static str, usize);
/// A scenario that is not played, and why.
pub(super) type NotPlayed = (&'static str, &'static str);

/// The suite recommends a client metadata document of its own, and Chandlery has another.
pub(super) const OTHER_DOCUMENT: (&str, &str) = ("auth/basic-cimd", "cimd-client-id-used");

pub(super) const OF_2025_11_25: &[Played] = &[
    ("initialize", CALLED, 1),
    ("tools_call", CALLED, 2),
    ("sse-retry", CALLED, 3),
    ("elicitation-sep1034-client-defaults", CALLED, 5),
    ("auth/metadata-default", CALLED, 15),
    ("auth/metadata-var1", CALLED, 15),
    ("auth/metadata-var2", CALLED, 15),
    ("auth/metadata-var3", CALLED, 15),
    ("auth/basic-cimd", CALLED, 9),
    ("auth/scope-from-www-authenticate", CALLED, 11),
    ("auth/scope-from-scopes-supported", CALLED, 11),
    ("auth/scope-omitted-when-undefined", CALLED, 11),
    ("auth/scope-step-up", CALLED, 12),
    // The server demands a scope for ever, and breaks off after three requests.
    ("auth/scope-retry-limit", "UPSTREAM_INVALID", 10),
    ("auth/token-endpoint-auth-basic", CALLED, 16),
    ("auth/token-endpoint-auth-post", CALLED, 16),
    ("auth/token-endpoint-auth-none", CALLED, 16),
    ("auth/pre-registration", CALLED, 10),
    ("auth/client-credentials-jwt", CALLED, 5),
    ("auth/client-credentials-basic", CALLED, 5),
    ("json-schema-2020-12-preservation", CALLED, 9),
];

pub(super) const OF_2026_07_28: &[Played] = &[
    ("tools_call", CALLED, 2),
    ("request-metadata", CALLED, 8),
    ("auth/authorization-server-migration", CALLED, 14),
    ("auth/scope-step-up", CALLED, 14),
    ("sep-2322-client-request-state", CALLED, 5),
    ("http-standard-headers", CALLED, 1),
    ("http-custom-headers", CALLED, 5),
    ("http-invalid-tool-headers", CALLED, 5),
    ("json-schema-2020-12-preservation", CALLED, 9),
    ("auth/metadata-default", CALLED, 16),
    ("auth/metadata-var1", CALLED, 16),
    ("auth/metadata-var2", CALLED, 16),
    ("auth/metadata-var3", CALLED, 16),
    ("auth/basic-cimd", CALLED, 9),
    ("auth/scope-from-www-authenticate", CALLED, 12),
    ("auth/scope-from-scopes-supported", CALLED, 12),
    ("auth/scope-omitted-when-undefined", CALLED, 12),
    ("auth/scope-retry-limit", "UPSTREAM_INVALID", 11),
    ("auth/token-endpoint-auth-basic", CALLED, 17),
    ("auth/token-endpoint-auth-post", CALLED, 17),
    ("auth/token-endpoint-auth-none", CALLED, 17),
    ("auth/pre-registration", CALLED, 10),
    ("auth/resource-mismatch", SERVER_REFUSED, 2),
    ("auth/offline-access-scope", CALLED, 10),
    ("auth/offline-access-not-supported", CALLED, 12),
    ("auth/iss-supported", CALLED, 12),
    ("auth/iss-not-advertised", CALLED, 12),
    ("auth/iss-supported-missing", SIGN_IN_REFUSED, 8),
    ("auth/iss-wrong-issuer", SIGN_IN_REFUSED, 8),
    ("auth/iss-unexpected", SIGN_IN_REFUSED, 8),
    ("auth/iss-normalized", SIGN_IN_REFUSED, 8),
    ("auth/metadata-issuer-mismatch", SERVER_REFUSED, 3),
    ("auth/client-credentials-jwt", CALLED, 5),
    ("auth/client-credentials-basic", CALLED, 5),
    // Its server has no method to call.
    ("json-schema-ref-no-deref", "-32601", 1),
];

/// Revision 2026-07-28 requires these; here they are played in revision 2025-11-25.
pub(super) const OF_BOTH: &[Played] = &[("auth/authorization-server-migration", CALLED, 13)];

const NO_KEYS: &str = "its identity provider publishes no keys, so that Chandlery cannot verify the person's token that would be exchanged";
const NO_MODEL: &str = "an extension that no credential model has";

pub(super) const NOT_IN_2025_11_25: &[NotPlayed] = &[
    ("auth/enterprise-managed-authorization", NO_KEYS),
    ("auth/dpop", NO_MODEL),
    ("auth/dpop-nonce", NO_MODEL),
    ("auth/wif-jwt-bearer", NO_MODEL),
];

pub(super) const NOT_IN_2026_07_28: &[NotPlayed] = &[
    ("auth/enterprise-managed-authorization", NO_KEYS),
    ("auth/dpop", NO_MODEL),
    ("auth/dpop-nonce", NO_MODEL),
    ("auth/wif-jwt-bearer", NO_MODEL),
];
