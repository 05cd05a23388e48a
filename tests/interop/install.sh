#!/bin/sh
# Fetches Kamailio, the MSRP implementation that peer.py runs, into the directory $1. Nothing is installed on the machine: the
# Debian package is unpacked there, and no service is started. Doing it again does nothing. Says in one line why it cannot.
# Tried with 5.6.3 (Debian 12); another version must still read relay.cfg, which is checked here.
set -eu

fail() {
    echo "interop peer: $1" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: install.sh DIRECTORY"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" || fail "cannot make $1"
cd "$1"
target=$(pwd)

# The configuration is read, nothing is opened.
works() {
    LD_LIBRARY_PATH="$1/lib" "$1/kamailio" -c -f "$here/relay.cfg" -L "$1/lib/modules" -Y "$1" -l tcp:127.0.0.1:2855 >/dev/null 2>&1
}

works "$target/relay" && exit 0

for tool in python3 apt-get dpkg-deb tar; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || fail "python3 is older than 3.9"

rm -rf relay relay.new
mkdir relay.new
cd relay.new
download() {
    apt-get -q -o APT::Sandbox::User=root download kamailio >download.log 2>&1
}
# Without package lists there is nothing to download from; only root can fetch them.
download || { apt-get -q update >update.log 2>&1 && download; } || fail "apt-get cannot download the package kamailio: $(tail -n 1 download.log)"

dpkg-deb --fsys-tarfile kamailio_*.deb | tar -x ./usr/sbin/kamailio ./usr/lib || fail "the package kamailio cannot be unpacked"
mv usr/sbin/kamailio kamailio
mv usr/lib/*/kamailio lib
rm -rf usr kamailio_*.deb ./*.log
works "$target/relay.new" || fail "kamailio does not run here or does not read relay.cfg"
cd "$target"
mv relay.new relay
