//! A Vault (OpenBao) that is set up as deploy/vault/README.md says.

use std::{fs, path::Path};

use integration_tests::{Stack, stack::StackBuilder, tools::Tool};
use serde_json::{Value, json};
use service_kit::testing::OpenBao;

const POLICIES: [(&str, &str); 2] = [
    ("chandlery", include_str!("../../../deploy/vault/policy.hcl")),
    (
        "chandlery-transit",
        include_str!("../../../deploy/vault/transit-policy.hcl"),
    ),
];

/// The options of the program that name a server.
pub(crate) type Options = Vec<(&'static str, String)>;

/// A server where Chandlery's role has these policies, and the options that name it. Tokens live for a few seconds, so that they are renewed, and
/// replaced, all the time.
pub(crate) async fn vault(policies: &str) -> (OpenBao, Options) {
    let bao = OpenBao::start(Tool::Openbao.path(), None).await;
    bao.mount_kv("secret").await;
    for (name, policy) in POLICIES {
        bao.set_up("POST", &format!("sys/policies/acl/{name}"), json!({"policy": policy}))
            .await;
    }
    bao.set_up("POST", "sys/auth/approle", json!({"type": "approle"})).await;
    let role = json!({
        "token_policies": policies, "token_no_default_policy": true, "token_ttl": "3s", "token_max_ttl": "8s",
    });
    bao.set_up("POST", "auth/approle/role/chandlery", role).await;
    let role = bao
        .set_up("GET", "auth/approle/role/chandlery/role-id", Value::Null)
        .await;
    let secret = bao
        .set_up("POST", "auth/approle/role/chandlery/secret-id", json!({}))
        .await;
    let text = |value: &Value| value.as_str().expect("it was made").to_owned();
    let file = bao.folder().join("secret-id");
    fs::write(&file, text(&secret["data"]["secret_id"])).expect("the folder is the test's");
    let options = vec![
        ("--vault-address", bao.address().to_owned()),
        ("--vault-auth", "approle".to_owned()),
        ("--vault-role-id", text(&role["data"]["role_id"])),
        ("--vault-secret-id-file", file.display().to_string()),
    ];
    (bao, options)
}

/// A start with these options.
pub(crate) fn with(options: &Options) -> StackBuilder {
    let with = |builder: StackBuilder, (name, value): &(&str, String)| builder.flag(name, value);
    options.iter().fold(Stack::builder(), with)
}

/// Whether a file below the folder contains one of these.
pub(crate) fn holds(folder: &Path, needles: &[&[u8]]) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.is_ok_and(|kind| kind.is_dir()) {
            return holds(&path, needles);
        }
        let content = fs::read(&path).unwrap_or_default();
        needles
            .iter()
            .any(|needle| content.windows(needle.len()).any(|window| window == *needle))
    })
}
