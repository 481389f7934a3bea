#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Make this machine ready for one purpose: system packages, virtual environment, Python packages.
#
#   tools/bootstrap.sh run|demo|test|volumes|openstack|dev|install
#
#   run    what `lustack serve` needs              demo   and the clients of the demonstration
#   test   what tox needs to do the rest           dev    and the tests and checkers themselves
#   volumes   what tox needs for the tests of volumes; openstack: and for those with guests
#   install   as run, but a copy that does not need this directory any more
#
# Asks nothing, reads nothing from standard input, may be run again at any time. Leaves .venv/.ready-PURPOSE.
# PYTHON names another interpreter than python3; VENV another place than .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

purpose=${1:?which purpose: run, demo, test, volumes, openstack, dev or install}
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
case $purpose in
    run) profiles=(run) install=(--editable '.[server]' --group clients) ;;
    demo) profiles=(run demo) install=(--editable '.[server]' --group clients) ;;
    test) profiles=(run demo test) install=(--group tox) ;;
    volumes) profiles=(test volumes) install=(--group tox) ;;
    openstack) profiles=(run test volumes openstack) install=(--group tox) ;;
    dev) profiles=(run demo test) install=(--editable '.[server]' --group test --group lint --group tox) ;;
    install) profiles=(run) install=(--upgrade '.[server]') ;;
    *) echo "$0: unknown purpose $purpose" >&2; exit 2 ;;
esac

give_up() {
    printf 'lustack: %s\n' "$*" >&2
    exit 1
}

# Install system packages, or say which are missing and how to get them.
install_packages() {
    local become=()
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            become=(sudo -n)
        else
            give_up "these system packages are missing: $*. Install them: sudo apt-get install $*"
        fi
    fi
    command -v apt-get >/dev/null || give_up "these packages are missing, and there is no apt-get: $*"
    echo "lustack: installing system packages: $*"
    local apt=("${become[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a apt-get -qq -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update || true  # one unreachable source must not stop what the others can give
    "${apt[@]}" install --yes --no-install-recommends "$@" >/dev/null || give_up "apt-get cannot install: $*"
}

command -v "$PYTHON" >/dev/null || install_packages python3 python3-venv
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || give_up "Python 3.11 or newer is needed, and $PYTHON is $("$PYTHON" --version 2>&1). Name another: PYTHON=python3.12 make …"
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv

# An environment whose interpreter went away (an upgrade of the system) is made anew.
if ! "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
    echo "lustack: making the virtual environment $VENV"
    "$PYTHON" -m venv --clear "$VENV"
fi
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --quiet --quiet "$@"; }
pip install --upgrade 'pip>=25.1' bindep  # that pip knows dependency groups

if command -v dpkg-query >/dev/null; then
    missing=$("$VENV/bin/bindep" --brief --file bindep.txt "${profiles[@]}" || true)
    # shellcheck disable=SC2086  # one word for each package
    if [ -n "$missing" ] && ! (install_packages $missing); then
        # The server finds its way without them (it remembers tokens by itself); the tests do not.
        case $purpose in run | install) echo "lustack: going on without them" >&2 ;; *) exit 1 ;; esac
    fi
else
    echo "lustack: no Debian or Ubuntu: see to it that what bindep.txt lists is here" >&2
fi

echo "lustack: installing Python packages for '$purpose'"
pip install "${install[@]}"
touch "$VENV/.ready-$purpose"
