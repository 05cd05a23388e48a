#!/bin/sh
# Copies the data directory of a server that runs: backup.sh DATA TO. Run it as the server's user. TO must not exist.
# Why in this order: docs/deploying.md, "While it runs".
set -eu
umask 077

[ $# -eq 2 ] || { echo "usage: backup.sh DATA TO" >&2; exit 1; }
data=$1
to=$2
mkdir "$to"

# 24: something vanished while it was copied, which is what delivered bodies do.
copy() {
    rsync -a "$@" || [ $? -eq 24 ]
}

# The database first, as it is at one moment.
sqlite3 -bail "$data/messages.sqlite" '.timeout 10000' "VACUUM INTO '$to/messages.sqlite'"
# Then the bodies: each that a row of the copy names was there at that moment.
copy --exclude=/tmp "$data/spool/" "$to/spool/"
# What names a component before the components.
copy "$data/policies/tenants" "$data/policies/records" "$to/policies/"
copy "$data/policies/components" "$to/policies/"
copy "$data/tenants" "$data/own-mark.key" "$data/pseudonyms.key" "$to/"
[ ! -f "$data/admin.token" ] || copy "$data/admin.token" "$to/"
sync "$to/messages.sqlite" "$to"
