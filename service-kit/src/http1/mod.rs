//! HTTP/1.1 as it is on the wire, for the path that every call takes: stricter than hyper, and with less work for each message.
//!
//! Nothing here does I/O: bytes that have come go in, heads and pieces of bodies come out, and the same ones however the bytes were split. What one
//! side may read otherwise than the other is refused: a line feed without a carriage return, a length that is given twice, two framings.

mod answer;
mod body;
mod chunks;
mod fields;
mod framing;
#[cfg(test)]
mod fuzz;
mod http_path;
mod malformed;
mod request;
mod section;

pub use answer::{Answer, AnswerReader};
pub use body::BodyReader;
pub use fields::is_hop_by_hop;
pub use framing::Framing;
pub use http_path::HttpPath;
pub use malformed::Malformed;
pub use request::{Unwritable, request_head};
