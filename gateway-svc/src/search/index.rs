//! Which words are in which tools, and what each counts there.

use std::collections::HashMap;

use super::texts::{Searched, Texts};

/// How soon further occurrences of a word in a tool count less.
const SATURATION: f32 = 4.0;

/// The words of a list of tools. Takes 8 bytes for each word of each tool: for tools of 1 KB, a third of what their definitions take.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// All words in their order, one after another, with the end of each.
    words: Box<str>,
    ends: Box<[u32]>,
    /// Where the tools of each word begin, and after the last word, their end.
    firsts: Box<[u32]>,
    found: Box<[Found]>,
    /// How many tools there are.
    tools: usize,
}

/// A tool that has a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Its place in the list.
    pub(super) tool: u32,
    /// What the word counts in it; more where few tools have it.
    pub(super) counts: f32,
}

impl Index {
    /// Of these tools.
    pub(crate) fn of<'a>(tools: impl IntoIterator<Item = Searched<'a>>) -> Self {
        let mut known: HashMap<Box<str>, Vec<Found>> = HashMap::new();
        let (mut texts, mut count) = (Texts::default(), 0);
        for (place, tool) in (0..).zip(tools) {
            count += 1;
            texts.read(&tool);
            texts.each(|word, counts| {
                let tools = match known.get_mut(word) {
                    Some(tools) => tools,
                    None => known.entry(word.into()).or_default(),
                };
                match tools.last_mut().filter(|last| last.tool == place) {
                    Some(last) => last.counts += counts,
                    None => tools.push(Found { tool: place, counts }),
                }
            });
        }
        let mut sorted: Vec<_> = known.into_iter().collect();
        sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut words = String::with_capacity(sorted.iter().map(|(word, _)| word.len()).sum());
        let (mut ends, mut firsts) = (Vec::with_capacity(sorted.len()), Vec::with_capacity(sorted.len() + 1));
        let mut found = Vec::with_capacity(sorted.iter().map(|(_, tools)| tools.len()).sum());
        for (word, tools) in sorted {
            words.push_str(&word);
            ends.push(place(words.len()));
            firsts.push(place(found.len()));
            let rare = rarity(tools.len(), count);
            found.extend(tools.into_iter().map(|Found { tool, counts }| Found {
                tool,
                counts: rare * counts / (SATURATION + counts),
            }));
        }
        firsts.push(place(found.len()));
        Self {
            words: words.into(),
            ends: ends.into(),
            firsts: firsts.into(),
            found: found.into(),
            tools: count,
        }
    }

    /// How many tools there are.
    pub(super) const fn tools(&self) -> usize {
        self.tools
    }

    /// The tools that have this word, in their order.
    pub(super) fn with(&self, word: &str) -> &[Found] {
        let at = self.first_from(word);
        match self.word(at) {
            Some(known) if known == word => self.tools_of(at),
            _ => &[],
        }
    }

    /// The tools of each word that begins with this and is longer.
    pub(super) fn beginning(&self, with: &str) -> impl Iterator<Item = &[Found]> {
        let first = self.first_from(with);
        (first..self.ends.len())
            .take_while(move |&at| self.word(at).is_some_and(|word| word.starts_with(with)))
            .filter(move |&at| self.word(at).is_some_and(|word| word.len() > with.len()))
            .map(|at| self.tools_of(at))
    }

    /// The place of the first word that is not before this.
    fn first_from(&self, word: &str) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.word(middle).is_some_and(|known| known < word) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn word(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)? as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.words[start..end])
    }

    fn tools_of(&self, at: usize) -> &[Found] {
        &self.found[self.firsts[at] as usize..self.firsts[at + 1] as usize]
    }
}

/// What a word counts that so many of all tools have.
fn rarity(having: usize, all: usize) -> f32 {
    let (having, all) = (having as f32, all as f32);
    (1.0 + (all - having + 0.5) / (having + 0.5)).ln()
}

/// Memory has no room for as many words that this fails.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
