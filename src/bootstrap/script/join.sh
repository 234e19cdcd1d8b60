join_done() {
  local file
  WHY='no kubelet runs, and nothing was left by a join'
  if cat /proc/[0-9]*/comm 2>/dev/null | grep -x kubelet >/dev/null; then return 0; fi
  for file in "${JOINED[@]}"; do
    if [ -e "$file" ]; then return 0; fi
  done
  return 1
}

# What comes in, without the token.
masked() {
  local line
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
  # Nothing that a shell would obey is in the token, so that it may stand anywhere in the command. The command comes
  # through a pipe: its arguments would show the token to everyone on the machine.
  command=${command//'{token}'/$TOKEN}
  bash <(printf '%s\n' "$command") > >(masked) 2>&1 || fail "the join command failed" "see $LOG for what it said"
  TOKEN=''
  say "        the command succeeded; waiting up to $patience s for the kubelet"
  while [ "$patience" -gt 0 ] && ! join_done; do
    sleep 1
    patience=$((patience - 1))
  done
}
