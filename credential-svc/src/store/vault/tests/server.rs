//! A server that many tests share, each in a folder of its own.

use std::time::Duration;

use serde_json::Value as Json;
use service_kit::testing::OpenBao;
use tokio::sync::OnceCell;

use super::{super::Place, *};
use crate::{
    config::{VaultConfig, VaultLogin},
    domain::record::{Field, Record},
    domain::summary::StoredField,
};

pub(super) const POLICY: &str = include_str!("../../../../../deploy/vault/policy.hcl");

pub(super) struct Shared {
    pub(super) bao: OpenBao,
    /// With the policy that is shipped, and no other.
    pub(super) token: String,
}

/// The shared server. It ends with the process.
pub(super) async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    let start = async || {
        let program = not_run::openbao().expect("the caller has asked");
        let bao = set_up(OpenBao::start(program, None).await).await;
        let token = bao.token(&["chandlery"], 24 * 3600, true).await;
        Shared { bao, token }
    };
    SHARED.get_or_init(start).await
}

/// Enables the engine and adds the policy, as the README says.
pub(super) async fn set_up(bao: OpenBao) -> OpenBao {
    bao.mount_kv("secret").await;
    bao.set_up("POST", "sys/policies/acl/chandlery", json!({"policy": POLICY}))
        .await;
    bao
}

/// A server of the test's own; `None` if there is none to run.
pub(super) async fn own() -> Option<OpenBao> {
    Some(set_up(OpenBao::start(not_run::openbao()?, None).await).await)
}

pub(super) fn config(address: &str, prefix: &str, token: &str) -> VaultConfig {
    VaultConfig {
        address: address.to_owned(),
        ca: None,
        namespace: None,
        mount: "secret".to_owned(),
        prefix: prefix.to_owned(),
        login: VaultLogin::Token(token.into()),
        former_data_dir: None,
    }
}

pub(super) fn owner(uid: &str) -> Owner {
    Owner::Installation(uid.to_owned())
}

/// A record with one secret.
pub(super) fn secret(value: &str) -> Value {
    let stored = StoredField {
        generation: 1,
        update_time: 7,
    };
    let field = Field {
        stored,
        value: value.into(),
    };
    Value::Record(Record {
        generation: 1,
        fields: [("token".to_owned(), field)].into(),
        ..Record::default()
    })
}

/// The path of a value for `data`, and its version.
pub(super) async fn raw(bao: &OpenBao, prefix: &str, owner: &Owner) -> (String, i64) {
    let path = format!("secret/data/{prefix}/{}", Place::of(owner).path());
    let (_, kept) = bao.ask("GET", &path, Json::Null).await;
    (path, kept["data"]["metadata"]["version"].as_i64().unwrap_or_default())
}

/// Waits until something holds.
pub(super) async fn until(holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
}
