#!/bin/sh
# Unpacks baresip, Linphone's command-line client and tshark into the directory $1: programs that the tests in
# tests/tests/clients run. Doing it again does nothing. Says in one line why it cannot. Tried with baresip 1.0.0, Linphone 5.1.65
# and tshark 4.0.17 (Debian 12).
set -eu

. "$(dirname "$0")/../packages/unpack.sh"

works() {
    for libraries in "$1"/usr/lib/*-linux-gnu; do
        all="$libraries:$libraries/pulseaudio:$1/lib/${libraries##*/}"
        LD_LIBRARY_PATH=$all "$1/usr/bin/tshark" --version >/dev/null 2>&1 || return 1
        for program in baresip linphonec dumpcap; do
            ! LD_LIBRARY_PATH=$all ldd "$1/usr/bin/$program" | grep -q 'not found' || return 1
        done
    done
}

[ $# -eq 1 ] || { echo "usage: install.sh DIRECTORY" >&2; exit 1; }
unpack clients "$1" "baresip-core linphone-cli tshark"
