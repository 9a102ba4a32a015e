//! Documents: encoded messages in columns, with the schema version of the program that wrote them.

use prost::Message;
use sqlx::{ColumnIndex, Decode, Row, Type};

/// The schema version of the documents that this program writes. It grows whenever a message that is kept gets a field.
pub const SCHEMA_VERSION: i64 = 9;

/// A newer program wrote a document: to decode it here would lose what only that one knows.
#[derive(Debug, thiserror::Error)]
#[error("a newer version of Chandlery wrote it: its schema version is {0}, this one's is {SCHEMA_VERSION}")]
pub(crate) struct SchemaNewer(i64);

/// The message in the columns `document` and `schema_version`.
pub(crate) fn document<M, R>(row: &R) -> sqlx::Result<M>
where
    M: Message + Default,
    R: Row,
    for<'c> &'c str: ColumnIndex<R>,
    for<'c> Vec<u8>: Decode<'c, R::Database> + Type<R::Database>,
    for<'c> i64: Decode<'c, R::Database> + Type<R::Database>,
{
    let schema_version: i64 = row.try_get("schema_version")?;
    if schema_version > SCHEMA_VERSION {
        return Err(newer(schema_version));
    }
    let document: Vec<u8> = row.try_get("document")?;
    decode(&document)
}

/// Why a document of this schema version is not decoded.
pub(super) fn newer(schema_version: i64) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(SchemaNewer(schema_version)))
}

/// A message that this or an older program wrote.
pub(crate) fn decode<M: Message + Default>(document: &[u8]) -> sqlx::Result<M> {
    M::decode(document).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
