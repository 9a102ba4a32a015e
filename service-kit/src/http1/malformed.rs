//! What is wrong with a message.

/// Why an answer cannot be used: its sender is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin with a status line of HTTP/1.
    #[error("it is not HTTP/1.1")]
    NotHttp,
    /// RFC 9112, section 2.2, lets a recipient accept that; intermediaries that do read other messages than their neighbours.
    #[error("it has a line that ends with LF alone, not with CRLF")]
    BareLineFeed,
    /// Status line and fields together.
    #[error("its head is larger than 32 KB")]
    HeadTooLarge,
    /// Each takes work, also where it is short.
    #[error("its head has more than 64 fields")]
    TooManyFields,
    /// The status line or a field is not valid.
    #[error("its head is not valid")]
    Head,
    /// Not one number without a sign.
    #[error("its Content-Length is not a number of at most 15 digits, or is there twice")]
    Length,
    /// Another than `chunked`, more than one, or one under HTTP/1.0.
    #[error("its Transfer-Encoding is not chunked, or it is HTTP/1.0")]
    Encoding,
    /// What one recipient takes for the end of the body, another does not.
    #[error("it has both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// Each precedes the answer, and none is one.
    #[error("more than eight interim responses precede it")]
    TooManyInterim,
    /// HTTP 101.
    #[error("it switches protocols (HTTP 101), which was not requested")]
    SwitchesProtocols,
    /// Not 1 to 7 hexadecimal digits, or what follows is no extension.
    #[error("its body has a chunk whose size is not valid")]
    ChunkSize,
    /// Control characters, or too many bytes in all.
    #[error("its body has chunk extensions that are not valid, or larger than 4 KB")]
    Extensions,
    /// A chunk is longer than its size.
    #[error("its body has a chunk that does not end where its size says")]
    ChunkEnd,
    /// What follows the last chunk.
    #[error("its body has trailer fields that are not valid, or larger than 4 KB")]
    Trailers,
}
