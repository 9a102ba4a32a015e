//! `chandlery rotate-keys`: replaces the keys in the data folder.
//!
//! The command first writes a note with the ids of the old keys. If it is interrupted, the next run reads the note and
//! replaces only keys that still have these ids: no key is replaced twice, and what the old keys have sealed stays
//! valid.

use std::{collections::BTreeMap, error::Error, io::Write as _, path::Path};

use credential_svc::Transit;
use serde::{Deserialize, Serialize};
use service_kit::keys::{Ring, read, remove};

use crate::{
    data_dir::{DataDir, PAGE_TOKEN_KEY, SESSION_KEY},
    dev_issuer::DevIssuer,
    keys::Keys,
};

const CREDENTIALS: &str = credential_svc::KEY_FILE;
const DEV_ISSUER: &str = "dev-issuer.key";
/// The note, which is in the data folder while keys are replaced.
const NOTE: &str = "rotate-keys.pending";

/// The ids of the keys to replace, by file.
#[derive(Debug, Deserialize, Serialize)]
struct Note {
    old: BTreeMap<String, String>,
    revoke: bool,
}

/// Rotates all keys, and prints the ids of the new and the old ones. With `revoke`, everything that the old keys sealed
/// or signed becomes invalid.
pub(crate) fn run(data_dir: &Path, revoke: bool, transit: Option<Transit>) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(rotate(data_dir, revoke, transit))
}

async fn rotate(data_dir: &Path, revoke: bool, transit: Option<Transit>) -> Result<(), Box<dyn Error>> {
    let folder = DataDir::existing(data_dir)?.ok_or_else(|| {
        format!(
            "{} is not the data folder of a server: name it with --data-dir",
            data_dir.display()
        )
    })?;
    let _lock = folder
        .lock()
        .map_err(|error| format!("keys can be rotated only while no server runs: {error}"))?;
    let keys = Keys::of_command(&folder, transit);
    let mut note = match read(&folder.path().join(NOTE))? {
        Some(text) => {
            serde_json::from_slice(&text).map_err(|_| format!("{NOTE} cannot be read: remove it, and try again"))?
        }
        None => Note {
            old: current(&folder, &keys).await?,
            revoke: false,
        },
    };
    note.revoke |= revoke;
    folder.write(NOTE, serde_json::to_string(&note)?.as_bytes())?;

    for name in [SESSION_KEY, PAGE_TOKEN_KEY] {
        exchange(&keys, name, note.old.get(name), note.revoke).await?;
    }
    if current_dev_issuer(folder.path())?.as_ref() == note.old.get(DEV_ISSUER) || note.revoke {
        DevIssuer::rotate(folder.path(), note.revoke)?;
    }
    let old = note.old.get(CREDENTIALS).map(String::as_str);
    credential_svc::rotate_keys(folder.path(), old).await?;

    let now = current(&folder, &keys).await?;
    remove(&folder.path().join(NOTE))?;
    let mut out = std::io::stdout().lock();
    for (name, id) in now {
        let before = note.old.get(&name).map(String::as_str).unwrap_or("none");
        writeln!(out, "{name}: {id} (before: {before})")?;
    }
    Ok(())
}

/// If the current key has the id `old`, puts a new key in front of it, or with `revoke` in place of all keys.
async fn exchange(keys: &Keys<'_>, name: &str, old: Option<&String>, revoke: bool) -> Result<(), Box<dyn Error>> {
    let ring = keys.open(name).await?;
    let is_new = ring.ids().first() != old;
    if !is_new {
        let next = if revoke { Ring::random()? } else { ring.rotated()? };
        keys.save(name, &next).await?;
    } else if revoke && ring.keys().len() > 1 {
        keys.save(name, &ring.current()).await?;
    }
    Ok(())
}

/// The ids of the current keys, by file.
async fn current(folder: &DataDir, keys: &Keys<'_>) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let mut ids = BTreeMap::new();
    let credentials = Ring::existing(&folder.path().join(CREDENTIALS))?;
    let rings = [
        (SESSION_KEY, keys.existing(SESSION_KEY).await?),
        (PAGE_TOKEN_KEY, keys.existing(PAGE_TOKEN_KEY).await?),
        (CREDENTIALS, credentials),
    ];
    for (name, ring) in rings {
        ids.extend(ring.and_then(|ring| Some((name.to_owned(), ring.ids().into_iter().next()?))));
    }
    ids.extend(current_dev_issuer(folder.path())?.map(|id| (DEV_ISSUER.to_owned(), id)));
    Ok(ids)
}

fn current_dev_issuer(folder: &Path) -> Result<Option<String>, Box<dyn Error>> {
    let issuer = DevIssuer::existing(folder)?;
    Ok(issuer.and_then(|issuer| issuer.key_ids().into_iter().next()))
}
