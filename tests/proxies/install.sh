#!/bin/sh
# Unpacks Debian's Kamailio with the modules of docs/integration, and SIPp, into the directory $1: programs that the tests in
# tests/tests/proxies run. Nothing is installed on the machine and no service is started. Doing it again does nothing. Says in
# one line why it cannot. Tried with Kamailio 5.6.3 and SIPp 3.6.1 (Debian 12).
set -eu

fail() {
    echo "proxies: $1" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: install.sh DIRECTORY"
mkdir -p "$1" || fail "cannot make $1"
cd "$1"
packages="kamailio kamailio-sqlite-modules kamailio-utils-modules kamailio-extra-modules sip-tester"

# Both say their version, which needs all of their libraries.
works() {
    for triplet in "$1"/usr/lib/*/kamailio; do
        libraries="$(dirname "$triplet"):$triplet"
        LD_LIBRARY_PATH="$libraries" "$1/usr/sbin/kamailio" -v >/dev/null 2>&1 || return 1
        # SIPp leaves with 99 after it told its version.
        LD_LIBRARY_PATH="$libraries" "$1/usr/bin/sipp" -v 2>/dev/null | grep -q SIPp || return 1
        ! LD_LIBRARY_PATH="$libraries" ldd "$triplet/modules/http_client.so" "$triplet/modules/jansson.so" \
            "$triplet/modules/db_sqlite.so" | grep -q 'not found' || return 1
    done
}

[ -d root ] && works "$PWD/root" && exit 0

for tool in apt-get dpkg-deb ldd python3 setpriv; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done
rm -rf root root.new
mkdir root.new
cd root.new
# The packages, and what of their dependencies the machine lacks.
download() {
    lacking=$(apt-get -q --no-install-recommends --simulate install $packages 2>>log | sed -n 's/^Inst \([^ ]*\).*/\1/p')
    apt-get -q -o APT::Sandbox::User=root download $(printf '%s\n' $packages $lacking | sort -u) >>log 2>&1
}
# Without package lists there is nothing to download from; only root can fetch them.
download || { apt-get -q update >>log 2>&1 && download; } || fail "apt-get cannot download $packages: $(tail -n 1 log)"
for package in *.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --exclude='./usr/share/doc' || fail "$package cannot be unpacked"
done
rm -f ./*.deb log
works "$PWD" || fail "what was unpacked does not run here"
cd ..
mv root.new root
