#!/bin/sh
# Unpacks Debian's Chromium, and JsSIP with a page that uses it, into the directory $1, for tests/tests/clients. Doing it again
# does nothing. Says in one line why it cannot. Tried with Chromium 156 (Debian 12), JsSIP 3.13 and Node 20.
set -eu

. "$(dirname "$0")/../packages/unpack.sh"

works() {
    for libraries in "$1"/usr/lib/*-linux-gnu; do
        all="$libraries:$libraries/pulseaudio:$1/lib/${libraries##*/}"
        ! LD_LIBRARY_PATH=$all ldd "$1/usr/lib/chromium/chromium" | grep -q 'not found' || return 1
    done
}

[ $# -eq 1 ] || { echo "usage: browser.sh DIRECTORY" >&2; exit 1; }
page=$(cd "$(dirname "$0")" && pwd)/page
for tool in node npm; do
    command -v "$tool" >/dev/null || { echo "browser: $tool is missing" >&2; exit 1; }
done
mkdir -p "$1/page"
(
    cd "$1/page"
    cmp -s package.json "$page/package.json" && [ -d node_modules ] || {
        rm -rf node_modules package-lock.json
        cp "$page/package.json" "$page/package-lock.json" .
        npm ci --no-audit --no-fund >install.log 2>&1 || { rm -f package.json; echo "browser: npm cannot install: $(tail -n 1 install.log)" >&2; exit 1; }
    }
    cp "$page/page.html" "$page/page.js" "$page/msrp.js" .
    node_modules/.bin/esbuild page.js --bundle --log-level=error --outfile=page.bundle.js
) || exit 1
unpack browser "$1" "chromium"
