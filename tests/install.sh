#!/usr/bin/env bash
# Sees to it that this machine has what the tests drive: git, its servers over ssh and https, a GlusterFS volume,
# namespaces, shellcheck. Quick where everything is there; installs what is missing from Debian's packages, without
# starting any service.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
lock="${TMPDIR:-/tmp}/drover-tests.$(id -u).lock"

say() { echo "install: $*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
has() {
  local name
  for name in "$@"; do PATH="$PATH:/usr/sbin:/sbin" command -v "$name" >/dev/null || return 1; done
}

# The packages of what is not there, a line each.
missing() {
  { has git && [ -x "$(git --exec-path)/git-http-backend" ]; } || echo git
  has cc || echo gcc
  has make || echo make # with perl, for the TLS that is built into git
  has perl || echo perl
  has sshd || echo openssh-server
  has ssh-agent ssh-add ssh-keygen || echo openssh-client
  [ -x /usr/bin/python3 ] || echo python3
  has openssl || echo openssl
  has glusterfsd || echo glusterfs-server
  has glusterfs || echo glusterfs-client
  has setpriv prlimit unshare nsenter || echo util-linux
  has mount || echo mount
  has script || echo bsdutils
  has shellcheck || echo shellcheck
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
mapfile -t packages < <(missing)
[ "${#packages[@]}" = 0 ] || install_missing "${packages[@]}"
[ "$(id -u)" != 0 ] || mkdir -p -m 0755 /run/sshd # sshd insists on it as root
[ -z "$(missing)" ] || {
  say "still missing after the installation: $(missing | tr '\n' ' ')"
  exit 1
}
