/* Loaded before the C library (LD_PRELOAD): while the file FAULTS/fsync is there every fsync fails with EIO, while
   FAULTS/full is there every write that would lengthen a file fails with ENOSPC; a link FAULTS/full does so only as long as
   what it leads to is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int asked_for(const char *fault) {
    char path[4096];
    const char *directory = getenv("FAULTS");
    if (!directory) return 0;
    snprintf(path, sizeof path, "%s/%s", directory, fault);
    return access(path, F_OK) == 0;
}

static int sync_with(const char *name, int file) {
    if (asked_for("fsync")) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(file);
}

int fsync(int file) { return sync_with("fsync", file); }
int fdatasync(int file) { return sync_with("fdatasync", file); }

static int does_not_fit(int file, size_t length, off64_t offset) {
    struct stat status;
    if (!asked_for("full") || fstat(file, &status) || !S_ISREG(status.st_mode)) return 0;
    return offset + (off64_t)length > status.st_size;
}

static ssize_t write_with(const char *name, int file, const void *bytes, size_t length, off64_t offset) {
    if (does_not_fit(file, length, offset)) {
        errno = ENOSPC;
        return -1;
    }
    ssize_t (*real)(int, const void *, size_t, off64_t) =
        (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, name);
    return real(file, bytes, length, offset);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
    return write_with("pwrite", file, bytes, length, offset);
}
ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    return write_with("pwrite64", file, bytes, length, offset);
}
