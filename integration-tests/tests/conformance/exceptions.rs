//! What a client sees of a server through a gateway that it would not see of the server itself. An exception that does not hold any more fails.

/// What scenarios come to instead of what is expected.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instead {
    /// A check fails.
    Fails,
    /// They conform with this number of checks.
    Passes(usize),
}

/// Why, what they come to, and the scenarios.
pub(super) type Exception = (&'static str, Instead, &'static [&'static str]);

/// The server itself answers with streams, which a scenario examines further.
const LISTS_ARE_JSON: Exception = (
    "a gateway knows the lists, and answers with JSON",
    Instead::Passes(1),
    &["server-sse-multiple-streams"],
);
/// The server closes the stream of an answer, and goes on with it when it is resumed.
const RESUMED_BY_THE_GATEWAY: Exception = (
    "a gateway resumes the answer itself, and does not close its client's stream",
    Instead::Passes(2),
    &["server-sse-polling"],
);
const NO_STREAM_TO_CLOSE: Exception = (
    "the server closes no stream: over standard input and output, and in 2026-07-28, there is none to resume",
    Instead::Passes(0),
    &["server-sse-polling"],
);
const NOBODY_TO_ASK: Exception = (
    "one process serves all clients, none of which can answer for the others",
    Instead::Fails,
    &[
        "tools-call-sampling",
        "tools-call-elicitation",
        "elicitation-sep1034-defaults",
        "elicitation-sep1330-enums",
    ],
);
const NO_LOG: Exception = (
    "one process serves all clients, and its log may be of another's call",
    Instead::Fails,
    &["tools-call-with-logging"],
);
const UNDECLARED: Exception = (
    "a server of an older revision says in a result, which it makes as it likes, that its client lacks a capability",
    Instead::Fails,
    &["server-stateless"],
);
const ONE_BY_ONE: Exception = (
    "a server of an older revision asks by requests, which have no key, and come one by one",
    Instead::Fails,
    &[
        "input-required-result-basic-elicitation",
        "input-required-result-multiple-input-requests",
    ],
);
pub(super) const LEGACY_TO_LEGACY: &[Exception] = &[LISTS_ARE_JSON, RESUMED_BY_THE_GATEWAY];
pub(super) const LEGACY_TO_PROCESS: &[Exception] = &[LISTS_ARE_JSON, NO_STREAM_TO_CLOSE];
pub(super) const LEGACY_TO_PROCESS_OF_ALL: &[Exception] = &[LISTS_ARE_JSON, NO_STREAM_TO_CLOSE, NOBODY_TO_ASK, NO_LOG];
pub(super) const LEGACY_TO_MODERN: &[Exception] = &[LISTS_ARE_JSON, NO_STREAM_TO_CLOSE];
pub(super) const MODERN_TO_LEGACY: &[Exception] = &[UNDECLARED, ONE_BY_ONE];
