//! Keeps one of each text.

use std::{collections::HashSet, sync::Arc};

/// Not swept while there are fewer.
const FEW: usize = 1024;

/// One of each text that many objects hold: uids, names, reasons.
#[derive(Debug, Default)]
pub(super) struct Strings {
    known: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Strings {
    /// The one of this text.
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at.max(FEW) {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = 2 * self.known.len();
        }
        let new: Arc<str> = text.into();
        self.known.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_what_is_in_use_and_forgets_the_rest() {
        let mut strings = Strings::default();
        let kept = strings.get("kept");
        assert!(Arc::ptr_eq(&kept, &strings.get("kept")));
        for number in 0..10 * FEW {
            strings.get(&number.to_string());
        }
        assert!(strings.known.len() <= FEW, "{}", strings.known.len());
        assert!(Arc::ptr_eq(&kept, &strings.get("kept")));
    }
}
