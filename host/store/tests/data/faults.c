/* Loaded before the C library (LD_PRELOAD). While the file FAULTS/fsync is there every fsync fails with EIO; while
   FAULTS/fsync-directory is there every one of a directory, which makes the names in it durable.

   FAULTS/room holds a number: the files that lie directly in FAULTS/store have so many bytes together at most, and a write
   that would make them more fails with ENOSPC, or with EDQUOT while FAULTS/quota is there. What is written over bytes that
   a file has already needs no room, as on a disk; what a file that is removed or cut had is there again. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int in_faults(const char *name, char *path, size_t length) {
    const char *directory = getenv("FAULTS");
    if (!directory) return 0;
    snprintf(path, length, "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

static int asked_for(const char *fault) {
    char path[4096];
    return in_faults(fault, path, sizeof path);
}

static int sync_with(const char *name, int file) {
    struct stat status;
    int is_directory = !fstat(file, &status) && S_ISDIR(status.st_mode);
    if (asked_for("fsync") || (is_directory && asked_for("fsync-directory"))) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(file);
}

int fsync(int file) { return sync_with("fsync", file); }
int fdatasync(int file) { return sync_with("fdatasync", file); }

/* The number in FAULTS/room; -1: there is room for everything. */
static long long room(void) {
    char path[4096], text[32] = "";
    if (!in_faults("room", path, sizeof path)) return -1;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 ? atoll(text) : 0;
}

static long long taken(void) {
    char path[4096];
    struct stat status;
    long long sum = 0;
    DIR *directory = in_faults("store", path, sizeof path) ? opendir(path) : NULL;
    if (!directory) return 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (!fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) && S_ISREG(status.st_mode))
            sum += status.st_size;
    closedir(directory);
    return sum;
}

static int fits(int file, size_t length, off64_t offset) {
    struct stat status;
    if (fstat(file, &status) || !S_ISREG(status.st_mode)) return 1;
    long long growth = offset + (off64_t)length - status.st_size;
    if (growth <= 0) return 1;
    long long bytes = room();
    return bytes < 0 || taken() + growth <= bytes;
}

static ssize_t write_with(const char *name, int file, const void *bytes, size_t length, off64_t offset) {
    if (!fits(file, length, offset)) {
        errno = asked_for("quota") ? EDQUOT : ENOSPC;
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
