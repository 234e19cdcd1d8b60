set -Eeuo pipefail
shopt -s inherit_errexit 2>/dev/null || true # bash 4.4 and later
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
umask 022

DRY_RUN=false
JOIN_WITHOUT_IMAGES=false
RESTART_RUNTIME=false
FIRST_WAIT=2 # seconds before a second try; doubled for each further one
LOG=/var/log/drover-bootstrap.log

STEP='' NUMBER=0 ALREADY=0 DONE=0 PENDING=0 LOG_FROM=0
WHY=''  # why a step is not done, or cannot be
HELP='' # how to go on when it cannot be
LEFT='' # what a step that goes on in spite of failures left undone
TRIED='' # what was tried several times, in vain
UNFINISHED=()
IMAGES_LEFT=false
FINISHED=false
NOISE=/dev/null # where looking at things may complain

usage() {
  cat <<'USAGE'
Sets this machine up. Each step is looked at first: what is done already is left as it is, so that the script can be run
again at any time, and goes on where an earlier run stopped.

  --dry-run              tell what would be done, and change nothing
  --restart-runtime      restart the container runtime where that is needed, although containers run
  --join-without-images  join although some images could not be pulled
  --retry-wait SECONDS   wait so long before a second try, and twice as long before each further one (default 2)
  --log FILE             where everything is logged (default /var/log/drover-bootstrap.log)
USAGE
}

options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --dry-run) DRY_RUN=true ;;
      --restart-runtime) RESTART_RUNTIME=true ;;
      --join-without-images) JOIN_WITHOUT_IMAGES=true ;;
      --retry-wait) FIRST_WAIT=${2:?--retry-wait needs a number of seconds} && shift ;;
      --log) LOG=${2:?--log needs a file} && shift ;;
      --help | -h) usage && exit 0 ;;
      *) echo "unknown option $1; --help lists them" >&2 && exit 1 ;;
    esac
    shift
  done
  case $FIRST_WAIT in
    '' | *[!0-9]*) echo "--retry-wait needs a whole number of seconds" >&2 && exit 1 ;;
  esac
}

# To the terminal and to the log.
say() {
  printf '%s\n' "$*" >&3
  if ! $DRY_RUN; then printf '%(%Y-%m-%dT%H:%M:%S%z)T %s\n' -1 "$*" >>"$LOG"; fi
}

# Stops: what is wrong, and how to go on.
fail() {
  trap - ERR
  say "FAILED  $STEP: $1"
  if [ -n "${2:-}" ]; then say "        $2"; fi
  exit 1
}

# Where a command failed that was not expected to.
broken() {
  local code=$1 command=$2
  local line said=''
  trap - ERR
  # What was said, without what the terminal has shown already.
  if [ -f "$LOG" ]; then said=$(tail -c "+$((LOG_FROM + 1))" "$LOG" | grep -v '^[0-9-]*T[0-9:]*[+-][0-9]* ' | tail -n 10) || true; fi
  command=${TRIED:-$command}
  say "FAILED  $STEP: exit code $code of: ${command%%$'\n'*}"
  if [ -n "$said" ]; then
    while IFS= read -r line; do printf '        | %s\n' "$line" >&3; done <<<"$said"
  fi
  exit 1
}

