//! Values as Vault keeps them.

use pretty_assertions::assert_eq;
use serde_json::Value as Json;

use super::{
    server::{config, own, owner, raw, secret, shared, until},
    *,
};
use crate::config::VaultLogin;

async fn folder() -> Option<(Folder, VaultStore)> {
    if !Folder::is_here() {
        return None;
    }
    let folder = Folder::new().await;
    let store = folder.connect().await;
    Some((folder, store))
}

#[tokio::test]
async fn what_was_replaced_can_no_longer_be_read() {
    let Some((folder, store)) = folder().await else { return };
    let bao = &shared().await.bao;
    for version in 0..4 {
        let written = store.write(&owner("a"), Version(version), secret("x")).await.unwrap();
        assert_eq!(written, Written::Done);
    }
    let (path, version) = raw(bao, &folder.0, &owner("a")).await;
    assert_eq!(version, 4);
    for earlier in 1..4 {
        let (status, answer) = bao.ask("GET", &format!("{path}?version={earlier}"), Json::Null).await;
        assert_eq!((status, &answer["data"]), (404, &Json::Null), "version {earlier}");
    }
    // Nor can others write it without check-and-set.
    let (status, _) = bao.ask("POST", &path, json!({"data": {"value": "x"}})).await;
    assert_eq!(status, 400);
    // What is deleted leaves no metadata.
    store.delete(&owner("a")).await.unwrap();
    let (status, _) = bao.ask("GET", &path.replace("/data/", "/metadata/"), Json::Null).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_write_that_loses_leaves_no_name_behind() {
    let Some((_, store)) = folder().await else { return };
    for version in [1, 2] {
        let lost = store.write(&owner("a"), Version(version), secret("x")).await.unwrap();
        assert_eq!(lost, Written::Conflict);
    }
    assert_eq!(store.list(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_version_that_an_operator_deleted_is_corrupt() {
    let Some((folder, store)) = folder().await else { return };
    let bao = &shared().await.bao;
    for (uid, action, told) in [("a", "delete", "undelete it"), ("b", "destroy", "entered again")] {
        let written = store.write(&owner(uid), Version::NONE, secret("canary")).await.unwrap();
        assert_eq!(written, Written::Done);
        let (path, _) = raw(bao, &folder.0, &owner(uid)).await;
        bao.set_up(
            "POST",
            &path.replace("/data/", &format!("/{action}/")),
            json!({"versions": [1]}),
        )
        .await;
        let error = store.read(&owner(uid)).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Corrupt(text) if text.contains(told)),
            "{error}"
        );
        // It can be deleted, and then written.
        let lost = store.write(&owner(uid), Version::NONE, secret("x")).await.unwrap();
        assert_eq!(lost, Written::Conflict);
        store.delete(&owner(uid)).await.unwrap();
        let written = store.write(&owner(uid), Version::NONE, secret("x")).await.unwrap();
        assert_eq!(written, Written::Done);
    }
}

#[tokio::test]
async fn what_others_put_into_the_folder_is_left_alone() {
    let Some((folder, store)) = folder().await else { return };
    let bao = &shared().await.bao;
    let written = store.write(&owner("a"), Version::NONE, secret("x")).await.unwrap();
    assert_eq!(written, Written::Done);
    let place = Place::of(&owner("a"));
    for path in [
        "note".to_owned(),
        "installation/note".to_owned(),
        "installation/00/a".to_owned(),
        format!("installation/{}/a b", place.shard),
        format!("installation/{}/sub/b", place.shard),
    ] {
        let path = format!("secret/data/{}/{path}", folder.0);
        bao.set_up("POST", &path, json!({"data": {"note": "hello"}})).await;
    }
    assert_eq!(store.list(None, 10).await.unwrap(), [owner("a")]);
    // In the place of a value, it is none of ours, and is not overwritten.
    let (path, _) = raw(bao, &folder.0, &owner("b")).await;
    for foreign in [
        json!({"note": "canary"}),
        json!({"value": {"a": "canary"}}),
        json!({"value": "can\"ary"}),
    ] {
        bao.set_up("POST", &path, json!({"data": foreign})).await;
        let error = store.read(&owner("b")).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Corrupt(text) if text.contains("not written by Chandlery") && !text.contains("can")),
            "{error}"
        );
        let lost = store.write(&owner("b"), Version::NONE, secret("x")).await.unwrap();
        assert_eq!(lost, Written::Conflict);
    }
}

/// A list never asks for all names at once.
#[tokio::test]
async fn owners_are_spread_over_folders() {
    let Some((folder, store)) = folder().await else { return };
    let bao = &shared().await.bao;
    for _ in 0..40 {
        let owner = owner(&service_kit::random::uuid().to_string());
        let written = store.write(&owner, Version::NONE, Value::erased(7)).await.unwrap();
        assert_eq!(written, Written::Done);
    }
    let folders = bao
        .set_up(
            "LIST",
            &format!("secret/metadata/{}/installation", folder.0),
            Json::Null,
        )
        .await;
    let folders = folders["data"]["keys"].as_array().unwrap().len();
    assert!((20..=40).contains(&folders), "{folders}");
    assert_eq!(store.list(None, 100).await.unwrap().len(), 40);
}

