# The lines of /etc/fstab, those that turn swap on as comments.
without_swap() { awk '$1 !~ /^#/ && $3 == "swap" { print "# no swap, by drover bootstrap: " $0; next } { print }' /etc/fstab; }

swap_done() {
  WHY='swap is on'
  if awk 'NR > 1 { found = 1 } END { exit !found }' /proc/swaps; then return 1; fi
  WHY='/etc/fstab turns it on'
  [ ! -e /etc/fstab ] || [ "$(without_swap)" = "$(</etc/fstab)" ]
}

swap_make() {
  local lines
  swapoff -a
  if [ -e /etc/fstab ]; then
    lines=$(without_swap)
    printf '%s\n' "$lines" | replace_file /etc/fstab
  fi
}
