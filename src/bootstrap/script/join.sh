join_done() {
  local file
  WHY='no kubelet runs, and nothing was left by a join'
  if cat /proc/[0-9]*/comm 2>/dev/null | grep -x kubelet >/dev/null; then return 0; fi
  for file in "${JOINED[@]}"; do
    if [ -e "$file" ]; then return 0; fi
  done
  return 1
}

# Keeps the standard streams alone open: what a join leaves running must not hold the output of this script, or a session
# that waits for its end.
standard_streams() {
  local fd
  for fd in /proc/"$BASHPID"/fd/*; do
    fd=${fd##*/}
    if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
  done
}

# What comes in, without the token.
masked() {
  local line
  standard_streams
  while IFS= read -r line || [ -n "$line" ]; do
    if [ -n "$TOKEN" ]; then line=${line//"$TOKEN"/***}; fi
    printf '%s\n' "$line"
  done
}

fetch_token() {
  case $TOKEN_FROM in
    file) TOKEN=$(<"$TOKEN_SOURCE") ;;
    command) TOKEN=$(timeout 120 bash -c "$TOKEN_SOURCE") ;;
  esac
}

# The command, and how many seconds the kubelet may take after it.
join_make() {
  local command=$1 patience=$2
  if $IMAGES_LEFT && ! $JOIN_WITHOUT_IMAGES; then
    fail 'images are missing' 'run the script again, or with --join-without-images'
  fi
  TOKEN=''
  if [ "$TOKEN_FROM" != none ]; then
    retry 3 fetch_token 2>&1 || fail "the token cannot be had from the $TOKEN_FROM that the state names" "check $TOKEN_SOURCE"
    case $TOKEN in
      '' | *[!A-Za-z0-9._:~+/=-]*)
        fail "what the $TOKEN_FROM gave is no token: it must be one line of letters, digits and ._:~+/=-" "check $TOKEN_SOURCE"
        ;;
    esac
  fi
  # Nothing that a shell would obey is in the token, so that it may stand anywhere in the command. The command comes in the
  # environment, which root alone can read: its arguments would show the token to everyone on the machine.
  command=${command//'{token}'/$TOKEN}
  (
    standard_streams
    DROVER_JOIN=$command exec bash -c 'command=$DROVER_JOIN; unset DROVER_JOIN; eval "$command"'
  ) > >(masked) 2>&1 || fail "the join command failed" "see $LOG for what it said"
  TOKEN=''
  say "        the command succeeded; waiting up to $patience s for the kubelet"
  while [ "$patience" -gt 0 ] && ! join_done; do
    sleep 1
    patience=$((patience - 1))
  done
}
