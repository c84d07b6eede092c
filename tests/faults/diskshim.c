/* A disk that fails or hangs on demand, for one live process: LD_PRELOAD=diskshim.so DISKSHIM=FOLDER CONTROL.
 * Calls on files below FOLDER look into the file DISKSHIM_CONTROL: "eio" refuses writes and syncs, "sync-eio" syncs alone,
 * "hang" holds every such call until the file says something else, "freeze" also names that are looked up, "freeze TEXT" only
 * paths that contain TEXT; "slow N" lets N bytes a second be written, "read-eio A B" refuses reads that touch bytes [A, B)
 * of any file, "quota N" refuses writes while the files of FOLDER take N bytes or more. With
 * DISKSHIM_KILL_AT=N the process dies by SIGKILL in the N-th call, before it is done; files made, renamed and removed
 * count too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int said(const char *word) {
    char text[32] = "";
    const char *control = getenv("DISKSHIM_CONTROL");
    FILE *file = control ? fopen(control, "r") : NULL;
    if (!file) return 0;
    if (!fgets(text, sizeof text, file)) text[0] = 0;
    fclose(file);
    return strcmp(text, word) == 0;
}

/* Waits while the path is frozen. */
static void held(const char *path) {
    const char *folder = getenv("DISKSHIM"), *control = getenv("DISKSHIM_CONTROL");
    if (!folder || !control || strncmp(path, folder, strlen(folder)) != 0) return;
    for (;; usleep(20000)) {
        char text[64] = "";
        FILE *file = fopen(control, "r");
        if (!file) return;
        if (!fgets(text, sizeof text, file)) text[0] = 0;
        fclose(file);
        if (strncmp(text, "freeze", 6) != 0 || (text[6] && !strstr(path, text + 7))) return;
    }
}

static int bad_path(const char *path, int sync);

static char *path_of(int fd, char *path, size_t room) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, room - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

static int bad(int fd, int sync) {
    char path[4096];
    return bad_path(path_of(fd, path, sizeof path), sync);
}

/* What the disk takes for so many bytes; it ends early when the disk is no longer slow. */
static void wait_for(int fd, size_t size) {
    char path[4096], text[32];
    const char *folder = getenv("DISKSHIM"), *control = getenv("DISKSHIM_CONTROL");
    if (!folder || !control || strncmp(path_of(fd, path, sizeof path), folder, strlen(folder)) != 0) return;
    for (long taken_us = 0;; taken_us += 20000) {
        long rate = 0;
        FILE *file = fopen(control, "r");
        if (file) {
            if (!fgets(text, sizeof text, file) || sscanf(text, "slow %ld", &rate) != 1) rate = 0;
            fclose(file);
        }
        if (rate <= 0 || taken_us >= (double)size * 1e6 / rate) return;
        usleep(20000);
    }
}

static size_t size_of(const struct iovec *parts, int count) {
    size_t size = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    return size;
}

static int calls;
int diskshim_calls(void) { return calls; }

static int bad_path(const char *path, int sync) {
    const char *folder = getenv("DISKSHIM"), *at = getenv("DISKSHIM_KILL_AT");
    if (!folder || strncmp(path, folder, strlen(folder)) != 0) return 0;
    if (at && __sync_add_and_fetch(&calls, 1) == atoi(at)) kill(getpid(), SIGKILL);
    held(path);
    while (said("hang")) usleep(20000);
    return said("eio") || (sync && said("sync-eio"));
}

static __thread long used;
static int count_file(const char *path, const struct stat *one, int kind, struct FTW *at) {
    if (kind == FTW_F) used += one->st_blocks * 512;
    return 0;
}

static int over_quota(int fd) {
    char path[4096], text[64] = "";
    long most = 0;
    const char *folder = getenv("DISKSHIM"), *control = getenv("DISKSHIM_CONTROL");
    FILE *file = folder && control ? fopen(control, "r") : NULL;
    if (!file) return 0;
    int found = fgets(text, sizeof text, file) && sscanf(text, "quota %ld", &most) == 1;
    fclose(file);
    if (!found || strncmp(path_of(fd, path, sizeof path), folder, strlen(folder)) != 0) return 0;
    used = 0;
    nftw(folder, count_file, 16, FTW_PHYS);
    return used >= most;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define REFUSE(fd, sync) if (bad(fd, sync)) { errno = EIO; return -1; }
#define REFUSE_WRITE(fd) REFUSE(fd, 0) if (over_quota(fd)) { errno = EDQUOT; return -1; }

int fsync(int fd) { REAL(fsync); REFUSE(fd, 1); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); REFUSE(fd, 1); return real(fd); }
int syncfs(int fd) { REAL(syncfs); REFUSE(fd, 1); return real(fd); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); REFUSE(fd, 0); return real(fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); REFUSE(fd, 0); return real(fd, size); }
ssize_t write(int fd, const void *data, size_t size) { REAL(write); REFUSE_WRITE(fd); wait_for(fd, size); return real(fd, data, size); }
int fallocate(int fd, int mode, off_t at, off_t size) { REAL(fallocate); REFUSE_WRITE(fd); return real(fd, mode, at, size); }
#define REFUSE_PATH(path) if (bad_path(path, 0)) { errno = EIO; return -1; }

