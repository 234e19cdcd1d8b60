# The mount that a path lies on, by the kernel's list: the last of those on the longest path around it. The path itself is
# not touched, since a file system that hangs would hold the script.
MOUNT_POINT='' MOUNT_TYPE='' MOUNT_SOURCE=''
mount_of() {
  local path=$1 point rest
  MOUNT_POINT='' MOUNT_TYPE='' MOUNT_SOURCE=''
  while read -r _ _ _ _ point rest; do
    printf -v point '%b' "$point"
    case $path/ in
      "${point%/}"/*) if [ "${#point}" -lt "${#MOUNT_POINT}" ]; then continue; fi ;;
      *) continue ;;
    esac
    read -r MOUNT_TYPE MOUNT_SOURCE _ <<<"${rest#* - }"
    MOUNT_POINT=$point
    printf -v MOUNT_SOURCE '%b' "$MOUNT_SOURCE"
  done </proc/self/mountinfo
}

# Whether what mount_of found counts as the distributed file system.
mount_counts() {
  local name found=false
  for name in "${TYPES[@]}"; do
    if [ "$MOUNT_TYPE" = "$name" ]; then found=true; fi
  done
  if ! $found; then
    WHY="$1 lies on the machine's own disk, and not on ${TYPES[*]}"
    if [ -n "${MOUNT_POINT#/}" ]; then WHY="$1 lies on $MOUNT_SOURCE of type $MOUNT_TYPE at $MOUNT_POINT, and not on ${TYPES[*]}"; fi
    return 1
  fi
  if [ ${#SOURCES[@]} -eq 0 ]; then return 0; fi
  for name in "${SOURCES[@]}"; do
    case $name in
      *'*') if [ "${MOUNT_SOURCE#"${name%'*'}"}" != "$MOUNT_SOURCE" ] || [ "$name" = '*' ]; then return 0; fi ;;
      *) if [ "$MOUNT_SOURCE" = "$name" ]; then return 0; fi ;;
    esac
  done
  WHY="$1 lies on $MOUNT_SOURCE, and not on ${SOURCES[*]}"
  return 1
}

# Where a path leads, without waiting for ever for a file system that hangs.
resolved() { timeout -s KILL 30 realpath -m -- "$1"; }

on_storage() {
  local real
  if $LOCAL; then return 0; fi
  real=$(resolved "$1") || { WHY="$1 does not answer" && return 1; }
  mount_of "$real"
  mount_counts "$1"
}

# The line of /etc/fstab, and the mount point as it stands there.
readonly FSTAB_MARK='# by drover bootstrap'
fstab_done() {
  local line before='' state=1
  local -a fields
  WHY='/etc/fstab has no line for it'
  if [ ! -e /etc/fstab ]; then return 1; fi
  while IFS= read -r line || [ -n "$line" ]; do
    read -r -a fields <<<"$line"
    if [ "${fields[1]:-}" = "$2" ] && [ "${line#\#}" = "$line" ]; then
      if [ "${fields[*]:0:4}" = "${1% 0 0}" ]; then
        state=0
      elif [ "$before" = "$FSTAB_MARK" ]; then
        WHY='its line in /etc/fstab is another one' state=1
      else
        WHY="/etc/fstab has a line of somebody else for it: $line"
        HELP="remove that line, or change the state, and run the script again"
        return 2
      fi
    fi
    before=$line
  done </etc/fstab
  return "$state"
}

fstab_make() {
  local lines=''
  if [ -e /etc/fstab ]; then
    lines=$(awk -v mark="$FSTAB_MARK" '$0 == mark { skip = NR + 1; next } NR == skip { next } { print }' /etc/fstab)
  fi
  printf '%s\n' ${lines:+"$lines"} "$FSTAB_MARK" "$1" | replace_file /etc/fstab
  # systemd makes its units of these lines.
  if have systemctl; then systemctl daemon-reload || true; fi
}

mount_done() {
  mount_of "$1"
  if [ "$MOUNT_POINT" = "$1" ]; then
    if mount_counts "$1"; then return 0; fi
    HELP="see what uses it, unmount it, and run the script again"
    return 2
  fi
  WHY='nothing is mounted there'
  if [ -L "$1" ] || { [ -e "$1" ] && [ ! -d "$1" ]; }; then
    WHY="$1 is no directory"
  elif [ -d "$1" ] && [ -n "$(find "$1" -mindepth 1 -maxdepth 1 -print -quit)" ]; then
    WHY="nothing is mounted at $1, and it has data on the local disk that a mount would hide"
  else
    return 1
  fi
  HELP='move it away, and run the script again'
  return 2
}

mount_make() {
  mkdir -p -- "$1"
  retry 3 timeout -s KILL 180 mount "$1" || fail "$1 cannot be mounted" "see $LOG for what mount said, and check the server, the network and the client packages"
}

# Nothing below is done unless this holds.
verified_done() {
  if on_storage "$1"; then return 0; fi
  HELP="mount the file system there; until then nothing is created, since it would land on the local disk"
  return 2
}

verified_make() { :; }

# Creates directories below one that is there, and nothing outside of the storage.
make_directories() {
  local path=$1 part made=''
  local -a parts
  IFS=/ read -r -a parts <<<"${path#/}"
  for part in "${parts[@]}"; do
    made+=/$part
    if [ -e "$made" ]; then continue; fi
    if ! on_storage "${made%/*}/"; then fail "$WHY" "it would land on the local disk"; fi
    mkdir -- "$made"
  done
}

# The root, where it is no link.
root_done() {
  WHY='it is missing'
  if [ -L "$1" ]; then
    WHY="$1 is a link to $(readlink -- "$1"), and the state names none"
    HELP='name it as storage.link, or remove it'
    return 2
  fi
  if [ ! -e "$1" ]; then return 1; fi
  if [ -d "$1" ] && on_storage "$1"; then return 0; fi
  if [ ! -d "$1" ]; then WHY="$1 is no directory"; fi
  return 2
}

root_make() { make_directories "$1"; }

# The link, and where it leads.
link_done() {
  local root=$1 target=$2
  if [ -L "$root" ]; then
    if [ "$(readlink -- "$root")" != "$target" ]; then
      WHY="$root leads to $(readlink -- "$root"), and not to $target"
      HELP="if nothing uses it, remove the link and run the script again; otherwise change storage.link"
      return 2
    fi
    WHY="$target is missing"
    if [ ! -d "$target" ]; then return 1; fi
    if on_storage "$target"; then return 0; fi
    return 2
  fi
  WHY='it is missing'
  if [ ! -e "$root" ]; then return 1; fi
  HELP='move its data to the storage, remove it, and run the script again: a link never takes the place of data'
  if [ ! -d "$root" ]; then
    WHY="$root is no directory and no link"
    return 2
  fi
  mount_of "$root"
  if [ "$MOUNT_POINT" = "$root" ]; then
    WHY="$MOUNT_SOURCE is mounted at $root"
    HELP='unmount it, or remove storage.link'
    return 2
  fi
  if [ -n "$(find "$root" -mindepth 1 -maxdepth 1 -print -quit)" ]; then
    WHY="$root is a directory with data"
    return 2
  fi
  WHY='an empty directory is in its place'
  return 1
}

link_make() {
  local root=$1 target=$2
  if [ ! -d "$target" ]; then make_directories "$target"; fi
  if [ -L "$root" ]; then return; fi
  # rmdir takes nothing that holds anything.
  if [ -d "$root" ]; then rmdir -- "$root"; fi
  mkdir -p -- "${root%/*}/"
  ln -sT -- "$target" "$root"
}

# A directory below the root: its path, mode and owner, the last two perhaps empty.
directory_done() {
  local path=$ROOT/$1 mode=$2 owner=$3 real inside
  WHY='it is missing'
  if [ ! -e "$path" ] && [ ! -L "$path" ]; then return 1; fi
  inside=$(resolved "$ROOT") real=$(resolved "$path")
  if [ "${real#"$inside"/}" = "$real" ]; then
    WHY="$path leads out of $ROOT, to $real"
    HELP='a link stands in its way: see who made it'
    return 2
  fi
  if [ ! -d "$path" ]; then
    WHY="$path is no directory" HELP='see what it is, and move it away'
    return 2
  fi
  if ! on_storage "$path"; then return 2; fi
  if [ -n "$mode" ] && [ "$((8#$(stat -c %a -- "$real")))" != "$((8#$mode))" ]; then
    WHY="its mode is $(stat -c %a -- "$real")"
    return 1
  fi
  WHY="its owner is $(stat -c %u:%g -- "$real")"
  [ -z "$owner" ] || [ "$(stat -c %u:%g -- "$real")" = "$owner" ]
}

directory_make() {
  local path=$1 mode=$2 owner=$3 made=$ROOT part real inside
  local -a parts
  inside=$(resolved "$ROOT")
  IFS=/ read -r -a parts <<<"$path"
  for part in "${parts[@]}"; do
    real=$(resolved "$made")
    if [ "$real" != "$inside" ] && [ "${real#"$inside"/}" = "$real" ]; then fail "$made leads out of $ROOT, to $real"; fi
    made+=/$part
    if [ -e "$made" ]; then continue; fi
    if ! on_storage "$real"; then fail "$WHY" 'it would land on the local disk'; fi
    mkdir -- "$made"
  done
  # Five digits: without the first ones chmod would leave setuid and setgid as they are.
  if [ -n "$mode" ]; then chmod -- "0$mode" "$made"; fi
  if [ -n "$owner" ]; then chown -- "$owner" "$made"; fi
}
