//! A head that comes again on its connection: clients and servers send the same one each time, but for `Content-Length`.

use std::ops::Range;

use bytes::Bytes;

use super::framing::MAX_DIGITS;

/// Bytes of a head by which it is known again. Of a longer one, too much would be kept for each connection.
const LONGEST: usize = 4 << 10;

/// The head that a connection read last, and what it says.
#[derive(Debug)]
pub(super) struct LastHead<H>(Option<(SameHead, H)>);

impl<H> Default for LastHead<H> {
    fn default() -> Self {
        Self(None)
    }
}

impl<H> LastHead<H> {
    /// Of what comes again with the same head, the end of that, what it says, and its length.
    pub(super) fn again(&self, came: &[u8]) -> Option<(usize, &H, u64)> {
        let (same, head) = self.0.as_ref()?;
        let (end, length) = same.again(came)?;
        Some((end, head, length))
    }

    /// This one was read after it. `same`: by which it is known, if it may come again.
    pub(super) fn set(&mut self, same: Option<SameHead>, head: &H)
    where
        H: Clone,
    {
        self.0 = same.map(|same| (same, head.clone()));
    }

    /// What it says.
    pub(super) fn head(&self) -> Option<&H> {
        self.0.as_ref().map(|(_, head)| head)
    }
}

/// A head that was read. Another one with the same bytes but for the digits of its length says the same, but for the length.
#[derive(Debug)]
pub(super) struct SameHead {
    text: Bytes,
    /// Where the digits of its `Content-Length` are.
    digits: Range<usize>,
}

impl SameHead {
    /// `length`: the value of its `Content-Length`, a part of `text`. `None`: it is too long.
    pub(super) fn new(text: &Bytes, length: &[u8]) -> Option<Self> {
        let start = (length.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
        let digits = start..start + length.len();
        (text.len() <= LONGEST && text.get(digits.clone()) == Some(length)).then(|| Self {
            text: text.clone(),
            digits,
        })
    }

    /// The end of the head that `came` begins with, and its length, if it is the same. Otherwise it is another, or more must come.
    pub(super) fn again(&self, came: &[u8]) -> Option<(usize, u64)> {
        let Range { start, end } = self.digits;
        let rest = came.strip_prefix(&self.text[..start])?;
        let mut length = 0;
        let mut count = 0;
        while let Some(digit) = rest.get(count).filter(|byte| byte.is_ascii_digit()) {
            if count == MAX_DIGITS {
                return None;
            }
            length = length * 10 + u64::from(digit - b'0');
            count += 1;
        }
        let behind = &self.text[end..];
        (count > 0 && rest[count..].starts_with(behind)).then(|| (start + count + behind.len(), length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST / HTTP/1.1\r\ncontent-length: 12\r\nx: 12\r\n\r\n";

    fn same(head: &'static str, length: &str) -> Option<SameHead> {
        let text = Bytes::from_static(head.as_bytes());
        let at = head.find(length).unwrap();
        let length = text.slice(at..at + length.len());
        SameHead::new(&text, &length)
    }

    #[test]
    fn a_head_is_the_same_but_for_its_length() {
        let same = same(HEAD, "12").unwrap();
        let again = |text: &str| same.again(text.as_bytes());
        assert_eq!(again(&format!("{HEAD}{{}}")), Some((HEAD.len(), 12)));
        let other = |length: &str| HEAD.replacen("12", length, 1);
        for (length, number) in [("0", 0), ("7", 7), ("007", 7), ("999999999999999", 999_999_999_999_999)] {
            assert_eq!(again(&other(length)), Some((other(length).len(), number)), "{length}");
        }
        for length in [
            "",
            " 12",
            "12 ",
            "+1",
            "1,1",
            "1a",
            "0x1",
            "9999999999999999",
            "12\r\nx: y",
        ] {
            assert_eq!(again(&other(length)), None, "{length}");
        }
        for cut in 0..HEAD.len() {
            assert_eq!(again(&HEAD[..cut]), None, "{cut}");
            let mut changed = HEAD.as_bytes().to_vec();
            changed[cut] ^= 0x20;
            assert_eq!(same.again(&changed), None, "{cut}");
        }
    }

    #[test]
    fn a_long_head_and_a_length_from_elsewhere_are_not_kept() {
        let long = format!("content-length: 12\r\nx: {}\r\n\r\n", "x".repeat(LONGEST));
        let text = Bytes::from(long);
        assert!(SameHead::new(&text, &text.slice(16..18)).is_none());
        assert!(SameHead::new(&Bytes::from_static(b"content-length: 12"), b"12").is_none());
    }
}
