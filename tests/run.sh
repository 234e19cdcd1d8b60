#!/usr/bin/env bash
# Every check of the project, in the order in which they fail fastest. It installs what it needs on a Debian-like machine
# that has Rust and a C compiler: the control plane (built once, then cached), git and ssh servers, GlusterFS, shellcheck.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# The build of git's TLS needs perl and make; the tests drive git itself.
missing=()
for tool in git perl make cc setpriv script unshare openssl shellcheck; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ "${#missing[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "install these first: ${missing[*]}" >&2; exit 1; }
  step "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq
  as_root apt-get install -y -qq --no-install-recommends git perl make gcc util-linux bsdutils openssl shellcheck >/dev/null
fi

step "formatting"
cargo fmt --check

step "the control plane for the tests (in the background)"
mkdir -p target
bash tests/control-plane/build.sh >target/control-plane.path 2>target/control-plane.log &
control_plane=$!
bash tests/git-servers/install.sh >target/git-servers.log 2>&1 || { cat target/git-servers.log; exit 1; }
bash tests/storage/install.sh >target/storage.log 2>&1 || { cat target/storage.log; exit 1; }

step "lints"
cargo clippy --locked --all-targets -- -D warnings

step "unit, property, snapshot and integration tests"
wait "$control_plane" || { cat target/control-plane.log; exit 1; }
cargo test --locked --lib --bins
cargo test --locked --test it

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

step "the README's first command, as a newcomer runs it"
cargo run --locked --release --quiet -- plan

step "all checks passed"
