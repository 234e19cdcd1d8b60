#!/usr/bin/env bash
# Every check of the project, in the order in which they fail fastest. It installs what it needs on a Debian-like machine
# that has Rust and a C compiler; the control plane is built once, and then cached.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "formatting"
cargo fmt --check

step "what the tests drive; the control plane is built in the background"
mkdir -p target
bash tests/install.sh >target/install.log 2>&1 || { cat target/install.log; exit 1; }
bash tests/control-plane/build.sh >target/control-plane.path 2>target/control-plane.log &
control_plane=$!

step "lints"
cargo clippy --locked --all-targets -- -D warnings

step "unit, property, snapshot and integration tests"
wait "$control_plane" || { cat target/control-plane.log; exit 1; }
cargo test --locked --lib --bins
# Most of them wait for a server or for time to pass.
RUST_TEST_THREADS=$((2 * $(nproc))) cargo test --locked --test it

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

step "the README's first command, as a newcomer runs it"
cargo run --locked --release --quiet -- plan

step "all checks passed"
