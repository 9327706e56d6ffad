
/* The error log, for threads. */


#ifndef _NGX_WEBTORCH_LOG_H_INCLUDED_
#define _NGX_WEBTORCH_LOG_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Logs in any thread.  nginx's cached time stands still while the event loop
 * waits or runs a handler.
 */
#define ngx_webtorch_log_error(level, log, ...)                               \
    do {                                                                      \
        if ((log)->log_level >= (level)) {                                    \
            ngx_webtorch_log_update_time();                                   \
            ngx_log_error_core(level, log, __VA_ARGS__);                      \
        }                                                                     \
    } while (0)


/* sets the time of the error log's lines, and no other time */
void ngx_webtorch_log_update_time(void);


#endif /* _NGX_WEBTORCH_LOG_H_INCLUDED_ */
