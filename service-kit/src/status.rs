//! Errors in the form of AIP-193: always an `ErrorInfo`, `BadRequest` for fields, `Help` for links.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "chandlery.dev";

/// The largest `page_size`; larger ones are coerced (AIP-158).
pub const MAX_PAGE_SIZE: i32 = 500;

/// The page size of a request that does not set one.
pub const DEFAULT_PAGE_SIZE: i32 = 50;

/// The size of all violations in the details, in bytes. Details are HTTP/2 trailers, of which common clients accept 8
/// KiB.
const MAX_VIOLATIONS: usize = 4_500;

/// About how many bytes of violations the message repeats.
const MAX_MESSAGE: usize = 500;

/// The longest field path or description, in bytes.
const MAX_VIOLATION: usize = 400;

/// How many violations are kept. More would not fit an error, so the rest is only counted.
const MAX_KEPT: usize = 200;

/// Collects all invalid fields of a request, so that the caller learns of all at once.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Violations {
    first: Vec<(String, String)>,
    /// How many violations were not kept.
    more: usize,
}

impl Violations {
    /// No violations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a violation: the path of the field, such as `entry.install_fields[2].key`, and what it must be.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.first.len() < MAX_KEPT {
            self.first.push((field.into(), description.into()));
        } else {
            self.more += 1;
        }
    }

    /// Adds the violations of a part of the request, with `prefix` before their paths.
    pub fn extend(&mut self, prefix: &str, part: Violations) {
        for (field, description) in part.first {
            let field = match (prefix, field.as_str()) {
                (prefix, "") => prefix.to_owned(),
                ("", _) => field,
                _ => format!("{prefix}.{field}"),
            };
            self.add(field, description);
        }
        self.more += part.more;
    }

    /// Whether there are no violations.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Field and description of each violation that is kept.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.first
            .iter()
            .map(|(field, description)| (field.as_str(), description.as_str()))
    }

    /// The number of violations, including those not kept.
    fn count(&self) -> usize {
        self.first.len() + self.more
    }

    /// The first violations as text for the message. The details have the others.
    fn message(&self) -> String {
        let mut message = String::new();
        for (index, (field, description)) in self.iter().enumerate() {
            if index > 0 && message.len() + field.len() + description.len() > MAX_MESSAGE {
                message.push_str(&format!("; and {} more, see the details", self.count() - index));
                break;
            }
            let separator = if index == 0 { "" } else { "; " };
            message.push_str(&format!("{separator}{field}: {description}"));
        }
        // A single violation may be longer.
        message.truncate(message.floor_char_boundary(2 * MAX_MESSAGE));
        message
    }

    /// Returns `value` if there are no violations.
    pub fn into_result<T>(self, value: T) -> Result<T, Violations> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Violations> for Status {
    fn from(violations: Violations) -> Self {
        let message = violations.message();
        let mut details = ErrorDetails::with_error_info(Reason::INVALID_FIELDS.as_str(), DOMAIN, HashMap::new());
        let mut room = MAX_VIOLATIONS;
        let count = violations.count();
        for (index, (mut field, mut description)) in violations.first.into_iter().enumerate() {
            field.truncate(field.floor_char_boundary(MAX_VIOLATION));
            description.truncate(description.floor_char_boundary(MAX_VIOLATION));
            let size = field.len() + description.len() + 16;
            if size > room {
                details.add_bad_request_violation("", format!("and {} more", count - index));
                break;
            }
            room -= size;
            details.add_bad_request_violation(field, description);
        }
        Status::with_error_details(Code::InvalidArgument, message, details)
    }
}

/// The prefix of the names of `ErrorReason` values (`ENUM_VALUE_PREFIX` of buf). An `ErrorInfo` omits it.
const PREFIX: &str = "ERROR_REASON_";

/// The `reason` of an `ErrorInfo`. It is always a value of the service's `ErrorReason`, so the contract lists every
/// reason with which the service can fail.
///
/// ```
/// # #[derive(Clone, Copy)]
/// # enum ErrorReason { EtagMismatch = 8 }
/// # impl From<ErrorReason> for i32 { fn from(value: ErrorReason) -> i32 { value as i32 } }
/// # impl ErrorReason { fn as_str_name(&self) -> &'static str { "ERROR_REASON_ETAG_MISMATCH" } }
/// use service_kit::status::{Reason, StatusBuilder};
/// use tonic::Code;
///
/// let reason = Reason::of(ErrorReason::EtagMismatch, ErrorReason::as_str_name);
/// assert_eq!(reason.as_str(), "ETAG_MISMATCH");
/// StatusBuilder::new(Code::Aborted, reason, "read it again, then retry");
/// ```
///
/// ```compile_fail
/// use service_kit::status::StatusBuilder;
/// use tonic::Code;
///
/// StatusBuilder::new(Code::Aborted, "ETAG_MISMATCH", "read it again, then retry");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(&'static str);

impl Reason {
    /// Makes the reason of an `ErrorReason` value, with the `as_str_name` of its type.
    pub fn of<R: Copy + Into<i32>>(value: R, as_str_name: fn(&R) -> &'static str) -> Self {
        debug_assert_ne!(value.into(), 0, "UNSPECIFIED says nothing");
        let name = as_str_name(&value);
        let short = name.strip_prefix(PREFIX);
        debug_assert!(short.is_some(), "{name} is no value of an ErrorReason");
        Self(short.unwrap_or(name))
    }

    /// The value in an `ErrorInfo`, such as `ETAG_MISMATCH`.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The value with this name in an `ErrorReason`, found with its `from_str_name`; `None` if it has none.
    pub fn value<R>(self, from_str_name: fn(&str) -> Option<R>) -> Option<R> {
        value(self.0, from_str_name)
    }
}

