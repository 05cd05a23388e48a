#!/bin/sh
# Leaves a clang that makes WebAssembly in the directory $1, as `clang`. It is one that is installed, or Debian's, unpacked
# below $1; nothing is installed on the machine. Doing it again does nothing. Says in one line why it cannot.
# Tried with clang 14 (Debian 12).
set -eu

fail() {
    echo "C toolchain: $1" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: c.sh DIRECTORY"
mkdir -p "$1" || fail "cannot make $1"
cd "$1"
target=$(pwd)

# Compiles and links.
works() {
    echo '#include <stdint.h>
        uint32_t one(void) { return 1; }' >check.c
    "$@" --target=wasm32 -O2 -nostdlib -Wl,--no-entry -Wl,--export=one -o check.wasm check.c >/dev/null 2>&1
}

wrap() {
    printf '#!/bin/sh\n%s\n' "$1" >clang
    chmod +x clang
}

[ -x clang ] && works ./clang && exit 0

for found in clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14; do
    if command -v "$found" >/dev/null && works "$found"; then
        wrap "exec $(command -v "$found") \"\$@\""
        exit 0
    fi
done

for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || fail "no clang that makes WebAssembly is installed, and $tool is missing"
done
rm -rf debian
mkdir debian
cd debian
packages="clang-14 lld-14 libclang-common-14-dev libclang-cpp14 libllvm14"
# shellcheck disable=SC2086
download() {
    apt-get -q -o APT::Sandbox::User=root download $packages >download.log 2>&1
}
# Without package lists there is nothing to download from; only root can fetch them.
download || { apt-get -q update >update.log 2>&1 && download; } || fail "apt-get cannot download clang: $(tail -n 1 download.log)"
for package in *.deb; do
    dpkg-deb --extract "$package" . || fail "the package $package cannot be unpacked"
done
rm -f ./*.deb ./*.log
cd "$target"
libraries=$(echo debian/usr/lib/*-linux-gnu*)
wrap "LD_LIBRARY_PATH=$target/$libraries:$target/debian/usr/lib/llvm-14/lib exec $target/debian/usr/lib/llvm-14/bin/clang -B$target/debian/usr/bin \"\$@\""
works ./clang || fail "clang does not run here"
