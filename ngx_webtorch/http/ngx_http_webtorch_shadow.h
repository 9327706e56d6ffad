
/*
 * Shadows: another function computes a copy of a request's rows, and its
 * answer is compared with the one that was sent.
 */


#ifndef _NGX_HTTP_WEBTORCH_SHADOW_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_SHADOW_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/* requests of all are 10000 */
#define NGX_HTTP_WEBTORCH_SHADOW_ALL  10000


/* shadow of a location */

struct ngx_http_webtorch_shadow_conf_s {
    ngx_webtorch_handler_t  *handler;
    ngx_str_t                version_set;    /* its name; empty: as the code
                                            has it */
    ngx_uint_t               rate;       /* requests of 10000 */
    double                   tolerance;  /* see ngx_webtorch_agree.h */

#if (NGX_THREADS)
    ngx_thread_pool_t       *thread_pool;
#endif

    /* in a worker */
    size_t                   held;       /* bytes of copies and of answers */
};


/*
 * The rows of a request were added as the last job of their batch: copies them,
 * if the request is chosen and there is room.
 */
void ngx_http_webtorch_shadow_add(ngx_http_webtorch_shadow_conf_t *conf,
    ngx_http_webtorch_ctx_t *ctx);

/* from within done() of the request, when the answer is on its way */
void ngx_http_webtorch_shadow_answered(ngx_http_webtorch_ctx_t *ctx,
    webtorch_job_t *job);

/* the request ends; nothing is done if it was answered */
void ngx_http_webtorch_shadow_cancel(ngx_http_webtorch_ctx_t *ctx);


#endif /* _NGX_HTTP_WEBTORCH_SHADOW_H_INCLUDED_ */
