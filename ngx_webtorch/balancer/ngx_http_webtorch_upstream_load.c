
#include "ngx_http_webtorch_upstream_load.h"


#define NGX_HTTP_WEBTORCH_LOAD_METRICS  "endpoint-load-metrics"
#define NGX_HTTP_WEBTORCH_LOAD_WAITING  "requests_waiting"

/* digits of a number that is read */
#define NGX_HTTP_WEBTORCH_LOAD_DIGITS   6


static ngx_int_t ngx_http_webtorch_upstream_parse_waiting(ngx_str_t *value,
    float *waiting);


ngx_int_t
ngx_http_webtorch_upstream_waiting(ngx_http_upstream_t *u, float *waiting)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    /* without a status the headers are those of a server before this one */

    if (u->state == NULL || u->state->status == 0) {
        return NGX_DECLINED;
    }

    /* there is no list before the first server has answered */

    if (u->headers_in.headers.part.elts == NULL) {
        return NGX_DECLINED;
    }

    for (part = &u->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == sizeof(NGX_HTTP_WEBTORCH_LOAD_METRICS) - 1
                && ngx_strncasecmp(h[i].key.data,
                                   (u_char *) NGX_HTTP_WEBTORCH_LOAD_METRICS,
                                   h[i].key.len)
                   == 0)
            {
                return ngx_http_webtorch_upstream_parse_waiting(&h[i].value,
                                                                waiting);
            }
        }
    }

    return NGX_DECLINED;
}


/* named_metrics.requests_waiting=3, or "requests_waiting": 3 */

static ngx_int_t
ngx_http_webtorch_upstream_parse_waiting(ngx_str_t *value, float *waiting)
{
    u_char      *p, *last;
    ngx_uint_t   n;

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

    *waiting = 0;

    for (n = 0; p < last && *p >= '0' && *p <= '9'; n++, p++) {

        if (n == NGX_HTTP_WEBTORCH_LOAD_DIGITS) {
            return NGX_DECLINED;
        }

        *waiting = *waiting * 10 + (float) (*p - '0');
    }

    return n ? NGX_OK : NGX_DECLINED;
}
