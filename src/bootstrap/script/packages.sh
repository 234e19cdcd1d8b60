package_installed() {
  local name=${1%%=*} version='' wanted=''
  case $1 in *=*) wanted=${1#*=} ;; esac
  if have dpkg-query; then
    # A package that was removed is still known, with another status.
    dpkg-query --status "$name" 2>/dev/null | grep '^Status: .* installed$' >/dev/null || return 1
    version=$(dpkg-query --status "$name" 2>/dev/null | sed -n 's/^Version: //p')
  elif have rpm; then
    rpm --query --quiet -- "$name" || return 1
    version=$(rpm --query --queryformat '%{VERSION}-%{RELEASE}' -- "$name")
  else
    return 1
  fi
  [ -z "$wanted" ] || [ "$version" = "$wanted" ]
}

packages_done() {
  local name missing=''
  for name in "$@"; do
    if ! package_installed "$name"; then missing+=" $name"; fi
  done
  WHY="not installed:$missing"
  [ -z "$missing" ]
}

packages_make() {
  local name names=()
  if have apt-get; then
    export DEBIAN_FRONTEND=noninteractive
    retry 3 apt-get update
    retry 3 apt-get install --yes --no-install-recommends -- "$@"
  else
    for name in "$@"; do names+=("${name/=/-}"); done
    if have dnf; then
      retry 3 dnf install --assumeyes -- "${names[@]}"
    elif have yum; then
      retry 3 yum install --assumeyes -- "${names[@]}"
    elif have zypper; then
      retry 3 zypper --non-interactive install -- "${names[@]}"
    else
      fail "none of apt-get, dnf, yum and zypper is here" "install by hand: $*"
    fi
  fi
}
