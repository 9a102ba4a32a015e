# The commands one types. `just` alone lists them.

default:
    @just --list

# Start everything in one process.
run *arguments:
    cargo run -- {{arguments}}

# Run every test, or only the journeys that are named; installs what they need.
test *journeys:
    integration-tests/run {{journeys}}

# Everything that CI checks.
ci:
    .ci/run

# Format the code.
format:
    cargo fmt --all

# Lint code and contracts.
lint:
    cargo clippy --workspace --all-targets -- -D warnings
    cd proto && npx -y @bufbuild/buf lint

# Measure the gateway beside nginx and the upstream itself.
bench:
    cargo bench -p integration-tests --bench proxy
