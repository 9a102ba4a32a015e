//! Full-text search of tools: words of their names, titles, descriptions and schemas, ranked.
//!
//! An index is made once for a list of tools. It knows them by their places in that list.

mod index;
mod nearest;
mod query;
#[cfg(test)]
mod tests;
mod texts;
mod words;

pub(crate) use index::Index;
pub(crate) use nearest::nearest;
pub(crate) use texts::Searched;
