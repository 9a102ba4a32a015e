//! The bridge as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    stdio_bridge::main()
}
