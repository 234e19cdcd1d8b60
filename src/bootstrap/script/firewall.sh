firewall_done() {
  local unit
  for unit in firewalld ufw; do
    WHY="$unit is on"
    if systemctl is-active --quiet "$unit" || systemctl is-enabled --quiet "$unit" 2>/dev/null; then return 1; fi
  done
  WHY='ufw is active'
  ! have ufw || ! ufw status | grep -x 'Status: active' >/dev/null
}

firewall_make() {
  local unit
  if have ufw; then ufw --force disable; fi
  for unit in firewalld ufw; do
    if systemctl is-active --quiet "$unit" || systemctl is-enabled --quiet "$unit"; then systemctl disable --now "$unit"; fi
  done
}
