#!/usr/bin/env bash
# Sees to it that this machine can serve git over ssh and https: sshd and its tools, python3, openssl, git http-backend.
# Quick where everything is there; installs what is missing from Debian's packages, without starting any service.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
lock="${TMPDIR:-/tmp}/drover-git-servers.$(id -u).lock"

say() { echo "git-servers: $*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

missing() {
  [ -x /usr/sbin/sshd ] || echo openssh-server
  { command -v ssh-agent && command -v ssh-add && command -v ssh-keygen; } >/dev/null || echo openssh-client
  [ -x /usr/bin/python3 ] || echo python3
  command -v openssl >/dev/null || echo openssl
  [ -x "$(git --exec-path 2>/dev/null)/git-http-backend" ] || echo git
  { command -v setpriv && command -v prlimit; } >/dev/null || echo util-linux
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