/* A path beneath an open directory. */
static int bad_at(int directory, const char *path) {
    char whole[8192];
    if (path[0] == '/' || directory == AT_FDCWD) return bad_path(path, 0);
    size_t length = strlen(path_of(directory, whole, sizeof whole / 2));
    snprintf(whole + length, sizeof whole - length, "/%s", path);
    return bad_path(whole, 0);
}
#define REFUSE_AT(directory, path) if (bad_at(directory, path)) { errno = EIO; return -1; }
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { REAL(open); MODE(flags); held(path); if (flags & O_CREAT) REFUSE_PATH(path); return real(path, flags, mode); }
int open64(const char *path, int flags, ...) { REAL(open64); MODE(flags); held(path); if (flags & O_CREAT) REFUSE_PATH(path); return real(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { REAL(openat); MODE(flags); if (flags & O_CREAT) REFUSE_AT(at, path); return real(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { REAL(openat64); MODE(flags); if (flags & O_CREAT) REFUSE_AT(at, path); return real(at, path, flags, mode); }
int stat(const char *path, struct stat *out) { REAL(stat); held(path); return real(path, out); }
int stat64(const char *path, struct stat64 *out) { REAL(stat64); held(path); return real(path, out); }
int lstat(const char *path, struct stat *out) { REAL(lstat); held(path); return real(path, out); }
int lstat64(const char *path, struct stat64 *out) { REAL(lstat64); held(path); return real(path, out); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); REFUSE_PATH(path); return real(path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { REAL(mkdirat); REFUSE_AT(at, path); return real(at, path, mode); }
int unlink(const char *path) { REAL(unlink); REFUSE_PATH(path); return real(path); }
int unlinkat(int at, const char *path, int flags) { REAL(unlinkat); REFUSE_AT(at, path); return real(at, path, flags); }
int rmdir(const char *path) { REAL(rmdir); REFUSE_PATH(path); return real(path); }
int renameat(int at, const char *from, int to_at, const char *to) { REAL(renameat); REFUSE_AT(at, from); return real(at, from, to_at, to); }
int rename(const char *from, const char *to) {
    REAL(rename);
    if (bad_path(from, 0)) { errno = EIO; return -1; }
    return real(from, to);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { REAL(pwrite); REFUSE_WRITE(fd); wait_for(fd, size); return real(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); REFUSE_WRITE(fd); wait_for(fd, size); return real(fd, data, size, at); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { REAL(pwritev); REFUSE_WRITE(fd); wait_for(fd, size_of(parts, count)); return real(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { REAL(pwritev64); REFUSE_WRITE(fd); wait_for(fd, size_of(parts, count)); return real(fd, parts, count, at); }

static int unreadable(int fd, size_t size, off_t at) {
    char path[4096], text[96] = "";
    const char *folder = getenv("DISKSHIM"), *control = getenv("DISKSHIM_CONTROL");
    if (!folder || !control) return 0;
    FILE *file = fopen(control, "r");
    if (!file) return 0;
    long from = 0, to = 0;
    int found = fgets(text, sizeof text, file) && sscanf(text, "read-eio %ld %ld", &from, &to) == 2;
    fclose(file);
    if (!found || strncmp(path_of(fd, path, sizeof path), folder, strlen(folder)) != 0) return 0;
    return at < to && at + (off_t)size > from;
}

#define REFUSE_READ(fd, size, at) if (unreadable(fd, size, at)) { errno = EIO; return -1; }

ssize_t pread(int fd, void *data, size_t size, off_t at) { REAL(pread); REFUSE_READ(fd, size, at); return real(fd, data, size, at); }
ssize_t pread64(int fd, void *data, size_t size, off64_t at) { REAL(pread64); REFUSE_READ(fd, size, at); return real(fd, data, size, at); }
ssize_t preadv(int fd, const struct iovec *parts, int count, off_t at) { REAL(preadv); REFUSE_READ(fd, size_of(parts, count), at); return real(fd, parts, count, at); }
ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t at) { REAL(preadv64); REFUSE_READ(fd, size_of(parts, count), at); return real(fd, parts, count, at); }
ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t at, int flags) { REAL(preadv2); REFUSE_READ(fd, size_of(parts, count), at); return real(fd, parts, count, at, flags); }
ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) { REAL(preadv64v2); REFUSE_READ(fd, size_of(parts, count), at); return real(fd, parts, count, at, flags); }
