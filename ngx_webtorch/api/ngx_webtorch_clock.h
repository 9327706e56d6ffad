
/*
 * The clock that all processes share, and elapsed time.  Processes read the
 * clock before they take a lock, so that one of them may hold a time that is
 * earlier than a stamp set by another one in the meantime.  The elapsed time
 * is 0 then, it does not wrap.
 */


#ifndef _NGX_WEBTORCH_CLOCK_H_INCLUDED_
#define _NGX_WEBTORCH_CLOCK_H_INCLUDED_


#include <stdint.h>
#include <time.h>


/* microseconds of CLOCK_MONOTONIC */

static inline uint64_t
ngx_webtorch_clock_usec(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}


/* microseconds of a clock that does not wrap */

static inline uint64_t
ngx_webtorch_elapsed_usec(uint64_t now, uint64_t since)
{
    return now > since ? now - since : 0;
}


/*
 * Milliseconds in 32 bits, which wrap each 49 days.  A stamp that seems to be
 * older than that less a minute is later than now.
 */

#define NGX_WEBTORCH_CLOCK_LATER  60000

static inline uint32_t
ngx_webtorch_elapsed_msec32(uint32_t now, uint32_t since)
{
    uint32_t  elapsed;

    elapsed = now - since;

    return elapsed < UINT32_MAX - NGX_WEBTORCH_CLOCK_LATER ? elapsed : 0;
}


#endif /* _NGX_WEBTORCH_CLOCK_H_INCLUDED_ */
