//! The file that holds the store's key.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::OpenError;

/// A key, wiped when dropped.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Makes the data directory if it is not there, and refuses one that others may write to.
pub(super) fn check_directory(directory: &Path) -> Result<(), OpenError> {
    let name = || directory.display().to_string();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| OpenError::io(&name(), error))?;
    let metadata = fs::metadata(directory).map_err(|error| OpenError::io(&name(), error))?;
    if !metadata.is_dir() || metadata.permissions().mode() & 0o022 != 0 {
        return Err(OpenError::Unsafe {
            path: name(),
            remedy: "only its owner may write to it: chmod go-w",
        });
    }
    Ok(())
}

/// The key, or `None` if there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Key>, OpenError> {
    let name = || path.display().to_string();
    let mut file = match OpenOptions::new().read(true).custom_flags(libc_nofollow()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(&name(), error)),
    };
    let metadata = file.metadata().map_err(|error| OpenError::io(&name(), error))?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o077 != 0 {
        return Err(OpenError::Unsafe {
            path: name(),
            remedy: "only its owner may read it: chmod 600",
        });
    }
    let mut text = Zeroizing::new([0_u8; 66]);
    let mut length = 0;
    while length < text.len() {
        match file
            .read(&mut text[length..])
            .map_err(|error| OpenError::io(&name(), error))?
        {
            0 => break,
            read => length += read,
        }
    }
    let text = text[..length].strip_suffix(b"\n").unwrap_or(&text[..length]);
    let mut key = Key::default();
    hex::decode_to_slice(text, key.as_mut_slice()).map_err(|_| OpenError::KeyMalformed { path: name() })?;
    Ok(Some(key))
}

/// Makes a new key. The file appears whole or not at all, is durable when this returns, and never replaces another.
pub(super) fn create(path: &Path) -> Result<Key, OpenError> {
    let name = || path.display().to_string();
    let mut key = Key::default();
    SystemRandom::new()
        .fill(key.as_mut_slice())
        .map_err(|_| OpenError::Random)?;
    let mut text = Zeroizing::new([b'\n'; 65]);
    hex::encode_to_slice(key.as_slice(), &mut text[..64]).expect("the buffer has twice the length");
    write(path, text.as_slice()).map_err(|error| OpenError::io(&name(), error))?;
    Ok(key)
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let draft = path.with_extension("key.new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    // Unlike a rename, a link fails where the name is taken.
    fs::hard_link(&draft, path)?;
    fs::remove_file(&draft)?;
    File::open(directory)?.sync_all()
}

/// A link planted in place of the key is not followed.
fn libc_nofollow() -> i32 {
    libc::O_NOFOLLOW | libc::O_CLOEXEC
}
