#!/bin/sh
# Says which system packages are missing, before anything is downloaded. Exit status 1 if any is.
#   sh .ci/prerequisites.sh             what to install, in words
#   sh .ci/prerequisites.sh --packages  only the names of the Debian packages, for apt-get
#   LEXISEG_SERVERS=1 sh ...            also the servers that the tests start; nothing else needs them
# PYTHON names the interpreter (default python3).
python=${PYTHON:-python3}
packages=
reasons=

missing() { # package, what it is needed for
    packages="$packages $1"
    reasons="$reasons
  $1: $2"
}

command -v git >/dev/null 2>&1 || missing git "the command git was not found"
command -v make >/dev/null 2>&1 || missing make "the command make was not found"
command -v g++ >/dev/null 2>&1 || missing g++ "the command g++ was not found (it builds the dense CRF)"

if ! command -v "$python" >/dev/null 2>&1; then
    missing python3 "the command $python was not found"
    missing python3-venv "it makes the virtual environment"
    missing python3-dev "the header Python.h (it builds the dense CRF)"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    found=$("$python" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo "not working")
    missing python3 "$python is $found; 3.11 or newer is needed. If you have one: make PYTHON=python3.12 ..."
else
    "$python" -c 'import venv, ensurepip' 2>/dev/null || missing python3-venv "$python has no venv or ensurepip"
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null \
        || missing python3-dev "the header Python.h was not found (it builds the dense CRF)"
fi

if [ -n "$LEXISEG_SERVERS" ]; then
    command -v redis-server >/dev/null 2>&1 || missing redis-server "the command redis-server was not found"
    command -v rabbitmq-server >/dev/null 2>&1 || missing rabbitmq-server "the command rabbitmq-server was not found"
    command -v ip >/dev/null 2>&1 || missing iproute2 "the command ip was not found (tests without a network)"
    command -v postgres >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 \
        || missing postgresql "the command postgres was not found"
fi

if [ "$1" = --packages ]; then
    echo $packages
elif [ -n "$packages" ]; then
    echo "Missing on this machine:$reasons" >&2
    echo "Next: sudo apt-get install$packages" >&2
fi
[ -z "$packages" ]
