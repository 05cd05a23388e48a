#!/bin/sh
# Unpacks Debian's Kamailio with the modules of docs/integration, and SIPp, into the directory $1: programs that the tests in
# tests/tests/proxies run. Doing it again does nothing. Says in one line why it cannot. Tried with Kamailio 5.6.3 and SIPp 3.6.1
# (Debian 12).
set -eu

. "$(dirname "$0")/../packages/unpack.sh"

# Both say their version, which needs all of their libraries.
works() {
    for triplet in "$1"/usr/lib/*/kamailio; do
        libraries="$(dirname "$triplet"):$triplet"
        LD_LIBRARY_PATH="$libraries" "$1/usr/sbin/kamailio" -v >/dev/null 2>&1 || return 1
        # SIPp leaves with 99 after it told its version.
        LD_LIBRARY_PATH="$libraries" "$1/usr/bin/sipp" -v 2>/dev/null | grep -q SIPp || return 1
        for module in http_client jansson db_sqlite presence_reginfo pua_reginfo; do
            [ -f "$triplet/modules/$module.so" ] || return 1
            ! LD_LIBRARY_PATH="$libraries" ldd "$triplet/modules/$module.so" | grep -q 'not found' || return 1
        done
    done
}

[ $# -eq 1 ] || { echo "usage: install.sh DIRECTORY" >&2; exit 1; }
unpack proxies "$1" "kamailio kamailio-sqlite-modules kamailio-utils-modules kamailio-extra-modules kamailio-presence-modules sip-tester"
