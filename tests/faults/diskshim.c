/* A disk that fails or hangs on demand, for one live process: LD_PRELOAD=diskshim.so DISKSHIM=FOLDER CONTROL.
 * Calls on files below FOLDER look into the file DISKSHIM_CONTROL: "eio" refuses writes and syncs, "sync-eio" syncs alone,
 * "hang" holds every call until the file says something else. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static int bad(int fd, int sync) {
    char link[64], path[4096];
    const char *folder = getenv("DISKSHIM");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!folder || length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) != 0) return 0;
    while (said("hang")) usleep(20000);
    return said("eio") || (sync && said("sync-eio"));
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define REFUSE(fd, sync) if (bad(fd, sync)) { errno = EIO; return -1; }

int fsync(int fd) { REAL(fsync); REFUSE(fd, 1); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); REFUSE(fd, 1); return real(fd); }
int syncfs(int fd) { REAL(syncfs); REFUSE(fd, 1); return real(fd); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { REAL(pwrite); REFUSE(fd, 0); return real(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); REFUSE(fd, 0); return real(fd, data, size, at); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { REAL(pwritev); REFUSE(fd, 0); return real(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { REAL(pwritev64); REFUSE(fd, 0); return real(fd, parts, count, at); }
