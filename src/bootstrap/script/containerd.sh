readonly CONTAINERD_CONFIG=/etc/containerd/config.toml CERTS=/etc/containerd/certs.d

# The configuration with its top-level `root` (a string of TOML) and its folder of mirrors set, or left alone where an
# argument is empty.
containerd_joined() {
  WANTED_ROOT=$1 WANTED_CERTS=$2 awk '
    BEGIN { root = ENVIRON["WANTED_ROOT"]; certs = ENVIRON["WANTED_CERTS"] }
    function set_root() { if (root != "" && !rooted) { print "root = " root; rooted = 1 } }
    function set_certs() { if (inside && !set) { print "  config_path = \"" certs "\""; set = 1 } inside = 0 }
    /^[ \t]*version[ \t]*=/ && !table { version = $0; gsub(/[^0-9]/, "", version) }
    /^[ \t]*\[/ {
      set_root(); set_certs(); table = 1
      if (certs != "" && /^[ \t]*\[plugins\.["\047]io\.containerd\.(grpc\.v1\.cri["\047]|cri\.v1\.images["\047])\.registry\][ \t]*$/) inside = 1
    }
    !table && root != "" && /^[ \t]*root[ \t]*=/ { set_root(); next }
    inside && /^[ \t]*config_path[ \t]*=/ { if (!set) { print "  config_path = \"" certs "\""; set = 1 } next }
    { print }
    END {
      set_root(); set_certs()
      if (certs != "" && !set) {
        print (version >= 3 ? "[plugins.\047io.containerd.cri.v1.images\047.registry]" : "[plugins.\"io.containerd.grpc.v1.cri\".registry]")
        print "  config_path = \"" certs "\""
      }
    }' "$CONTAINERD_CONFIG"
}

# Arguments: the root, or nothing; what hosts.toml of Docker Hub says, or nothing.
containerd_config_done() {
  WHY="$CONTAINERD_CONFIG is missing"
  if [ ! -s "$CONTAINERD_CONFIG" ]; then return 1; fi
  WHY="$CONTAINERD_CONFIG says otherwise"
  if [ "$(containerd_joined "$1" "${2:+$CERTS}")" != "$(<"$CONTAINERD_CONFIG")" ]; then return 1; fi
  WHY="$CERTS/docker.io/hosts.toml says otherwise"
  [ -z "$2" ] || [ "$(cat "$CERTS/docker.io/hosts.toml" 2>/dev/null)" = "$2" ]
}

containerd_config_make() {
  local joined
  if [ ! -s "$CONTAINERD_CONFIG" ]; then
    printf 'version = 2\n' | replace_file "$CONTAINERD_CONFIG"
  fi
  joined=$(containerd_joined "$1" "${2:+$CERTS}")
  if [ "$joined" != "$(<"$CONTAINERD_CONFIG")" ]; then
    printf '%s\n' "$joined" | replace_file "$CONTAINERD_CONFIG"
  fi
  if [ -n "$2" ]; then printf '%s\n' "$2" | replace_file "$CERTS/docker.io/hosts.toml"; fi
}

# Whether the configuration changed after the service was started.
containerd_outdated() {
  local started
  started=$(systemctl show --property=ActiveEnterTimestamp containerd)
  started=$(date -d "${started#*=}" +%s 2>/dev/null) || return 1
  [ -e "$CONTAINERD_CONFIG" ] && [ "$(stat -c %Y -- "$CONTAINERD_CONFIG")" -gt "$started" ]
}

containerd_running_done() {
  WHY='it does not run'
  systemctl is-active --quiet containerd || return 1
  WHY='it does not start by itself'
  systemctl is-enabled --quiet containerd || return 1
  WHY='it was started before its configuration was changed'
  ! containerd_outdated
}

containerd_running_make() {
  systemctl enable containerd
  if systemctl is-active --quiet containerd && [ -n "$(ctr --namespace k8s.io tasks list --quiet 2>/dev/null)" ] && ! $RESTART_RUNTIME; then
    fail "containerd must be restarted, and containers run" "drain the machine and run the script with --restart-runtime; images in an old root are left behind there"
  fi
  systemctl restart containerd
  retry 6 ctr version
}

image_present() { [ -n "$(ctr --namespace k8s.io images list --quiet "name==$1" 2>/dev/null)" ]; }
image_pull() { timeout 3600 ctr --namespace k8s.io images pull --hosts-dir /etc/containerd/certs.d "$1"; }
image_name() { ctr --namespace k8s.io images tag --force "$1" "$2"; }
