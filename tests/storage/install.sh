#!/usr/bin/env bash
# Sees to it that this machine can serve and mount a GlusterFS volume, and make namespaces: glusterfs, util-linux, perl.
# Quick where everything is there; installs what is missing from Debian's packages, without starting any service.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
lock="${TMPDIR:-/tmp}/drover-storage.$(id -u).lock"

say() { echo "storage: $*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$@" >/dev/null; }

missing() {
  has glusterfsd || echo glusterfs-server
  has glusterfs || echo glusterfs-client
  { has unshare && has nsenter && has mount; } || echo util-linux mount
  has perl || echo perl
}

install_missing() {
  command -v apt-get >/dev/null || {
    say "needs $*, and can install that only on a Debian-like machine"
    exit 1
  }
  say "installing $*"
  if [ ! -e "$policy" ]; then # the tests start servers of their own; the packages must not
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq >&2
  as_root apt-get install -y -qq --no-install-recommends "$@" >&2
}

exec 9>"$lock"
flock 9 # two test runs on one machine install once
read -r -d '' -a packages < <(missing && printf '\0')
[ "${#packages[@]}" = 0 ] || install_missing "${packages[@]}"
[ -z "$(missing)" ] || {
  say "still missing after the installation: $(missing | tr '\n' ' ')"
  exit 1
}
