
/* The error log, for threads. */


#ifndef _NGX_WEBTORCH_LOG_H_INCLUDED_
#define _NGX_WEBTORCH_LOG_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Logs in any thread.  nginx's cached time stands still while the event loop
 * waits or runs a handler; ngx_time_sigsafe_update() renews that of the error
 * log alone, never the time of timers.
 */
#define ngx_webtorch_log_error(level, log, ...)                               \
    do {                                                                      \
        if ((log)->log_level >= (level)) {                                    \
            ngx_time_sigsafe_update();                                        \
            ngx_log_error_core(level, log, __VA_ARGS__);                      \
        }                                                                     \
    } while (0)


#endif /* _NGX_WEBTORCH_LOG_H_INCLUDED_ */