/// The reasons with which this crate fails calls on behalf of any service.
macro_rules! common {
    ($($name:ident),+ $(,)?) => {
        impl Reason {
            $(pub(crate) const $name: Self = Self(stringify!($name));)+

            /// All reasons that this crate uses. The `ErrorReason` of every service contains them; each service has a
            /// test for that.
            pub const COMMON: &[Self] = &[$(Self::$name),+];
        }
    };
}

common![
    INVALID_FIELDS,
    UNAUTHENTICATED,
    TOKEN_INVALID,
    WORKLOADS_ONLY,
    RESOURCE_NOT_FOUND,
    PAGE_TOKEN_INVALID,
    QUOTA_EXCEEDED,
    INTERNAL,
];

fn value<R>(reason: &str, from_str_name: fn(&str) -> Option<R>) -> Option<R> {
    from_str_name(&format!("{PREFIX}{reason}"))
}

/// The reason why another service refused a call, found with the `from_str_name` of that service's `ErrorReason`.
/// `None` if the status has no reason, or one that this version of the contract does not know.
pub fn reason_of<R>(status: &Status, from_str_name: fn(&str) -> Option<R>) -> Option<R> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then(|| value(&info.reason, from_str_name))?
}

/// Builds a `Status` with its `ErrorInfo`.
#[derive(Debug, Clone)]
pub struct StatusBuilder {
    code: Code,
    message: String,
    reason: Reason,
    metadata: HashMap<String, String>,
    links: Vec<(String, String)>,
    retry_after: Option<Duration>,
}

impl StatusBuilder {
    /// Begins a status with a reason from the service's contract and a message that says who can fix the error and how.
    pub fn new(code: Code, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            reason,
            metadata: HashMap::new(),
            links: Vec::new(),
            retry_after: None,
        }
    }

    /// Adds a dynamic value to the `ErrorInfo`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a link to the `Help`.
    #[must_use]
    pub fn link(mut self, description: &str, url: impl Into<String>) -> Self {
        self.links.push((description.to_owned(), url.into()));
        self
    }

    /// Adds a `RetryInfo`: the caller should wait this long before a retry.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Builds the status.
    pub fn build(self) -> Status {
        let mut details = ErrorDetails::with_error_info(self.reason.as_str(), DOMAIN, self.metadata);
        for (description, url) in self.links {
            details.add_help_link(description, url);
        }
        if self.retry_after.is_some() {
            details.set_retry_info(self.retry_after);
        }
        Status::with_error_details(self.code, self.message, details)
    }
}

/// `NOT_FOUND`, for what does not exist and for what the caller may not see, so that the caller cannot tell which.
pub fn not_found(name: &str) -> Status {
    StatusBuilder::new(
        Code::NotFound,
        Reason::RESOURCE_NOT_FOUND,
        format!("{name} does not exist, or you may not see it"),
    )
    .with("resource", name)
    .build()
}

/// An internal error. The cause is logged where it is handled, and is not returned to the caller.
pub fn internal() -> Status {
    StatusBuilder::new(Code::Internal, Reason::INTERNAL, "internal error; see the server log").build()
}

/// Checks a requested page size: a negative one is a violation, 0 becomes the default, and a large one is coerced.
pub fn page_size(requested: i32) -> Result<i32, Violations> {
    if requested < 0 {
        let mut violations = Violations::new();
        violations.add("page_size", "must not be negative");
        return Err(violations);
    }
    Ok(if requested == 0 {
        DEFAULT_PAGE_SIZE
    } else {
        requested.min(MAX_PAGE_SIZE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_many_violations_as_fit_a_trailer() {
        let mut violations = Violations::new();
        for index in 0..1_000 {
            violations.add(
                format!("values[{index}]"),
                "x".repeat(if index == 0 { 100_000 } else { 50 }),
            );
        }
        let status = Status::from(violations);
        assert!(status.details().len() < 5_500, "{}", status.details().len());
        let told = status
            .get_details_bad_request()
            .expect("it has details")
            .field_violations;
        assert_eq!(told[1].field, "values[1]");
        let rest = told.last().expect("some are told");
        assert_eq!(rest.description, format!("and {} more", 1_000 - (told.len() - 1)));
    }

    #[test]
    fn keeps_the_first_violations_and_counts_the_rest() {
        let mut part = Violations::new();
        for index in 0..100_000 {
            part.add(format!("paths[{index}]"), "is unknown");
        }
        let mut all = Violations::new();
        all.add("name", "is missing");
        all.extend("mask", part);
        assert_eq!(all.first.len(), MAX_KEPT);
        assert_eq!(all.count(), 100_001);
        let status = Status::from(all);
        let told = status
            .get_details_bad_request()
            .expect("it has details")
            .field_violations;
        let rest = told.last().expect("some are told");
        assert_eq!(rest.description, format!("and {} more", 100_001 - (told.len() - 1)));
    }

    #[test]
    fn a_reason_is_read_back_as_a_value_of_the_contract() {
        fn from_str_name(name: &str) -> Option<u8> {
            (name == "ERROR_REASON_INTERNAL").then_some(1)
        }
        assert_eq!(reason_of(&internal(), from_str_name), Some(1));
        assert_eq!(reason_of(&not_found("entries/a"), from_str_name), None);
        assert_eq!(reason_of(&Status::internal("it says nothing"), from_str_name), None);
        let foreign = ErrorDetails::with_error_info("INTERNAL", "example.com", HashMap::new());
        let foreign = Status::with_error_details(Code::Internal, "of another domain", foreign);
        assert_eq!(reason_of(&foreign, from_str_name), None);
    }
}