ended() {
  local code=$?
  trap - EXIT ERR
  if $FINISHED; then exit "$code"; fi
  if [ ${#UNFINISHED[@]} -gt 0 ]; then
    for left in "${UNFINISHED[@]}"; do say "LEFT    $left"; done
  fi
  if [ "$NUMBER" -gt 0 ]; then
    say "stopped in step $NUMBER of $STEPS; mend what is named above and run the script again: it goes on from there (log: $LOG)"
  fi
  if [ "$code" = 0 ]; then code=1; fi
  exit "$code"
}

have() { command -v "$1" >/dev/null 2>&1; }

# Tries a command several times, with growing waits. What it leaves running must not hold the output of this script, or a
# session that waits for its end.
retry() {
  local tries=$1 try=1 wait=$FIRST_WAIT code
  shift
  while true; do
    code=0
    "$@" 3>&- || code=$?
    if [ "$code" = 0 ]; then return 0; fi
    if [ "$try" -ge "$tries" ]; then
      TRIED="$*"
      return "$code"
    fi
    say "        try $try of $tries failed, again in $wait s: $*"
    sleep "$wait"
    try=$((try + 1)) wait=$((wait * 2))
  done
}

# Puts what comes in into a file, whole or not at all; its mode and owner stay.
replace_file() {
  local path=$1 new
  mkdir -p -- "${path%/*}"
  new=$(mktemp -- "$path.XXXXXX")
  if [ -e "$path" ]; then
    if [ ! -e "$path.before-drover" ]; then cp -a -- "$path" "$path.before-drover"; fi
    cp -a -- "$path" "$new"
  else
    chmod 644 -- "$new"
  fi
  cat >"$new"
  mv -f -- "$new" "$path"
}

begin() {
  exec 3>&1
  trap 'broken $? "$BASH_COMMAND"' ERR
  trap ended EXIT
  trap 'say "interrupted"; exit 130' INT TERM HUP
  if $DRY_RUN; then
    say "what would be done on $NODE; nothing is changed"
  else
    if [ "$EUID" != 0 ]; then
      printf 'this changes the machine: run it as root, or with --dry-run\n' >&2
      FINISHED=true
      exit 1
    fi
    (umask 077 && mkdir -p -- "${LOG%/*}" && touch -- "$LOG")
    exec 9>>"$LOG"
    if have flock && ! flock -n 9; then
      printf 'this script runs on this machine already (%s is locked)\n' "$LOG" >&2
      FINISHED=true
      exit 1
    fi
    NOISE=$LOG
    say "setting up $NODE of cluster $CLUSTER"
  fi
  local name
  name=$(uname -n)
  if [ "$name" != "$NODE" ] && [ "${name%%.*}" != "$NODE" ]; then
    say "note    this machine is called $name; the script was made for $NODE"
  fi
}

# A step: looked at, done where it is not done yet, and looked at again.
#   TITLE KIND ARGUMENT...
# KIND_done tells by 0 that it is done, by 1 that it is not, by 2 that it cannot be; KIND_make does it.
step() {
  local kind=$2 state=0
  STEP=$1 NUMBER=$((NUMBER + 1)) WHY='' HELP='' LEFT='' TRIED=''
  shift 2
  "${kind}_done" "$@" 2>>"$NOISE" || state=$?
  if [ "$state" = 0 ]; then
    ALREADY=$((ALREADY + 1))
    say "already $STEP"
  elif $DRY_RUN; then
    if [ "$state" = 1 ]; then say "would   $STEP${WHY:+ ($WHY)}"; fi
    if [ "$state" != 1 ] && [ "$PENDING" = 0 ]; then say "STOPS   $STEP: $WHY${HELP:+; $HELP}"; fi
    if [ "$state" != 1 ] && [ "$PENDING" != 0 ]; then say "checks  $STEP, after the steps above (now: $WHY)"; fi
    PENDING=$((PENDING + 1))
  elif [ "$state" != 1 ]; then
    fail "$WHY" "$HELP"
  else
    say "doing   $STEP${WHY:+ ($WHY)}"
    LOG_FROM=$(stat -c %s -- "$LOG")
    # What is started here must not keep the lock.
    "${kind}_make" "$@" >>"$LOG" 2>&1 9>&-
    if [ -n "$LEFT" ]; then
      UNFINISHED+=("$STEP: $LEFT")
      return
    fi
    WHY='' HELP=''
    "${kind}_done" "$@" 2>>"$NOISE" || fail "it was done, and still ${WHY:-does not hold}" "$HELP"
    DONE=$((DONE + 1))
  fi
}

finish() {
  if $DRY_RUN; then
    say "$ALREADY of $STEPS steps are done already, $PENDING are not; nothing was changed"
  elif [ ${#UNFINISHED[@]} -gt 0 ]; then
    for left in "${UNFINISHED[@]}"; do say "LEFT    $left"; done
    say "$ALREADY of $STEPS steps were done already, $DONE were done now, ${#UNFINISHED[@]} left something undone: run the script again"
    FINISHED=true
    exit 1
  else
    say "$ALREADY of $STEPS steps were done already, $DONE were done now"
    say "labels are not set here: drover sets those of the Node document once the machine has joined"
  fi
  FINISHED=true
}
