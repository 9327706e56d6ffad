
#include "ngx_webtorch_balance_refusal.h"
#include "ngx_webtorch_balance_key.h"
#include "ngx_webtorch_balance_math.h"

#include <math.h>


/* weight of an answer in the shares; outcomes that these stand for */
#define NGX_WEBTORCH_BALANCE_REFUSAL_WEIGHT   0.1f
#define NGX_WEBTORCH_BALANCE_REFUSAL_COUNT    19.0f

/* difference to the peers that may be chance, in standard deviations */
#define NGX_WEBTORCH_BALANCE_REFUSAL_CHANCE   3.0f

/* variance of refusals where there were none */
#define NGX_WEBTORCH_BALANCE_REFUSAL_LEAST    0.01f

/* expected share from which on refusals are part of the service */
#define NGX_WEBTORCH_BALANCE_REFUSAL_USUAL    0.2f

/* outcomes of a server until then refusals are part of the service */
#define NGX_WEBTORCH_BALANCE_REFUSAL_FIRST    10.0f


/* a key that is refused everywhere is no fault of the server that it uses */

uint32_t
ngx_webtorch_balance_refusal_add(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, uint64_t now)
{
    float                           refused, expected, usual;
    ngx_webtorch_balance_key_t     *key;
    ngx_webtorch_balance_record_t  *r;

    r = &b->records[req->server];
    refused = req->refused ? 1.0f : 0.0f;
    expected = 0;

    if (req->row != NGX_WEBTORCH_BALANCE_NONE
        && b->keys[req->row].id == req->key)
    {
        key = &b->keys[req->row];
        expected = key->refused;
        key->refused += NGX_WEBTORCH_BALANCE_REFUSAL_WEIGHT
                        * (refused - key->refused);
    }

    usual = expected + (b->refused > 0 ? b->refused : 0);
    usual = usual < 1.0f ? usual : 1.0f;

    r->refused = ngx_webtorch_balance_forgive(r->refused, now,
                                              b->servers[req->server].finished);
    r->refused += NGX_WEBTORCH_BALANCE_REFUSAL_WEIGHT
                  * (refused - expected - r->refused);
    r->noise += NGX_WEBTORCH_BALANCE_REFUSAL_WEIGHT
                * (usual * (1.0f - usual) - r->noise);

    return req->refused && usual < NGX_WEBTORCH_BALANCE_REFUSAL_USUAL
           && r->count >= NGX_WEBTORCH_BALANCE_REFUSAL_FIRST;
}


void
ngx_webtorch_balance_refusal_refresh(ngx_webtorch_balance_t *b,
    uint16_t *order, uint32_t n)
{
    float                           chance, suspicion;
    float                           refused[NGX_WEBTORCH_BALANCE_SERVERS];
    uint32_t                        i, k, any;
    ngx_webtorch_balance_record_t  *r;

    for (i = 0, any = 0; i < n; i++) {
        k = order[i];
        refused[k] = b->records[k].refused;
        any |= fabsf(refused[k]) > 0.001f;
    }

    if (!any) {
        b->refused = 0;

        for (i = 0; i < n; i++) {
            b->servers[order[i]].suspicion = 0;
        }

        return;
    }

    ngx_webtorch_balance_sort(order, n, refused);

    b->refused = refused[order[(n - 1) / 2]];

    for (i = 0; i < n; i++) {
        k = order[i];
        r = &b->records[k];

        chance = NGX_WEBTORCH_BALANCE_REFUSAL_CHANCE
                 * sqrtf((r->noise + NGX_WEBTORCH_BALANCE_REFUSAL_LEAST)
                         / NGX_WEBTORCH_BALANCE_REFUSAL_COUNT);
        suspicion = r->refused - b->refused - chance;

        b->servers[k].suspicion = suspicion > 0 ? suspicion : 0;
    }
}
