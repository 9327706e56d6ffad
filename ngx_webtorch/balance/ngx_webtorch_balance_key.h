
#ifndef _NGX_WEBTORCH_BALANCE_KEY_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_KEY_H_INCLUDED_


#include "ngx_webtorch_balance.h"
#include "ngx_webtorch_balance_outcome.h"


/* a key is cold where its next request takes so many times its service */
#define NGX_WEBTORCH_BALANCE_COLD  1.5f


/* the key of a request during a pick */

typedef struct {
    uint64_t   id;
    uint64_t   now;                     /* time of the pick, microseconds */
    uint32_t   row;                     /* NONE: the request has no key */
    float      credit;                  /* paid for cold requests, seconds */
    float      ratio;                   /* of service times to other keys' */
} ngx_webtorch_balance_key_pick_t;


/* effect of a key on the cost of a server */

typedef struct {
    uint32_t   gap;                     /* class of the gap in its use */
    float      ratio;                   /* of the service to the base */
    float      sure;                    /* confidence in the ratio, 0 to 1 */
    float      cold_cost;               /* factor of the service; 1: warm */
} ngx_webtorch_balance_key_cost_t;


void ngx_webtorch_balance_key_init(ngx_webtorch_balance_t *b);

/* removes all that keys have learned of a server */
void ngx_webtorch_balance_key_remove_server(ngx_webtorch_balance_t *b,
    uint32_t server);

/* returns the row of a key, which is added if needed; NONE: id is 0 */
uint32_t ngx_webtorch_balance_key_row(ngx_webtorch_balance_t *b, uint64_t id,
    uint64_t now);

/* finds the key of a request; id 0: it has none */
void ngx_webtorch_balance_key_find(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_key_pick_t *key, uint64_t id, uint64_t now);

/* NULL: the request has no key, or there is no room for the server */
ngx_webtorch_balance_pair_t *ngx_webtorch_balance_key_pair(
    ngx_webtorch_balance_t *b, uint32_t row, uint32_t server);

void ngx_webtorch_balance_key_get_cost(const ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_key_pick_t *key, uint32_t server,
    const ngx_webtorch_balance_pair_t *pair,
    ngx_webtorch_balance_key_cost_t *cost);

/*
 * Charges the key for a pick, in seconds.  own: service with the cold cost;
 * lost: additional latency, compared to the best server without cold costs.
 */
void ngx_webtorch_balance_key_charge(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_key_pick_t *key,
    const ngx_webtorch_balance_key_cost_t *cost, float own, float lost);

void ngx_webtorch_balance_key_begin(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_request_t *req, uint64_t now);

/* latency: of the request, in seconds */
void ngx_webtorch_balance_key_end(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency, uint64_t now);

/* updates the cold costs */
void ngx_webtorch_balance_key_refresh(ngx_webtorch_balance_t *b);


#endif /* _NGX_WEBTORCH_BALANCE_KEY_H_INCLUDED_ */
