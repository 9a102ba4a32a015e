//! Measures the processor time per byte for hostile shapes of messages, results, event streams, headers, protobuf and
//! forms, each small and large.
//!
//! `cargo build --release -p chandlery && cargo bench -p integration-tests --bench cost`. For each shape, two figures
//! are the server's processor time per byte, at a small size and at eight times that size: if the cost is linear, they
//! are alike. The other figures are the latency of `/livez` while requests of the shape are sent continuously, to
//! compare with its latency during small requests: no request may block a thread that others require. `-- answer`
//! measures only the shapes whose names contain that word.

mod server;
mod shapes;
mod table;
mod upstream;

use std::{fmt::Display, io::Write as _, sync::Arc};

use server::Server;
use shapes::Shape;
use table::{HEAD, Row};

/// How much larger the large size is.
const FACTOR: usize = 8;

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let server = Arc::new(Server::start().await);
        say(HEAD);
        let livez = server.responsiveness(None).await;
        say(format_args!("| small calls, for comparison | | | | | {livez} |"));
        for shape in shapes::all() {
            if wanted.is_empty() || wanted.iter().any(|wanted| shape.name.contains(wanted.as_str())) {
                say(measure(&server, &shape).await);
            }
        }
    });
}

fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn measure(server: &Arc<Server>, shape: &Shape) -> Row {
    let small = server.prepare(shape.way, &(shape.make)(shape.bytes / FACTOR));
    let large = server.prepare(shape.way, &(shape.make)(shape.bytes));
    Row {
        name: shape.name.clone(),
        bytes: large.bytes,
        small: server.cost(&small).await,
        large: server.cost(&large).await,
        livez: server.responsiveness(Some(large)).await,
    }
}
