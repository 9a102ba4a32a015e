# The commands one types. `just` alone lists them.

# buf, in the version that the tests pin.
buf := '''npx -y "@bufbuild/buf@$(node -p 'require("../integration-tests/node/package.json").dependencies["@bufbuild/buf"]')"'''

default:
    @just --list

# Start everything in one process.
run *arguments:
    cargo run -- {{arguments}}

# Run every test, or only the journeys that are named; says first what it installs. With --no-install: what can run on this machine as it is.
test *arguments:
    integration-tests/run {{arguments}}

# Run the tests of all crates except the journeys: nothing is installed, no root is needed.
test-crates:
    cargo test --workspace --exclude integration-tests

# Everything that CI checks.
ci:
    .ci/run

# Run the fuzz targets for so many seconds each, or only those that are named.
fuzz *arguments:
    .ci/fuzz {{arguments}}

# Format code and contracts.
format:
    cargo fmt --all
    cd proto && {{buf}} format -w

# Lint code and contracts.
lint:
    cargo clippy --workspace --all-targets -- -D warnings
    cd proto && {{buf}} lint

# Measure gateway-svc beside nginx and the upstream itself.
bench:
    integration-tests/tools nginx
    cargo bench -p integration-tests --bench proxy

# Measure the registry, and the state of gateway-svc, at the size of a large company: all figures, or only those that are named.
bench-registry *figures:
    integration-tests/tools postgres
    cargo build --release -p chandlery
    cargo bench -p integration-tests --bench registry -- {{figures}}

# Measure what a byte costs, whatever its shape, and how long others wait: all shapes, or only those whose names contain a word.
bench-cost *shapes:
    cargo build --release -p chandlery
    cargo bench -p integration-tests --bench cost -- {{shapes}}

# Measure how long credential-svc takes to vend what is in Vault, read lately and not.
bench-vend:
    integration-tests/tools openbao
    cargo bench -p integration-tests --bench vend

# Measure how long local servers take to their first answer, held and not held.
bench-servers:
    cargo build --release -p chandlery -p stdio-bridge
    cargo bench -p integration-tests --bench servers
