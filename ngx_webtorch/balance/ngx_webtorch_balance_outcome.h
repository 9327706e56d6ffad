
#ifndef _NGX_WEBTORCH_BALANCE_OUTCOME_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_OUTCOME_H_INCLUDED_


#include "ngx_webtorch_balance.h"


/* how a request ended; policies get the first four as numbers */

typedef enum {
    NGX_WEBTORCH_BALANCE_OK = 0,
    NGX_WEBTORCH_BALANCE_ERROR,         /* an answer that is a failure */
    NGX_WEBTORCH_BALANCE_FAILED,        /* no connection, or it broke */
    NGX_WEBTORCH_BALANCE_TIMEOUT,       /* no answer in time */
    NGX_WEBTORCH_BALANCE_CLIENT_CLOSED  /* before an answer */
} ngx_webtorch_balance_outcome_e;


/*
 * Learns from the answer of a request that may last for long, as a tunnel does.
 * When it ends, a failure is added, but no success.
 */
void ngx_webtorch_balance_answer(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, uint64_t now);

/* ends a request that was begun by the worker, and learns from it */
void ngx_webtorch_balance_end(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, uint64_t now);

/*
 * An operator ejects a server, which gets no request until it is returned, or
 * returns one, whatever has ejected it: it gets few requests at first.
 */
void ngx_webtorch_balance_order(ngx_webtorch_balance_t *b, uint32_t server,
    uint32_t out, uint64_t now);


#endif /* _NGX_WEBTORCH_BALANCE_OUTCOME_H_INCLUDED_ */
