//! The texts to look for, in pieces of bounded length.

use zeroize::Zeroizing;

/// A longer text is cut into pieces of this length, the last of which is longer. So a part of a secret is masked, too, and whatever the secret and the
/// text, to look for it at one place of the text costs no more than to compare a few pieces: otherwise, many `a` would be compared with a secret of
/// many `a` at each place of a text of them.
pub(crate) const PIECE: usize = 76;

/// The longest text that is looked for, in bytes.
pub const LONGEST: usize = 2 * PIECE - 1;

pub(crate) type Form = Zeroizing<Vec<u8>>;

/// Pieces, in lower case: see [`crate::found`].
#[derive(Default)]
pub(crate) struct Forms(Vec<Form>);

impl Forms {
    pub(crate) fn push(&mut self, mut form: Vec<u8>) {
        form.make_ascii_lowercase();
        let form = Zeroizing::new(form);
        if form.len() <= LONGEST {
            return self.0.push(form);
        }
        let mut rest = form.as_slice();
        while !rest.is_empty() {
            let length = if rest.len() > LONGEST { PIECE } else { rest.len() };
            let piece;
            (piece, rest) = rest.split_at(length);
            // A line of dashes is no secret.
            if piece
                .iter()
                .any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii())
            {
                self.0.push(Zeroizing::new(piece.to_vec()));
            }
        }
    }

    /// Each once, in order.
    pub(crate) fn sorted(self) -> Vec<Form> {
        let mut all = self.0;
        all.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn pieces_have_a_bounded_length_and_no_rest_that_is_short() {
        for (length, expected) in [
            (1, vec![1]),
            (LONGEST, vec![LONGEST]),
            (LONGEST + 1, vec![PIECE, PIECE]),
            (3 * PIECE + 5, vec![PIECE, PIECE, PIECE + 5]),
        ] {
            let mut forms = Forms::default();
            forms.push((0..length).map(|n| b'a' + u8::try_from(n / PIECE).unwrap()).collect());
            let lengths: Vec<usize> = forms.sorted().iter().map(|piece| piece.len()).collect();
            assert_eq!(lengths, expected);
        }
        let mut forms = Forms::default();
        forms.push(vec![b'-'; 1_000]);
        assert!(forms.sorted().is_empty());
    }
}
