//! The authorities that are trusted for Vault, in a file that others may replace while this runs.

use std::{fs, path::PathBuf};

use reqwest::Certificate;

/// A file with certificates in PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trust {
    file: PathBuf,
    pem: Vec<u8>,
}

impl Trust {
    /// Reads the file.
    pub(super) fn read(file: PathBuf) -> Result<Self, String> {
        let pem = fs::read(&file).map_err(|error| format!("{} {error}", file.display()))?;
        Ok(Self { file, pem })
    }

    /// The file as it is now.
    pub(super) fn again(&self) -> Result<Self, String> {
        Self::read(self.file.clone())
    }

    pub(super) fn certificates(&self) -> Result<Vec<Certificate>, String> {
        match Certificate::from_pem_bundle(&self.pem) {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(format!(
                "{} does not contain certificates in PEM format",
                self.file.display()
            )),
        }
    }
}
