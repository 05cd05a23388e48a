#!/bin/sh
# Unpacks PJSUA2 for Python, from PyPI, into the directory $1: PJSIP's client library, which Debian 12 has no package of, for
# tests/tests/clients. Doing it again does nothing. Says in one line why it cannot. Tried with PJSIP 2.15.1 and Python 3.11.
set -eu

fail() {
    echo "pjsua: $1" >&2
    exit 1
}

works() {
    PYTHONPATH=$1 python3 -c 'import pjsua2' >/dev/null 2>&1
}

[ $# -eq 1 ] || { echo "usage: pjsua.sh DIRECTORY" >&2; exit 1; }
command -v python3 >/dev/null || fail "python3 is missing"
mkdir -p "$1" || fail "cannot make $1"
cd "$1"
[ -d root ] && works "$PWD/root" && exit 0
rm -rf root root.new
mkdir root.new
python3 -m pip download -q --no-deps --only-binary :all: -d root.new pjsua2-python==2.15.1.post1 >log 2>&1 ||
    fail "pip cannot download it: $(tail -n 1 log)"
python3 -m zipfile -e root.new/*.whl root.new || fail "the wheel cannot be unpacked"
rm -f root.new/*.whl log
works "$PWD/root.new" || fail "what was unpacked does not run here"
mv root.new root
