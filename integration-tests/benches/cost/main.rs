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

use std::{io::Write as _, sync::Arc};

use server::Server;
use shapes::Shape;
use table::Table;

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
    let table = runtime.block_on(async {
        let server = Arc::new(Server::start().await);
        let mut table = Table::default();
        table.baseline(server.responsiveness(None).await);
        for shape in shapes::all() {
            if wanted.is_empty() || wanted.iter().any(|wanted| shape.name.contains(wanted.as_str())) {
                table.add(measure(&server, &shape).await);
            }
        }
        table
    });
    let _ = write!(std::io::stdout(), "{table}");
}

async fn measure(server: &Arc<Server>, shape: &Shape) -> table::Row {
    let small = server.prepare(shape.way, &(shape.make)(shape.bytes / FACTOR));
    let large = server.prepare(shape.way, &(shape.make)(shape.bytes));
    table::Row {
        name: shape.name.clone(),
        bytes: large.bytes,
        small: server.cost(&small).await,
        large: server.cost(&large).await,
        livez: server.responsiveness(Some(large)).await,
    }
}
