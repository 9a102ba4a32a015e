//! Parses the table in `table.md`.

use crate::world::Who;

/// A row: the outcomes of one RPC about one kind of resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Such as `chandlery.registry.v1.EntryService`.
    pub(crate) service: String,
    /// Such as `GetEntry`.
    pub(crate) method: String,
    /// Such as `the teams'`.
    pub(crate) about: String,
    /// The outcome for each of [`Who::ALL`].
    pub(crate) outcomes: Vec<String>,
}

impl Row {
    /// The row as text.
    pub(crate) fn line(&self) -> String {
        format!("| {} | {} | {} |", self.method, self.about, self.outcomes.join(" | "))
    }
}

/// Parses the rows. Each heading `## SERVICE` is followed by the table of that service.
///
/// # Panics
/// If a row does not have a column for each caller.
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