/// The largest value that the refusal of another names as accepted is accepted.
#[tokio::test]
async fn what_is_too_large_is_told_with_what_fits() {
    let Some((_, store)) = folder().await else { return };
    let written = store.write(&owner("a"), Version::NONE, secret("small")).await.unwrap();
    assert_eq!(written, Written::Done);
    let large = store.write(&owner("a"), Version(1), secret(&"x".repeat(2 << 20))).await;
    let Err(StoreError::TooLarge { size, limit }) = large else {
        panic!("{large:?}")
    };
    assert!(size == 2 << 20 && limit > 500 << 10, "{limit}");
    let largest = store
        .write(&owner("a"), Version(1), secret(&"x".repeat(limit)))
        .await
        .unwrap();
    assert_eq!(largest, Written::Done);
    // Larger than a request may be.
    let huge = store
        .write(&owner("a"), Version(2), secret(&"x".repeat(25 << 20)))
        .await;
    assert!(matches!(huge, Err(StoreError::TooLarge { .. })), "{huge:?}");
}

/// Such an engine would keep what was replaced, lose what was stored, or do without check-and-set.
#[tokio::test]
async fn refuses_an_engine_that_does_not_keep_its_contract() {
    let Some(bao) = own().await else { return };
    let store = |mount: &str| {
        let mut config = config(bao.address(), "chandlery", bao.root_token());
        config.mount = mount.to_owned();
        VaultStore::new(config).unwrap()
    };
    let told = async |mount: &str, text: &str| {
        let error = store(mount).check().await.unwrap_err().to_string();
        assert!(
            error.contains(text) && error.contains("administrator of Vault"),
            "{error}"
        );
    };
    store("secret").check().await.unwrap();
    told("nowhere", "no secrets engine at nowhere/").await;
    bao.set_up("POST", "sys/mounts/first", json!({"type": "kv"})).await;
    told("first", "first/ is not KV version 2").await;
    // Nothing is stored in it, either: not even before the first check.
    let refused = store("first").write(&owner("a"), Version::NONE, secret("canary")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    let (status, _) = bao.ask("LIST", "first", Json::Null).await;
    assert_eq!(status, 404);
    for (settings, text) in [
        (json!({"max_versions": 5}), "keep 5 versions"),
        (
            json!({"max_versions": 1, "delete_version_after": "1h"}),
            "delete values after 1h",
        ),
    ] {
        bao.set_up("POST", "secret/config", settings).await;
        told("secret", text).await;
    }
    bao.set_up(
        "POST",
        "secret/config",
        json!({"max_versions": 1, "delete_version_after": "0s"}),
    )
    .await;
    store("secret").check().await.unwrap();
}

/// What was acknowledged is there after the server was killed.
#[tokio::test]
async fn a_killed_server_has_lost_nothing() {
    let Some(mut bao) = own().await else { return };
    let mut config = config(bao.address(), "chandlery", "");
    config.login = VaultLogin::Token(bao.token(&["chandlery"], 3600, true).await.into());
    let store = VaultStore::new(config).unwrap();
    for uid in ["a", "b"] {
        let written = store.write(&owner(uid), Version::NONE, secret("x")).await.unwrap();
        assert_eq!(written, Written::Done);
    }
    bao.kill();
    let error = store.read(&owner("a")).await.unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    bao.start_again().await;
    assert_eq!(store.list(None, 10).await.unwrap().len(), 2);
    let (version, _) = store.read(&owner("a")).await.unwrap().unwrap();
    assert_eq!(
        store.write(&owner("a"), version, secret("y")).await.unwrap(),
        Written::Done
    );
}

/// Standbys of OpenBao answer reads a moment late, unless they are told what must have been written.
#[tokio::test]
async fn a_standby_answers_nothing_older_than_what_was_written() {
    let Some(active) = own().await else { return };
    let standby = active.standby().await;
    let store = VaultStore::new(config(standby.address(), "chandlery", active.root_token())).unwrap();
    for version in (0..50).map(Version) {
        let written = store.write(&owner("a"), version, secret("x")).await.unwrap();
        assert_eq!(written, Written::Done);
        let (read, _) = store.read(&owner("a")).await.unwrap().unwrap();
        assert_eq!(read, version.next());
    }
    store.delete(&owner("a")).await.unwrap();
    assert!(store.read(&owner("a")).await.unwrap().is_none());
    // Without an active node, nothing is written.
    drop(active);
    let write = async || store.write(&owner("a"), Version::NONE, secret("x")).await;
    until(async || {
        write()
            .await
            .is_err_and(|error| error.to_string().contains("there is no active node"))
    })
    .await;
}
