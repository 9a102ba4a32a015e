//! Measures the program with only its demo: support for large companies must not make it slower to start, or larger.

use std::{env, path::PathBuf};

use integration_tests::Result;

use crate::{
    child,
    report::{Report, Wanted, say},
};

const STARTS: usize = 5;

pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    let Some(binary) = binary() else {
        return Err("there is no release build: cargo build --release -p chandlery".into());
    };
    let (mut starts, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (start, memory) = child::program(&binary).await?;
        say(&format!("  ready after {start:.2} s; {memory:.1} MB when idle"));
        starts.push(start);
        resident.push(memory);
    }
    report.figure(
        None,
        "standalone, demo only: start",
        median(starts),
        "s",
        Wanted::AtMost(0.3),
    );
    report.figure(
        None,
        "standalone, demo only: memory when idle",
        median(resident),
        "MB",
        Wanted::AtMost(70.0),
    );
    Ok(())
}

/// `CHANDLERY_BIN`, or the release build in the target folder of this program.
fn binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os("CHANDLERY_BIN") {
        return Some(path.into());
    }
    // The path is TARGET/PROFILE/deps/registry-HASH.
    let own = env::current_exe().ok()?;
    let built = own.ancestors().nth(3)?.join("release/chandlery");
    built.exists().then_some(built)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
