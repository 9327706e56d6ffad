
/*
 * Requests in flight, from the pick to the end.  They are a server's load, and
 * what it leaves unanswered for long is a sign that it hangs.  A request that
 * is idle is neither: a tunnel or a stream without data, or one that waits for
 * an event while later ones are answered.  Such a request is paused, that is,
 * not counted as in flight.
 */


#ifndef _NGX_WEBTORCH_BALANCE_FLIGHT_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_FLIGHT_H_INCLUDED_


#include "ngx_webtorch_balance.h"


/* seconds after which a request may be one that waits for an event */
#define NGX_WEBTORCH_BALANCE_PATIENCE  1.0f


/* the state of a request in flight */

typedef enum {
    NGX_WEBTORCH_BALANCE_WAITING = 0,   /* no answer has begun */
    NGX_WEBTORCH_BALANCE_RECEIVING,     /* data since the last call */
    NGX_WEBTORCH_BALANCE_IDLE           /* it has begun, no data since */
} ngx_webtorch_balance_flight_e;


/* a worker sends the request to the server that was picked */
void ngx_webtorch_balance_begin(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req, uint64_t now);

/* updates a request that was begun by the worker, while it is in flight */
void ngx_webtorch_balance_watch(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req, ngx_webtorch_balance_flight_e state,
    uint64_t now);

/* not counted as in flight any more; the request can be resumed */
void ngx_webtorch_balance_pause(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req);

/*
 * The server of a request has reported how many requests wait there, from
 * whomever.  Those of this balancer are known better: what counts is what is
 * beyond them.
 */
void ngx_webtorch_balance_report(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float waiting, uint64_t now);

/* releases the requests of a worker, and its place */
void ngx_webtorch_balance_reap(ngx_webtorch_balance_t *b, uint32_t worker);


/* the age from which on a request that waits is longer than usual, seconds */

static inline float
ngx_webtorch_balance_late(const ngx_webtorch_balance_request_t *req)
{
    return 8.0f * req->expected > NGX_WEBTORCH_BALANCE_PATIENCE
           ? 8.0f * req->expected : NGX_WEBTORCH_BALANCE_PATIENCE;
}


#endif /* _NGX_WEBTORCH_BALANCE_FLIGHT_H_INCLUDED_ */
