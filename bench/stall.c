/*
 * Preloaded into nginx by bench/stall.py: measures how long the event loop of
 * a worker does not return to epoll_wait().  The result is in the file that
 * the environment variable WEBTORCH_STALL names.  The time in which the worker
 * could run, but other processes had the processors, is known from the kernel.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>


/* nanoseconds; stall.py resets it to zeros */

typedef struct {
    uint64_t  longest;
    uint64_t  own;                        /* the longest, less the time that
                                             each waited for a processor */
} stall_t;


typedef int (*stall_wait_pt)(int, struct epoll_event *, int, int);


static volatile stall_t  *stall;
static stall_wait_pt      stall_wait;
static uint64_t           stall_since;
static uint64_t           stall_waited;
static int                stall_fd = -1;


static uint64_t
stall_time(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


/* nanoseconds that the event loop has waited for a processor */

static uint64_t
stall_wait_time(void)
{
    char                text[128];
    ssize_t             n;
    unsigned long long  waited;

    if (stall_fd == -1) {
        stall_fd = open("/proc/thread-self/schedstat", O_RDONLY|O_CLOEXEC);
    }

    n = pread(stall_fd, text, sizeof(text) - 1, 0);

    if (n <= 0) {
        return 0;
    }

    text[n] = '\0';

    return (sscanf(text, "%*u %llu", &waited) == 1) ? waited : 0;
}


__attribute__((constructor)) static void
stall_init(void)
{
    int          fd;
    void        *p;
    const char  *name;

    stall_wait = (stall_wait_pt) dlsym(RTLD_NEXT, "epoll_wait");
    name = getenv("WEBTORCH_STALL");
    fd = name ? open(name, O_RDWR|O_CLOEXEC) : -1;

    if (fd == -1) {
        return;
    }

    p = mmap(NULL, sizeof(stall_t), PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);
    stall = (p == MAP_FAILED) ? NULL : p;
    close(fd);
}


int
epoll_wait(int epfd, struct epoll_event *events, int n, int timeout)
{
    int       rc;
    uint64_t  elapsed, waited;

    /* Python's threads may have event loops of their own */

    if (stall == NULL || syscall(SYS_gettid) != getpid()) {
        return stall_wait(epfd, events, n, timeout);
    }

    if (stall_since) {
        elapsed = stall_time() - stall_since;
        waited = stall_wait_time() - stall_waited;

        if (elapsed > stall->longest) {
            stall->longest = elapsed;
        }

        if (elapsed > waited && elapsed - waited > stall->own) {
            stall->own = elapsed - waited;
        }
    }

    rc = stall_wait(epfd, events, n, timeout);

    stall_waited = stall_wait_time();
    stall_since = stall_time();

    return rc;
}
