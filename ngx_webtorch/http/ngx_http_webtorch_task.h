
/*
 * A task of nginx's pool "default" for which no request waits: it may outlive
 * the one that has posted it.
 */


#ifndef _NGX_HTTP_WEBTORCH_TASK_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_TASK_H_INCLUDED_


#include <ngx_http.h>


/* task timer, ms; keeps a worker that shuts down gracefully alive */
#define NGX_HTTP_WEBTORCH_TASK_TIMEOUT  60000


#if (NGX_THREADS)

/* it is part of what the thread works on */

typedef struct {
    ngx_thread_task_t     task;
    ngx_connection_t      ident;          /* see ngx_webtorch_timer_t */
    void                 *data;           /* of both functions */
    void                (*run)(void *data, ngx_log_t *log);  /* in a thread */
    void                (*done)(void *data);  /* in the event loop; it frees
                                             the task */
    const char           *name;           /* for the error log */
} ngx_http_webtorch_task_t;


/* the members from "data" on are set; NGX_ERROR: neither function is called */
ngx_int_t ngx_http_webtorch_task_post(ngx_http_webtorch_task_t *t,
    ngx_thread_pool_t *pool);

/*
 * Whether a task has run: its event is of the thread, or of the timer, which is
 * logged.
 */
ngx_uint_t ngx_http_webtorch_task_complete(ngx_event_t *ev, const char *name);

#endif


#endif /* _NGX_HTTP_WEBTORCH_TASK_H_INCLUDED_ */
