//! What a query finds.

use super::{
    index::{Found, Index},
    words::words,
};

/// What a word counts of which a query has the beginning.
const BEGINNING: f32 = 0.6;
/// Characters of a beginning, at least.
const SHORTEST_BEGINNING: usize = 3;
/// A word that more tools have, and more than a quarter of all, ranks what others find, but finds nothing itself: `a`, `the`, `get`.
const FEW: usize = 50;

impl Index {
    /// The places of the tools that have words of this text, the best first; of equals, the first. The last word may be the beginning of one.
    /// The time grows with the query and with how often its words occur.
    pub(crate) fn search(&self, query: &str) -> Vec<u32> {
        let mut wanted: Vec<String> = Vec::new();
        words(query, |word| wanted.push(word.to_owned()));
        let last = wanted.last().cloned();
        wanted.sort_unstable();
        wanted.dedup();
        let (common, rare): (Vec<Hits<'_>>, Vec<Hits<'_>>) = wanted
            .iter()
            .map(|word| self.hits(word, last.as_ref() == Some(word)))
            .filter(|hits| hits.most() > 0)
            .partition(|hits| hits.most() > FEW.max(self.tools() / 4));
        let mut scores = Scores::new(self.tools());
        for hits in &rare {
            scores.add(hits, true);
        }
        for hits in &common {
            scores.add(hits, rare.is_empty());
        }
        scores.ranked()
    }

    fn hits(&self, word: &str, may_begin: bool) -> Hits<'_> {
        let begins = may_begin && word.chars().count() >= SHORTEST_BEGINNING;
        Hits {
            exact: self.with(word),
            beginnings: if begins {
                self.beginning(word).collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// The tools that one word of a query finds.
struct Hits<'a> {
    exact: &'a [Found],
    /// Of each word that begins with it.
    beginnings: Vec<&'a [Found]>,
}

impl Hits<'_> {
    /// How many tools there may be.
    fn most(&self) -> usize {
        self.exact.len() + self.beginnings.iter().map(|tools| tools.len()).sum::<usize>()
    }
}

/// What each tool counts, by its place.
struct Scores {
    of: Vec<f32>,
    finds: Vec<bool>,
    /// The best that one word of the query counts in each tool; 0 between words.
    word: Vec<f32>,
}

impl Scores {
    fn new(tools: usize) -> Self {
        Self {
            of: vec![0.0; tools],
            finds: vec![false; tools],
            word: vec![0.0; tools],
        }
    }

    /// Adds what one word counts; `finds`: tools are found by it.
    fn add(&mut self, hits: &Hits<'_>, finds: bool) {
        let beginnings = hits.beginnings.iter().map(|&tools| (tools, BEGINNING));
        let all = || std::iter::once((hits.exact, 1.0)).chain(beginnings.clone());
        for (tools, part) in all() {
            for found in tools {
                let best = &mut self.word[found.tool as usize];
                *best = best.max(part * found.counts);
            }
        }
        for found in all().flat_map(|(tools, _)| tools) {
            let place = found.tool as usize;
            self.of[place] += std::mem::take(&mut self.word[place]);
            self.finds[place] |= finds;
        }
    }

    fn ranked(self) -> Vec<u32> {
        let mut ranked: Vec<(u32, f32)> = (0..)
            .zip(self.of)
            .zip(self.finds)
            .filter_map(|(scored, finds)| finds.then_some(scored))
            .collect();
        ranked.sort_unstable_by(|(a, a_scored), (b, b_scored)| b_scored.total_cmp(a_scored).then(a.cmp(b)));
        ranked.into_iter().map(|(place, _)| place).collect()
    }
}
