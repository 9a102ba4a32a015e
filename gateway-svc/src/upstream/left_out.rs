//! Tools of a server that no client is shown.

use std::fmt;

/// How many are named.
const NAMED: usize = 10;

/// How many are left out, and of the first of them, why. `Display` is for people, and empty where none is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    count: usize,
    first: Vec<String>,
}

impl LeftOut {
    /// `why` names the tool.
    pub(super) fn add(&mut self, why: String) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(why);
        }
    }

    pub(super) fn append(&mut self, more: Self) {
        self.count += more.count;
        self.first.extend(more.first);
        self.first.truncate(NAMED);
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => return Ok(()),
            1 => f.write_str("1 tool is left out")?,
            more => write!(f, "{more} tools are left out")?,
        }
        f.write_str(", which the people who run the server can correct: ")?;
        f.write_str(&self.first.join("; "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_first() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.to_string(), "");
        left_out.add("\"a\": it is not JSON".to_owned());
        assert_eq!(
            left_out.to_string(),
            "1 tool is left out, which the people who run the server can correct: \"a\": it is not JSON"
        );
        let mut more = LeftOut::default();
        (0..11).for_each(|_| more.add("b".to_owned()));
        left_out.append(more);
        let said = left_out.to_string();
        assert!(said.starts_with("12 tools are left out"), "{said}");
        assert!(said.ends_with("; b; and 2 more"), "{said}");
    }
}
