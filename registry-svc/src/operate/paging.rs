//! Pages of lists (AIP-158): with tokens bound to the request and its caller.

use serde::{Serialize, de::DeserializeOwned};
use service_kit::{page_token::PageTokens, status};

use super::Registry;
use crate::{
    domain::{Error, Room},
    store::{
        self, Tx,
        list::{List, Listed, Position},
    },
};

/// The page that is asked for, of a list that is ordered by `P`.
#[derive(Debug)]
pub(crate) struct Page<'a, P = Position> {
    /// Begins behind this; `None`: at the first.
    pub(crate) after: Option<P>,
    /// At most this many.
    size: usize,
    tokens: &'a PageTokens,
    binding: String,
}

impl Registry {
    /// Parses what a list is asked for. `binding` is everything that selects and orders the list: RPC, parent, filter, caller.
    pub(super) fn page<P: DeserializeOwned>(
        &self,
        binding: String,
        size: i32,
        token: &str,
    ) -> Result<Page<'_, P>, Error> {
        let size = status::page_size(size)?;
        let after = self.pages.open(&binding, token).map_err(|_| Error::PageTokenInvalid)?;
        Ok(Page {
            after,
            size: usize::try_from(size).unwrap_or(1),
            tokens: &self.pages,
            binding,
        })
    }
}

impl<P: Serialize> Page<'_, P> {
    /// How many rows to read: one more than the page holds shows whether another page follows.
    pub(crate) fn limit(&self) -> i64 {
        i64::try_from(self.size + 1).unwrap_or(i64::MAX)
    }

    /// Cuts what was read to the page, and makes the token of the next one; empty on the last. `bytes` says how large a row is.
    pub(crate) fn cut<T>(
        &self,
        mut rows: Vec<T>,
        position: impl Fn(&T) -> P,
        bytes: impl Fn(&T) -> usize,
    ) -> (Vec<T>, String) {
        let mut room = Room::of_page();
        let fitting = rows
            .iter()
            .take(self.size)
            .take_while(|row| room.take(bytes(row)))
            .count();
        if rows.len() <= fitting {
            return (rows, String::new());
        }
        rows.truncate(fitting);
        let next = rows
            .last()
            .map(|last| self.tokens.seal(&self.binding, &position(last)))
            .unwrap_or_default();
        (rows, next)
    }
}

impl Page<'_> {
    /// The position to read behind, with that of the first page for none.
    pub(crate) fn start(&self) -> (i64, &str) {
        self.after
            .as_ref()
            .map_or((i64::MIN, ""), |(time, uid)| (*time, uid.as_str()))
    }

    /// The messages on this page of a list, and the token of the next one.
    pub(crate) async fn of<M>(
        &self,
        tx: &mut Tx,
        list: &List,
        decode: impl Fn(&Listed) -> store::Result<M>,
    ) -> Result<(Vec<M>, String), Error> {
        let found = list.page(tx, self.start(), self.limit()).await?;
        let (found, next) = self.cut(found, |listed| listed.position.clone(), Listed::bytes);
        let messages = found.iter().map(decode).collect::<store::Result<_>>()?;
        Ok((messages, next))
    }
}
