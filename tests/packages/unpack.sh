# Sourced: unpacks packages of Debian into a directory, with what they need and the machine lacks. Nothing is installed on the
# machine and no service is started.
#
# unpack WHO DIRECTORY PACKAGES: into DIRECTORY/root, once. Before it, `works ROOT` has to be defined: whether the programs that
# were unpacked there run. Ends the script with one line that says why it cannot.

fail() {
    echo "$who: $1" >&2
    exit 1
}

unpack() {
    who=$1
    mkdir -p "$2" || fail "cannot make $2"
    cd "$2"
    packages=$3
    [ -d root ] && works "$PWD/root" && exit 0

    for tool in apt-get dpkg-deb ldd python3 setpriv; do
        command -v "$tool" >/dev/null || fail "$tool is missing"
    done
    rm -rf root root.new
    mkdir root.new
    cd root.new
    # Without package lists there is nothing to download from; only root can fetch them.
    download || { apt-get -q update >>log 2>&1 && download; } ||
        fail "apt-get cannot download $packages: $(tail -n 1 log)"
    for package in *.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --exclude='./usr/share/doc' || fail "$package cannot be unpacked"
    done
    rm -f ./*.deb log
    works "$PWD" || fail "what was unpacked does not run here"
    cd ..
    mv root.new root
}

# The packages, and what of their dependencies the machine lacks.
download() {
    lacking=$(apt-get -q --no-install-recommends --simulate install $packages 2>>log | sed -n 's/^Inst \([^ ]*\).*/\1/p')
    apt-get -q -o APT::Sandbox::User=root download $(printf '%s\n' $packages $lacking | sort -u) >>log 2>&1
}
