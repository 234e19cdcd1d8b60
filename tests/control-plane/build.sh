#!/usr/bin/env bash
# Prints the folder that holds etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubemark and kubectl,
# building what is missing from distribution packages (about 6 minutes, once; cached outside the checkout).
#
# KUBEBUILDER_ASSETS, the ecosystem's variable for such binaries, wins when it is set.
set -euo pipefail

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  echo "$KUBEBUILDER_ASSETS"
  exit 0
fi

version=1.20.2
package="kubernetes=1.20.5+really1.20.2-1.1+deb12u1"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/drover/control-plane-$version-2" # the last number moves with the patch below
components=(kube-apiserver kube-controller-manager kube-scheduler kubemark)

complete() {
  local name
  for name in etcd kubectl "${components[@]}"; do
    [ -x "$cache/$name" ] || return 1
  done
}

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9 # two test runs on one machine build once
if complete; then
  echo "$cache"
  exit 0
fi

say() { echo "control-plane: $*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

command -v apt-get >/dev/null || {
  say "needs a Debian-like machine to build the control plane; set KUBEBUILDER_ASSETS to a folder with its binaries instead"
  exit 1
}

say "installing the build tools"
export DEBIAN_FRONTEND=noninteractive
packages=(etcd-server golang-go jq rsync make gcc openssl dpkg-dev debian-archive-keyring)
missing=()
for name in "${packages[@]}"; do
  dpkg -s "$name" >/dev/null 2>&1 || missing+=("$name")
done
if [ "${#missing[@]}" -gt 0 ]; then
  as_root apt-get update -qq >&2
  as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Source packages through a private apt configuration: the machine's own stays as it is.
mkdir -p "$work/lists/partial" "$work/src" "$work/parts"
cat >"$work/sources.list" <<LIST
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security bookworm-security main
LIST
apt_private=(-o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=$work/parts"
  -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User=root -qq)
say "fetching the source package $package"
as_root apt-get "${apt_private[@]}" update >&2
(cd "$work/src" && apt-get "${apt_private[@]}" source --download-only "$package" >&2)

say "building Kubernetes $version (about 6 minutes)"
mkdir "$work/tree"
tar -xf "$work"/src/*.orig.tar.* -C "$work/tree" --strip-components=1
# Its reflect2 is older than Go 1.18 and walks maps by the memory layout of its time: any custom resource would take the
# API server down. This is what reflect2 1.0.2 does.
(cd "$work/tree/vendor/github.com/modern-go/reflect2" && sed -i \
  -e 's/^func mapiterinit(rtype unsafe.Pointer, m unsafe.Pointer) \*hiter$/func mapiterinit(rtype unsafe.Pointer, m unsafe.Pointer, it *hiter)/' \
  -e 's|^\t// rest fields are ignored$|\tt, h, buckets, bptr unsafe.Pointer\n\toverflow, oldoverflow *[]unsafe.Pointer\n\tstartBucket uintptr\n\toffset uint8\n\twrapped bool\n\tB, i uint8\n\tbucket, checkBucket uintptr|' \
  -e 's/^\treturn &UnsafeMapIterator{$/\tvar it hiter\n\tmapiterinit(type2.rtype, *(*unsafe.Pointer)(obj), \&it)\n&/' \
  -e 's/mapiterinit(type2.rtype, \*(\*unsafe.Pointer)(obj)),$/\&it,/' unsafe_link.go unsafe_map.go &&
  grep -q 'it \*hiter)$' unsafe_link.go && grep -q 'checkBucket' unsafe_link.go && grep -q '&it,$' unsafe_map.go) || {
  say "the patch for custom resources does not fit"
  exit 1
}
targets=""
for name in "${components[@]}" kubectl; do targets="$targets cmd/$name"; done
(cd "$work/tree" && KUBE_GIT_VERSION="v$version" make WHAT="${targets# }" >"$work/make.log" 2>&1) || {
  tail -n 40 "$work/make.log" >&2
  say "the build failed"
  exit 1
}
for name in "${components[@]}" kubectl; do
  install -m 0755 "$work/tree/_output/local/bin/linux/amd64/$name" "$cache/$name"
done
# A newer kubectl is the fairer peer in benchmarks; tests use the one that matches.
install -m 0755 "$(command -v etcd)" "$cache/etcd"

complete || {
  say "the build left no complete set of binaries in $cache"
  exit 1
}
echo "$cache"
