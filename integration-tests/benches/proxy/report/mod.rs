//! The report: tables, plots, and for each figure whether it meets its limit.

mod plot;
mod summary;
mod table;
mod verdict;

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use crate::{rounds::Measured, streams::Idle, tools::Tools};

use verdict::Verdicts;

/// Start times and memory.
pub(crate) struct Start {
    pub(crate) first: Duration,
    pub(crate) with_data: Duration,
    /// Resident memory in MB.
    pub(crate) idle: f64,
    pub(crate) idle_children: f64,
    pub(crate) after_load: f64,
}

/// The report.
#[derive(Default)]
pub(crate) struct Report {
    measured: Vec<Measured>,
    lines: String,
    verdicts: Verdicts,
}

impl Report {
    /// Adds the rounds of a load.
    pub(crate) fn add(&mut self, measured: Measured) {
        let _ = write!(self.lines, "{}", table::of(&measured));
        let plain = measured.kind.plain();
        let plain = self.measured.iter().find(|other| Some(other.kind) == plain);
        self.verdicts.of_load(&measured, plain);
        self.measured.push(measured);
    }

    /// Adds what idle sessions with streams cost.
    pub(crate) fn add_idle(&mut self, idle: &Idle) {
        self.verdicts
            .at_most("memory of an idle session with a stream", idle.memory, 4.0, "KB");
        self.verdicts
            .at_most("CPU of a revision beside 10,000 streams", idle.revision, 1.0, "ms");
    }

    /// Adds what lists of many tools cost.
    pub(crate) fn add_tools(&mut self, tools: &Tools) {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let _ = writeln!(
            self.lines,
            "\ntools: ping {:.2} ms, tools/list of 1,000 {:.2} ms, search_tools over 10,000 {:.2} ms; {:.0} ms for the first search",
            ms(tools.ping),
            ms(tools.list),
            ms(tools.search),
            ms(tools.first),
        );
        self.verdicts
            .at_most("tools/list of 1,000 tools, all pages", ms(tools.list), 2.0, "ms");
        self.verdicts
            .at_most("search_tools over 10,000 tools", ms(tools.search), 5.0, "ms");
    }

    /// Adds start times and memory.
    pub(crate) fn add_start(&mut self, start: &Start) {
        let _ = writeln!(
            self.lines,
            "\nmemory: {:.1} MB when idle, {:.1} MB more for the demo server and its bridge; {:.1} MB after the load",
            start.idle, start.idle_children, start.after_load,
        );
        let seconds = |duration: Duration| duration.as_secs_f64();
        self.verdicts
            .at_most("start to ready, first start", seconds(start.first), 1.0, "s");
        self.verdicts
            .at_most("start to ready, with data", seconds(start.with_data), 1.0, "s");
        self.verdicts
            .at_most("memory when idle, with the demo", start.idle, 45.0, "MB");
    }

    /// Writes a plot of each load into a folder, and returns the text.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub(crate) fn finish(self, plots: &Path) -> String {
        fs::create_dir_all(plots).expect("the folder can be created");
        for measured in &self.measured {
            fs::write(plots.join(measured.kind.file()), plot::of(measured)).expect("the folder can be written");
        }
        format!("{}\nplots: {}\n\n{}", self.lines, plots.display(), self.verdicts)
    }
}
