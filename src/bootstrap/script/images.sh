# Pairs: the name in the mirror, the name that it must have here.
MISSING=()

images_done() {
  local total=$(($# / 2))
  MISSING=()
  while [ $# -gt 0 ]; do
    if ! image_present "$2"; then MISSING+=("$1" "$2"); fi
    shift 2
  done
  WHY="$((${#MISSING[@]} / 2)) of $total missing"
  [ ${#MISSING[@]} -eq 0 ]
}

# One image that cannot be had does not keep the others back.
images_make() {
  local index number=0 total=$((${#MISSING[@]} / 2)) mirror image
  for ((index = 0; index < ${#MISSING[@]}; index += 2)); do
    mirror=${MISSING[index]} image=${MISSING[index + 1]} number=$((number + 1))
    if retry 4 image_pull "$mirror" && image_name "$mirror" "$image" && image_present "$image"; then
      say "        $number of $total: $image"
    else
      say "        $number of $total FAILED: $image, as $mirror"
      LEFT+="${LEFT:+, }$image"
    fi
  done
  if [ -n "$LEFT" ]; then IMAGES_LEFT=true LEFT="not pulled: $LEFT"; fi
}
