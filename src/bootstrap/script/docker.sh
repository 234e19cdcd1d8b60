readonly DOCKER_CONFIG=/etc/docker/daemon.json

# Compares and joins JSON objects; neither jq nor python3 is on every machine.
#   holds|join FILE WANTED
json() {
  if have jq; then
    jq --argjson wanted "$3" "if \"$1\" == \"join\" then . + \$wanted elif . + \$wanted == . then empty else error end" "$2"
  elif have python3; then
    python3 -c '
import json, sys
what, path, wanted = sys.argv[1:]
have = json.load(open(path))
joined = dict(have, **json.loads(wanted))
if what == "join":
    print(json.dumps(joined, indent=2))
sys.exit(what == "holds" and joined != have)' "$@" 2>/dev/null
  else
    return 3
  fi
}

docker_config_done() {
  local wanted=$1 state=0
  WHY="$DOCKER_CONFIG is missing"
  if [ ! -e "$DOCKER_CONFIG" ]; then return 1; fi
  if [ "$(<"$DOCKER_CONFIG")" = "$wanted" ]; then return 0; fi
  json holds "$DOCKER_CONFIG" "$wanted" || state=$?
  WHY="$DOCKER_CONFIG says otherwise"
  if [ "$state" = 3 ]; then
    WHY="$DOCKER_CONFIG is there, and neither jq nor python3 is, to change it"
    HELP="install jq, or write into it by hand: $wanted"
    return 2
  fi
  [ "$state" = 0 ]
}

docker_config_make() {
  local joined
  if [ ! -s "$DOCKER_CONFIG" ]; then
    printf '%s\n' "$1" | replace_file "$DOCKER_CONFIG"
    return
  fi
  joined=$(json join "$DOCKER_CONFIG" "$1") || fail "$DOCKER_CONFIG is no JSON object" "mend it, or move it away"
  printf '%s\n' "$joined" | replace_file "$DOCKER_CONFIG"
}

# How the docker that runs differs from its configuration: '', 'mirrors' or 'root'.
docker_differs() {
  local root=$1 mirror have
  shift
  if [ -n "$root" ] && [ "$(docker info --format '{{.DockerRootDir}}' 2>/dev/null)" != "$root" ]; then
    echo root
    return
  fi
  have=$(docker info --format '{{range .RegistryConfig.Mirrors}}{{println .}}{{end}}' 2>/dev/null)
  for mirror in "$@"; do
    # docker puts a slash behind each.
    if ! grep -Fx -e "$mirror" -e "$mirror/" <<<"$have" >/dev/null; then
      echo mirrors
      return
    fi
  done
}

docker_running_done() {
  local differs
  WHY='it does not run'
  docker info >/dev/null 2>&1 || return 1
  WHY='it does not start by itself'
  systemctl is-enabled --quiet docker || return 1
  differs=$(docker_differs "$@")
  WHY="it runs with another configuration: $differs"
  [ -z "$differs" ]
}

docker_running_make() {
  systemctl enable docker
  if ! docker info >/dev/null 2>&1; then
    systemctl restart docker
  elif [ "$(docker_differs "$@")" = mirrors ]; then
    systemctl reload docker
  elif [ "$(docker_differs "$@")" = root ]; then
    if [ -n "$(docker ps --quiet)" ] && ! $RESTART_RUNTIME; then
      fail "docker must be restarted, and containers run" "drain the machine and run the script with --restart-runtime; images and containers in the old folder are left behind there"
    fi
    systemctl restart docker
  fi
  retry 6 docker info >/dev/null
}

image_present() { docker image inspect "$1" >/dev/null 2>&1; }
image_pull() { timeout 3600 docker pull --quiet "$1"; }
image_name() { docker tag "$1" "$2"; }
