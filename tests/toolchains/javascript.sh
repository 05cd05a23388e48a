#!/bin/sh
# Fetches what makes a component of plugin/examples/sender-rules into the directory $1: componentize-js and what it needs,
# some 390 MB from npm's registry. Doing it again does nothing. Says in one line why it cannot.
set -eu

fail() {
    echo "JavaScript toolchain: $1" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: javascript.sh DIRECTORY"
example=$(cd "$(dirname "$0")/../../plugin/examples/sender-rules" && pwd)
mkdir -p "$1" || fail "cannot make $1"
cd "$1"

for tool in node npm; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done
[ "$(node --print 'process.versions.node.split(".")[0] >= 20')" = true ] || fail "node is older than 20"
if [ -d node_modules ] && cmp -s package.json "$example/package.json"; then
    exit 0
fi
rm -rf node_modules package-lock.json
cp "$example/package.json" package.new
mv package.new package.json
npm install --no-audit --no-fund >install.log 2>&1 || { rm -f package.json; fail "npm cannot install: $(tail -n 1 install.log)"; }
