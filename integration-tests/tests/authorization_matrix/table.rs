//! The table, as it stands in `table.md`.

use crate::world::Who;

/// A row: who may call one RPC about one kind of thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// `chandlery.registry.v1.EntryService`.
    pub(crate) service: String,
    /// `GetEntry`.
    pub(crate) method: String,
    /// `the teams'`.
    pub(crate) about: String,
    /// What comes of it, for each of [`Who::ALL`].
    pub(crate) outcomes: Vec<String>,
}

impl Row {
    /// As it stands in the table.
    pub(crate) fn line(&self) -> String {
        format!("| {} | {} | {} |", self.method, self.about, self.outcomes.join(" | "))
    }
}

/// The rows of the table: each heading `## SERVICE` is followed by the table of that service.
///
/// # Panics
/// If a row has another number of columns than the callers.
pub(crate) fn rows(text: &str) -> Vec<Row> {
    let mut service = None;
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            service = heading.starts_with("chandlery.").then(|| heading.trim().to_owned());
            continue;
        }
        let (Some(service), Some(cells)) = (&service, line.strip_prefix("| ")) else {
            continue;
        };
        let cells: Vec<&str> = cells
            .trim_end()
            .trim_end_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        assert_eq!(cells.len(), Who::ALL.len() + 2, "{service}: {line}");
        if cells[0] == "RPC" {
            let callers: Vec<&str> = Who::ALL.iter().map(|who| who.name()).collect();
            assert_eq!(cells[2..], callers, "{service}: the columns");
        } else if !cells[0].starts_with("---") {
            rows.push(Row {
                service: service.clone(),
                method: cells[0].to_owned(),
                about: cells[1].to_owned(),
                outcomes: cells[2..].iter().map(|&cell| cell.to_owned()).collect(),
            });
        }
    }
    rows
}
