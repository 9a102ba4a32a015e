//! The value of the field `Date`, which each answer has (RFC 9110, section 6.6.1).

use std::{
    cell::RefCell,
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use httpdate::HttpDate;

thread_local! {
    static DATE: RefCell<Written> = const { RefCell::new(Written::new()) };
}

/// Gives the current date to `put`. It is written once a second on each thread.
pub fn with_date<T>(put: impl FnOnce(&str) -> T) -> T {
    DATE.with_borrow_mut(|date| put(date.at(SystemTime::now())))
}

/// A date, written.
struct Written {
    /// Since 1970; `None` before the first.
    second: Option<u64>,
    text: String,
}

impl Written {
    const fn new() -> Self {
        Self {
            second: None,
            text: String::new(),
        }
    }

    fn at(&mut self, now: SystemTime) -> &str {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            // A string takes whatever is written.
            let _ = write!(self.text, "{}", HttpDate::from(now));
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_date_is_written_again_with_the_next_second() {
        let mut date = Written::new();
        let start = UNIX_EPOCH + Duration::from_millis(784_111_777_900);
        assert_eq!(date.at(start), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(
            date.at(start + Duration::from_millis(99)),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
        assert_eq!(
            date.at(start + Duration::from_millis(100)),
            "Sun, 06 Nov 1994 08:49:38 GMT"
        );
        // A clock may be set back.
        assert_eq!(date.at(start), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn the_date_is_that_of_the_system() {
        let read = with_date(httpdate::parse_http_date).unwrap();
        assert!(read <= SystemTime::now());
        assert!(read > UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    }
}
