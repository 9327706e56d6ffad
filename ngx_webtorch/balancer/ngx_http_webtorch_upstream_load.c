
#include "ngx_http_webtorch_upstream_load.h"
#include "ngx_http_webtorch_upstream_outcome.h"


#define NGX_HTTP_WEBTORCH_LOAD_WAITING  "requests_waiting"

/* digits of a number that is read */
#define NGX_HTTP_WEBTORCH_LOAD_DIGITS   6


static ngx_int_t ngx_http_webtorch_upstream_parse_waiting(ngx_str_t *value,
    float *waiting);


ngx_int_t
ngx_http_webtorch_upstream_waiting(ngx_http_upstream_t *u, float *waiting)
{
    ngx_str_t  *value;

    /* without a status the headers are those of a server before this one */

    if (u->state == NULL || u->state->status == 0) {
        return NGX_DECLINED;
    }

    value = ngx_http_webtorch_upstream_find_header(&u->headers_in.headers,
                                                   "endpoint-load-metrics");
    if (value == NULL) {
        return NGX_DECLINED;
    }

    return ngx_http_webtorch_upstream_parse_waiting(value, waiting);
}


/* named_metrics.requests_waiting=3, or "requests_waiting": 3 */

static ngx_int_t
ngx_http_webtorch_upstream_parse_waiting(ngx_str_t *value, float *waiting)
{
    u_char  *p, *last, *digits;
    size_t   n;

    last = value->data + value->len;

    p = ngx_strlcasestrn(value->data, last,
                         (u_char *) NGX_HTTP_WEBTORCH_LOAD_WAITING,
                         sizeof(NGX_HTTP_WEBTORCH_LOAD_WAITING) - 2);
    if (p == NULL) {
        return NGX_DECLINED;
    }

    p += sizeof(NGX_HTTP_WEBTORCH_LOAD_WAITING) - 1;

    while (p < last && (*p == '"' || *p == ':' || *p == '=' || *p == ' ')) {
        p++;
    }

    for (digits = p; p < last && *p >= '0' && *p <= '9'; p++) { /* void */ }

    n = (size_t) (p - digits);

    if (n == 0 || n > NGX_HTTP_WEBTORCH_LOAD_DIGITS) {
        return NGX_DECLINED;
    }

    *waiting = (float) ngx_atoi(digits, n);

    return NGX_OK;
}
