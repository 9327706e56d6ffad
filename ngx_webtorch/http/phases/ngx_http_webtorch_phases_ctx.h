
/* The context of a main request, kept over internal redirects. */


#ifndef _NGX_HTTP_WEBTORCH_PHASES_CTX_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_PHASES_CTX_H_INCLUDED_


#include "ngx_http_webtorch_phases.h"
#include "ngx_http_webtorch_reason.h"
#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_scored.h"
#include "ngx_webtorch_statistics.h"


typedef enum {
    NGX_HTTP_WEBTORCH_NO_VERDICT = 0,
    NGX_HTTP_WEBTORCH_ALLOW,
    NGX_HTTP_WEBTORCH_DENY,
    NGX_HTTP_WEBTORCH_DRY_RUN,
    NGX_HTTP_WEBTORCH_FAILED,
    NGX_HTTP_WEBTORCH_TIMED_OUT
} ngx_http_webtorch_verdict_e;


/* a variable that is being computed */

typedef struct ngx_http_webtorch_set_s    ngx_http_webtorch_set_t;
typedef struct ngx_http_webtorch_value_s  ngx_http_webtorch_value_t;

struct ngx_http_webtorch_value_s {
    ngx_webtorch_waiter_t            waiter;
    ngx_http_request_t              *request;
    ngx_http_webtorch_set_t         *set;
    ngx_http_webtorch_value_t       *next;
    ngx_http_variable_value_t        value;
};


typedef struct {
    /* webtorch_access */
    ngx_http_webtorch_access_t      *access;  /* that gave the verdict */
    ngx_http_webtorch_verdict_e      verdict;
    double                           score;
    ngx_http_webtorch_reason_t       reason;  /* of a denial */
    ngx_webtorch_waiter_t            waiter;

    /* windows of the request for webtorch_log; NULL: not kept */
    ngx_webtorch_scored_list_t      *windows;
    void                            *native;  /* that scored them */
    size_t                           body;    /* the limit */

    ngx_int_t                        unread;  /* what is not in the score, as
                                                 ngx_http_webtorch_row_unread()
                                                 returns it */

    ngx_uint_t                       uri_changes;  /* left when refused */
    int64_t                          location;  /* a hash; 0: not known yet */

    /* webtorch_set */
    ngx_array_t                     *sets;    /* that have been computed */
    ngx_http_webtorch_value_t       *values;
    ngx_uint_t                       pending;

    /* the client, as it was when the request was counted */
    ngx_str_t                        key;
    ngx_webtorch_client_t            client;
    ngx_webtorch_site_t              site;

    unsigned                         denied:1;  /* or would be: dry run */
    unsigned                         refused:1; /* its error page is next */
    unsigned                         error_page:1;  /* of the denial */
    unsigned                         scored:1;
    unsigned                         dry_run:1;
    unsigned                         body_read:1;
    unsigned                         keyed:1;   /* the key is known */
    unsigned                         counted:1;
} ngx_http_webtorch_phases_ctx_t;


/* context of the main request; NULL: no memory, or none and create is 0 */
ngx_http_webtorch_phases_ctx_t *ngx_http_webtorch_phases_ctx(
    ngx_http_request_t *r, ngx_uint_t create);


#endif /* _NGX_HTTP_WEBTORCH_PHASES_CTX_H_INCLUDED_ */
