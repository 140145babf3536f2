#!/usr/bin/env bash
# Gets the control node's tools: Debian packages, and a virtual environment from the lock.
#
#   tools/bootstrap.sh           what the playbooks need
#   tools/bootstrap.sh --lab     and looks at whether hosts can be booted here (make up)
#   tools/bootstrap.sh --tests   and the servers that `make test` starts
#
# It looks at everything first and says what is missing before it starts. Run again, it does only what is left to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Needed on a plain Debian 12, or by an operator who runs `make up` there. Nothing else is installed on the machine.
packages=(
  ca-certificates
  curl
  debian-archive-keyring
  git
  iproute2
  mmdebstrap
  nftables
  openssh-client
  python3-venv
  systemd-container
)
test_packages=(
  clickhouse-server
  clickhouse-client
  haproxy
  postgresql
  redis-server
)

venv=.venv
lock=requirements.lock
python=${PYTHON:-/usr/bin/python3}

checks=()
for argument in "$@"; do
  case $argument in
    --tests) packages+=("${test_packages[@]}") ;;
    --lab) checks+=(--lab) ;;
    *)
      sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
      exit 64
      ;;
  esac
done

# What the environment is made from: the lock and the interpreter.
wanted_digest() {
  { cat "$lock"; "$python" --version 2>&1; } | sha256sum | cut -d ' ' -f 1
}

venv_state() {
  if [[ ! -x $venv/bin/python ]] || [[ ! -e $venv/.complete ]]; then
    echo none
  elif [[ $(<"$venv/.complete") == "$(wanted_digest)" ]]; then
    echo ready
  else
    echo old
  fi
}

say() { printf '  %-28s %s\n' "$1" "$2"; }

if ! "$python" -c '' 2>/dev/null; then
  echo "cannot start: $python does not run: install python3 (3.11 or newer), or say which with PYTHON=" >&2
  exit 1
fi
missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
((${#missing[@]} == 0)) || checks+=(--install)
[[ $(venv_state) == ready ]] || checks+=(--fetch)
"$python" tools/preconditions.py "${checks[@]}" || exit 1
as_root=()
((EUID == 0)) || as_root=(sudo -n)

# Runs a long command quietly; what it said is shown when it fails.
quietly() {
  local what=$1 log
  shift
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    echo "cannot go on: $what" >&2
    exit 1
  fi
  rm -f "$log"
}

install_packages() {
  local began=$SECONDS
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq)
  quietly "apt-get cannot fetch the package lists" "${apt[@]}" update -o APT::Update::Error-Mode=any
  # RUNLEVEL=1 above: where no systemd does it, a server's package would start it; tests start their own.
  quietly "apt-get cannot install ${missing[*]}" "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
  say "packages" "$((SECONDS - began)) s (${missing[*]})"
}

# The mark of a complete environment is written last and taken away first: what a kill leaves is made anew.
install_environment() {
  local began=$SECONDS
  if [[ $(venv_state) == none ]]; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
  fi
  rm -f "$venv/.complete"
  quietly "pip cannot install what $lock lists" "$venv/bin/python" -m pip install --disable-pip-version-check \
    --no-input --no-compile --no-deps --only-binary :all: --require-hashes -r "$lock"
  # Only what runs here: collections' modules run on hosts.
  quietly "Python cannot compile what pip installed" "$venv/bin/python" -m compileall -q -j 0 \
    -x 'ansible_collections|/tests?/' "$venv"/lib/python3*/site-packages
  wanted_digest >"$venv/.complete"
  say "virtual environment" "$((SECONDS - began)) s"
}

((${#missing[@]} == 0)) || install_packages
[[ $(venv_state) == ready ]] || install_environment
