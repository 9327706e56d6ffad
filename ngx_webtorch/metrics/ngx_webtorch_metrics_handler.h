
/*
 * What is counted for a handler.  All functions are called in the event loop,
 * but those that say otherwise.
 */


#ifndef _NGX_WEBTORCH_METRICS_HANDLER_H_INCLUDED_
#define _NGX_WEBTORCH_METRICS_HANDLER_H_INCLUDED_


#include "ngx_webtorch_handler.h"
#include "ngx_webtorch_metrics.h"


/* why a request did not get to its handler, or not to its answer */

typedef enum {
    NGX_WEBTORCH_REFUSED_QUEUE = 0,       /* queue= */
    NGX_WEBTORCH_REFUSED_QUEUE_SIZE,      /* queue_size= */
    NGX_WEBTORCH_REFUSED_STUCK,           /* stuck= */
    NGX_WEBTORCH_REFUSED_NOT_LOADED,
    NGX_WEBTORCH_REFUSED_TIMEOUT,         /* timeout= */
    NGX_WEBTORCH_REFUSED_STREAMS,         /* max_streams= */
    NGX_WEBTORCH_REFUSED_RESUME,          /* there is no such stream */
    NGX_WEBTORCH_REFUSED_BODY,            /* it does not fit the signature, or
                                             cannot be read in phases */
    NGX_WEBTORCH_REFUSED_LOOP,            /* not for the event loop now */
    NGX_WEBTORCH_NREFUSED
} ngx_webtorch_refused_e;


/* in the order of the cells: counters, then gauges */

struct ngx_webtorch_handler_metrics_s {
    uint64_t                        codes[NGX_WEBTORCH_METRICS_CODES];
    ngx_webtorch_metrics_seconds_t  request;
    ngx_webtorch_metrics_seconds_t  queue;
    ngx_webtorch_metrics_seconds_t  run;
    ngx_webtorch_metrics_seconds_t  decode;
    ngx_webtorch_metrics_seconds_t  encode;
    uint64_t                        rows[NGX_WEBTORCH_METRICS_ROWS];
    uint64_t                        nrows;
    uint64_t                        spent;       /* by requests in calls, us */
    uint64_t                        received;    /* bytes */
    uint64_t                        sent;
    uint64_t                        to_thread;   /* moves */
    uint64_t                        to_loop;
    uint64_t                        refused[NGX_WEBTORCH_NREFUSED];
    uint64_t                        dropped;     /* rows of webtorch_log */
    uint64_t                        streams;     /* that were opened */
    uint64_t                        resumed;     /* of them */
    uint64_t                        offloaded;   /* atomic: batches for another
                                                    worker */
    uint64_t                        lost;        /* atomic: as that has exited */

    uint64_t                        jobs;        /* waiting or running */
    uint64_t                        running;     /* atomic */
    uint64_t                        in_loop;     /* 1: the last call was */
    uint64_t                        in_thread;
    uint64_t                        open;        /* streams */
    uint64_t                        waiting;     /* atomic: batches that another
                                                    worker has or will receive */
    uint64_t                        full;        /* us of the clock: when the
                                                    queue became full, */
    uint64_t                        refused_at;  /* and the last time that it
                                                    was; 0: never */
};


/* cells that are gauges */
#define NGX_WEBTORCH_HANDLER_GAUGES  8

#define NGX_WEBTORCH_HANDLER_CELLS                                            \
    (sizeof(ngx_webtorch_handler_metrics_t) / sizeof(uint64_t))


/* a call, when it is over */

typedef struct {
    uint64_t                started;      /* us of the clock */
    uint64_t                usec;         /* in Python */
    uint32_t                rows;
    uint32_t                jobs;
    ngx_uint_t              in_loop;
} ngx_webtorch_metrics_call_t;


/* sets handler->series and handler->metrics */
void ngx_webtorch_metrics_handlers_init(ngx_array_t *handlers, ngx_log_t *log);

void ngx_webtorch_metrics_call(ngx_webtorch_handler_t *handler,
    const ngx_webtorch_metrics_call_t *call);

/* an answer, also one that the handler has not given */
void ngx_webtorch_metrics_code(ngx_webtorch_handler_t *handler,
    ngx_uint_t status);

void ngx_webtorch_metrics_refused(ngx_webtorch_handler_t *handler,
    ngx_webtorch_refused_e reason);


/*
 * The time, in microseconds of the clock, of the last call or answer.  What the
 * event loop does with an answer begins then, so that it reads the clock once
 * for each.
 */
extern uint64_t  ngx_webtorch_metrics_mark;


static ngx_inline void
ngx_webtorch_metrics_jobs(ngx_webtorch_handler_t *handler, ngx_int_t n)
{
    if (handler->metrics) {
        ngx_webtorch_metrics_add(&handler->metrics->jobs, (uint64_t) n);
    }
}


/* around a batch that another worker runs; in any thread */

static ngx_inline void
ngx_webtorch_metrics_offloaded(ngx_webtorch_handler_t *handler, ngx_int_t n)
{
    if (handler->metrics) {
        ngx_webtorch_metrics_fetch_add(&handler->metrics->offloaded,
                                       (uint64_t) (n > 0));
        ngx_webtorch_metrics_fetch_add(&handler->metrics->waiting,
                                       (uint64_t) n);
    }
}


static ngx_inline void
ngx_webtorch_metrics_lost(ngx_webtorch_handler_t *handler)
{
    if (handler->metrics) {
        ngx_webtorch_metrics_fetch_add(&handler->metrics->lost, 1);
    }
}


/* in any thread */

static ngx_inline void
ngx_webtorch_metrics_running(ngx_webtorch_handler_t *handler, ngx_int_t n)
{
    if (handler->metrics) {
        ngx_webtorch_metrics_fetch_add(&handler->metrics->running,
                                       (uint64_t) n);
    }
}


#endif /* _NGX_WEBTORCH_METRICS_HANDLER_H_INCLUDED_ */
