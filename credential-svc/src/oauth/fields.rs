//! A JSON object of a server. What has the wrong type is as if it were missing, except where the reader asks.

use secrecy::SecretString;
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

const MAX_SCOPES: usize = 200;
const MAX_SCOPE: usize = 256;

/// Wipes its texts.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// `None` if the bytes are no JSON object.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().map(Self)
    }

    /// From a form, which a few token endpoints answer with.
    pub(super) fn parse_form(bytes: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(bytes);
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A text that is not empty, taken out.
    pub(super) fn secret(&mut self, name: &str) -> Option<SecretString> {
        match self.0.get_mut(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(std::mem::take(text).into()),
            _ => None,
        }
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Bool(true))
    }

    /// The texts of a list: at most `most`, of at most `longest` bytes. The others are left out.
    pub(super) fn list(&self, name: &str, most: usize, longest: usize) -> Vec<String> {
        let list = self.get(name).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        bounded(texts, most, longest)
    }

    /// Scopes: at most 200, of at most 256 bytes.
    pub(super) fn scopes(&self, name: &str) -> Vec<String> {
        self.list(name, MAX_SCOPES, MAX_SCOPE)
    }
}

/// The scopes of a `scope` parameter, as many as [`Fields::scopes`] returns.
pub(super) fn split_scopes(scope: &str) -> Vec<String> {
    bounded(scope.split_ascii_whitespace(), MAX_SCOPES, MAX_SCOPE)
}

fn bounded<'a>(texts: impl Iterator<Item = &'a str>, most: usize, longest: usize) -> Vec<String> {
    let texts = texts.filter(|text| !text.is_empty() && text.len() <= longest);
    texts.take(most).map(str::to_owned).collect()
}

impl Drop for Fields {
    fn drop(&mut self) {
        for value in self.0.values_mut() {
            if let Value::String(text) = value {
                text.zeroize();
            }
        }
    }
}
