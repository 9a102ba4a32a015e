//! The store on a real OpenBao, with the policy that is shipped.

mod access;
mod engine;
mod login;
mod server;

use serde_json::json;
use service_kit::not_run;

use self::server::{config, raw, shared};
use super::*;
use crate::store::suite::{Bench, store_suite};

/// A folder of the shared server.
struct Folder(String);

impl Bench for Folder {
    type Store = VaultStore;

    fn is_here() -> bool {
        not_run::openbao().is_some()
    }

    async fn new() -> Self {
        Self(format!("chandlery/{}", service_kit::random::uuid()))
    }

    async fn connect(&self) -> VaultStore {
        let server = shared().await;
        VaultStore::new(config(server.bao.address(), &self.0, &server.token)).unwrap()
    }

    /// What Vault has acknowledged survives its crashes, so a copy is what it answers.
    async fn copy(&self) -> Self {
        let (server, copy) = (&shared().await.bao, Self::new().await);
        for owner in self.connect().await.list(None, usize::MAX).await.unwrap() {
            let place = Place::of(&owner).path();
            let kept = server
                .set_up("GET", &format!("secret/data/{}/{place}", self.0), json!(null))
                .await;
            let kept = &kept["data"];
            for version in 0..kept["metadata"]["version"].as_i64().unwrap() {
                let written = json!({"options": {"cas": version}, "data": kept["data"]});
                server
                    .set_up("POST", &format!("secret/data/{}/{place}", copy.0), written)
                    .await;
            }
        }
        copy
    }

    async fn cut_off(store: &mut VaultStore) {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        *store = VaultStore::new(config(&format!("http://{nobody}"), &store.prefix, "s.token")).unwrap();
    }

    async fn damage(&self, owner: &Owner) {
        let (path, version) = raw(&shared().await.bao, &self.0, owner).await;
        let written = json!({"options": {"cas": version}, "data": {"value": "damaged"}});
        shared().await.bao.set_up("POST", &path, written).await;
    }
}

store_suite!(Folder);
