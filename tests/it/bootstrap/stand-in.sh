#!/usr/bin/env bash
# What a test machine has instead of a package manager, systemd, container runtimes and a cluster to join. One file under
# several names; what they know is kept in files, and what each was asked stands in `asked`.
set -euo pipefail
state=/stand-ins/state
name=${0##*/}
holds() { grep -Fxq -e "$2" "$state/$1" 2>/dev/null; }
put() { if ! holds "$1" "$2"; then printf '%s\n' "$2" >>"$state/$1"; fi; }
drop() { if [ -e "$state/$1" ]; then grep -Fxv -e "$2" "$state/$1" >"$state/$1.new" || true; mv "$state/$1.new" "$state/$1"; fi; }
# Fails once for each line of a file with this text.
hiccup() { if holds hiccups "$1"; then drop hiccups "$1"; echo "stand-in: no luck this time" >&2; exit 1; fi; }

case $name in
  dpkg-query)
    holds packages "$2" || { echo "package '$2' is not installed" >&2; exit 1; }
    printf 'Package: %s\nStatus: install ok installed\nVersion: 1.0-1\n' "$2"
    ;;
  apt-get)
    printf '%s\n' "$name $*" >>"$state/asked"
    if [ "$1" = update ]; then hiccup apt-update; exit 0; fi
    while [ "$1" != -- ]; do shift; done
    shift
    for package in "$@"; do
      if holds broken "$package"; then echo "E: Unable to locate package $package" >&2; exit 100; fi
      put packages "${package%%=*}"
    done
    ;;
  systemctl)
    unit=${*: -1}
    case $1 in
      is-active) holds active "$unit" ;;
      is-enabled) holds enabled "$unit" ;;
      daemon-reload) ;;
      show) echo "ActiveEnterTimestamp=$(cat "$state/$unit.started" 2>/dev/null)" ;;
      *)
        printf '%s\n' "$name $*" >>"$state/asked"
        case $1 in
          enable) put enabled "$unit" ;;
          disable) drop enabled "$unit" && drop active "$unit" ;;
          restart | start | reload)
            put active "$unit"
            date >"$state/$unit.started"
            # What it runs with until it is restarted.
            if [ "$unit $1" = 'docker reload' ]; then
              grep -A9 registry-mirrors /etc/docker/daemon.json >"$state/docker.mirrors"
            elif [ "$unit" = docker ]; then
              cp /etc/docker/daemon.json "$state/docker.mirrors" 2>/dev/null || true
              sed -n 's/.*"data-root": "\(.*\)".*/\1/p' "$state/docker.mirrors" >"$state/docker.root"
            fi
            ;;
        esac
        ;;
    esac
    ;;
  docker)
    case $1 in
      info)
        holds active docker || { echo 'Cannot connect to the Docker daemon' >&2; exit 1; }
        case ${3:-} in
          *DockerRootDir*) cat "$state/docker.root" ;;
          *Mirrors*) grep -o '"https\?://[^"]*"' "$state/docker.mirrors" | tr -d '"' | sed 's|$|/|' ;;
        esac
        ;;
      ps) cat "$state/containers" 2>/dev/null || true ;;
      image) holds images "$3" ;;
      pull)
        printf '%s\n' "$name $*" >>"$state/asked"
        if [ -e "$state/slow" ]; then sleep 60; fi
        hiccup "$3"
        if holds broken "$3"; then echo 'manifest unknown' >&2; exit 1; fi
        put images "$3"
        ;;
      tag) holds images "$2" && put images "$3" ;;
    esac
    ;;
  ctr)
    while [ "${1#--}" != "$1" ]; do shift 2; done
    case "$1 ${2:-}" in
      'images list') if holds images "${*: -1}" || holds images "$(printf '%s' "${*: -1}" | sed 's/^name==//')"; then echo "${*: -1}"; fi ;;
      'images pull') printf '%s\n' "$name $*" >>"$state/asked" && put images "${*: -1}" ;;
      'images tag') put images "${*: -1}" ;;
      'tasks list') cat "$state/containers" 2>/dev/null || true ;;
    esac
    ;;
  join-cluster)
    printf '%s\n' "$name $*" >>"$state/asked"
    echo "joining with $*"
    hiccup join
    mkdir -p /etc/kubernetes
    touch /etc/kubernetes/kubelet.conf
    ;;
esac
