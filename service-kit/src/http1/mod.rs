//! HTTP/1.1 as it is on the wire, for the path that every call takes: stricter than hyper, and with less work for each message.
//!
//! Nothing here does I/O: bytes that have come go in, heads and pieces of bodies come out, and the same ones however the bytes were split. What one
//! side may read otherwise than the other is refused: a line feed without a carriage return, a length that is given twice, two framings.

mod answer_head;
mod answer_reader;
mod body;
mod chunk_head;
mod chunks;
mod date;
mod fields;
mod framing;
#[cfg(test)]
mod fuzz;
mod head;
mod host;
mod http_path;
mod malformed;
#[cfg(test)]
mod pieces;
mod request_head;
mod request_reader;
mod same_head;
mod section;

pub use answer_head::{CONTINUE, HeadPrefix, answer_head};
pub use answer_reader::{Answer, AnswerReader};
pub use body::BodyReader;
pub use chunk_head::{CHUNK_END, ChunkHead, LAST_CHUNK};
pub use date::with_date;
pub use fields::remove_hop_by_hop;
pub use framing::Framing;
pub use http_path::HttpPath;
pub use malformed::Malformed;
pub use request_head::{Unwritable, request_head};
pub use request_reader::{RequestHead, RequestReader};
