
/*
 * Refusals: answers that are neither failures nor successes, as 404 and 401
 * are.  Most are caused by their requests.  A server that refuses what its
 * peers serve is suspect, and fast refusals must not make it cheap.
 */


#ifndef _NGX_WEBTORCH_BALANCE_REFUSAL_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_REFUSAL_H_INCLUDED_


#include "ngx_webtorch_balance.h"


/* adds an answer; returns 1 if it says nothing about the server's service */
uint32_t ngx_webtorch_balance_refusal_add(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, uint64_t now);

/* updates the suspicions; order: the n servers in use, in any order */
void ngx_webtorch_balance_refusal_refresh(ngx_webtorch_balance_t *b,
    uint16_t *order, uint32_t n);


#endif /* _NGX_WEBTORCH_BALANCE_REFUSAL_H_INCLUDED_ */
