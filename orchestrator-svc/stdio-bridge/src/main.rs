//! The bridge as a program of its own. It takes everything from standard input.

fn main() {
    std::process::exit(stdio_bridge::run_from_pipe());
}
