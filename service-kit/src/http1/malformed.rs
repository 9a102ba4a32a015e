//! What is wrong with a message.

use http::StatusCode;

/// Why a message is refused: its sender is at fault. The text continues a sentence on the message: `the request was refused: {malformed}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin with a status line of HTTP/1, or with a method.
    #[error("it is not HTTP/1.1")]
    NotHttp,
    /// RFC 9112, section 2.2, lets a recipient accept that; intermediaries that do read other messages than their neighbours.
    #[error("it has a line that ends with LF alone, not with CRLF")]
    BareLineFeed,
    /// First line and fields together.
    #[error("its head is larger than 32 KB")]
    HeadTooLarge,
    /// Each takes work, also where it is short.
    #[error("its head has more than 64 fields")]
    TooManyFields,
    /// The first line or a field is not valid.
    #[error(
        "its head has a line that is no field, is folded, has a space before its colon, or a character that is not allowed"
    )]
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
    /// Of a request: RFC 9112, section 2.2, lets some precede it.
    #[error("more than two blank lines precede it")]
    BlankLines,
    /// Of a request: none that is served.
    #[error("its method is none of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS")]
    Method,
    /// Of a request: not in origin form, or with characters that must be encoded.
    #[error("its target must be a path, without a fragment, and with characters that URLs do not have encoded")]
    Target,
    /// Of a request: the first line has no end within the limit of a head.
    #[error("its target is longer than 32 KB")]
    TargetTooLong,
    /// Of a request.
    #[error("its version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
    /// Of a request: who takes the first, and who the last, are sent to different places.
    #[error("it does not have exactly one Host, of a name or an address, and perhaps a port")]
    Host,
    /// Of a request.
    #[error("its Expect is not 100-continue")]
    Expectation,
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
    /// What follows the last chunk: not valid, too large, or with a field that must be in the head.
    #[error("its body has trailer fields that are not valid, that must be in its head, or larger than 4 KB")]
    Trailers,
}

impl Malformed {
    /// The status that refuses such a request. For an answer it is always 502: the client of the gateway is not at fault.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotHttp
            | Self::BareLineFeed
            | Self::Head
            | Self::Length
            | Self::TwoFramings
            | Self::BlankLines
            | Self::Target
            | Self::Host
            | Self::ChunkSize
            | Self::Extensions
            | Self::ChunkEnd
            | Self::Trailers => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Encoding | Self::Method => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TooManyInterim | Self::SwitchesProtocols => StatusCode::BAD_GATEWAY,
        }
    }
}
