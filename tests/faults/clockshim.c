/* A wall clock that is stepped under a live process: LD_PRELOAD=clockshim.so CLOCKSHIM=FILE. The file holds two 64-bit
 * numbers: nanoseconds added to the wall clock, and whether the kernel calls it synchronised (adjtimex). It is mapped, so
 * a write to it is seen at once by every process; the monotonic clock is untouched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static volatile const long long *control;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCKSHIM");
    real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *told) {
    if (!real_gettime) real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real_gettime(clock, told);
    if (answer || !control || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return answer;
    long long ns = told->tv_nsec + control[0];
    told->tv_sec += ns / 1000000000;
    told->tv_nsec = ns % 1000000000;
    if (told->tv_nsec < 0) {
        told->tv_nsec += 1000000000;
        told->tv_sec--;
    }
    return 0;
}

int gettimeofday(struct timeval *told, void *zone) {
    struct timespec now;
    (void)zone;
    int answer = clock_gettime(CLOCK_REALTIME, &now);
    told->tv_sec = now.tv_sec;
    told->tv_usec = now.tv_nsec / 1000;
    return answer;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}

int adjtimex(struct timex *told) {
    told->status = control && control[1] ? 0 : STA_UNSYNC;
    told->maxerror = 5000;
    return control && control[1] ? TIME_OK : TIME_ERROR;
}
