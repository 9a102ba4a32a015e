//! Pages of lists (AIP-158): by creation time and uid, with tokens bound to the request and its caller.

use serde::{Serialize, de::DeserializeOwned};
use service_kit::{page_token::PageTokens, status};

use crate::{
    domain::{Error, Room},
    store::list::{Listed, Position},
};

/// The page that is asked for.
#[derive(Debug)]
pub(crate) struct Page<P = Position> {
    /// Begins behind this; `None`: at the first.
    pub(crate) after: Option<P>,
    /// At most this many.
    pub(crate) size: usize,
    binding: String,
}

impl<P: Serialize + DeserializeOwned> Page<P> {
    /// `binding` is everything that selects and orders the list: RPC, parent, filter, caller.
    pub(crate) fn parse(pages: &PageTokens, binding: String, size: i32, token: &str) -> Result<Self, Error> {
        let size = status::page_size(size)?;
        let after = pages.open(&binding, token).map_err(|_| Error::PageTokenInvalid)?;
        Ok(Self {
            after,
            size: usize::try_from(size).unwrap_or(1),
            binding,
        })
    }

    /// How many rows to read: one more than the page holds tells whether another one follows.
    pub(crate) fn limit(&self) -> i64 {
        i64::try_from(self.size + 1).unwrap_or(i64::MAX)
    }

    /// Cuts what was read to the page, and makes the token of the next one; empty on the last. `bytes` says how large a row is.
    pub(crate) fn cut<T>(
        &self,
        pages: &PageTokens,
        rows: &mut Vec<T>,
        position: impl Fn(&T) -> P,
        bytes: impl Fn(&T) -> usize,
    ) -> String {
        let mut room = Room::of_page();
        let fitting = rows
            .iter()
            .take(self.size)
            .take_while(|row| room.take(bytes(row)))
            .count();
        if rows.len() <= fitting {
            return String::new();
        }
        rows.truncate(fitting);
        rows.last()
            .map(|last| pages.seal(&self.binding, &position(last)))
            .unwrap_or_default()
    }
}

impl Page<Position> {
    /// As [`Page::cut`].
    pub(crate) fn cut_objects(&self, pages: &PageTokens, rows: &mut Vec<Listed>) -> String {
        self.cut(pages, rows, |listed| listed.position.clone(), Listed::bytes)
    }

    /// The position to read behind, with that of the first page for none.
    pub(crate) fn start(&self) -> (i64, &str) {
        self.after
            .as_ref()
            .map_or((i64::MIN, ""), |(time, uid)| (*time, uid.as_str()))
    }
}
