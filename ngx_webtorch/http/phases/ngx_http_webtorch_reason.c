
/*
 * Why a function has denied a request.  Its second output is the window of the
 * worst field, its third one the kind of attack.  Only requests that are denied
 * are read once more, for the field's name, so that no request keeps names.
 */

#include "ngx_http_webtorch_reason.h"
#include "ngx_http_webtorch_row.h"
#include "ngx_webtorch_window.h"


#define NGX_HTTP_WEBTORCH_KIND_LEN  32


static void ngx_http_webtorch_reason_field(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, int64_t window, ngx_str_t *field);
static void ngx_http_webtorch_reason_kind(ngx_http_request_t *r,
    const u_char *p, size_t len, ngx_str_t *kind);


void
ngx_http_webtorch_reason(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job, ngx_http_webtorch_reason_t *reason)
{
    int64_t           window;
    const void       *p;
    webtorch_spec_t  *spec;

    ngx_memzero(reason, sizeof(ngx_http_webtorch_reason_t));

    spec = ngx_webtorch_batch_specs(waiter);

    if (fh->handler->schema.noutputs > 1
        && spec[1].dtype == WEBTORCH_INT64
        && spec[1].row_size == sizeof(int64_t))
    {
        p = ngx_webtorch_batch_output(waiter, job, 1);
        ngx_memcpy(&window, p, sizeof(int64_t));
        ngx_http_webtorch_reason_field(r, fh, window, &reason->field);
    }

    if (fh->handler->schema.noutputs > 2
        && spec[2].dtype == WEBTORCH_UINT8
        && spec[2].row_size <= NGX_HTTP_WEBTORCH_KIND_LEN)
    {
        p = ngx_webtorch_batch_output(waiter, job, 2);
        ngx_http_webtorch_reason_kind(r, p, (size_t) spec[2].row_size,
                                      &reason->kind);
    }
}


void
ngx_http_webtorch_reason_of(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh,
    const ngx_webtorch_scored_result_t *result,
    ngx_http_webtorch_reason_t *reason)
{
    ngx_memzero(reason, sizeof(ngx_http_webtorch_reason_t));

    ngx_http_webtorch_reason_field(r, fh, result->window, &reason->field);
    ngx_http_webtorch_reason_kind(r, (u_char *) result->kind,
                                  WEBTORCH_KIND_LEN, &reason->kind);
}


static void
ngx_http_webtorch_reason_field(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, int64_t window, ngx_str_t *field)
{
    size_t  len;
    u_char  name[NGX_WEBTORCH_FIELD_NAME];

    if (window < 0 || window >= NGX_WEBTORCH_MAX_NUMBERS) {
        return;
    }

    len = ngx_http_webtorch_row_field(r, fh, (uint32_t) window, name);

    if (len == 0) {
        return;
    }

    field->data = ngx_pnalloc(r->pool, len);
    if (field->data == NULL) {
        return;
    }

    ngx_memcpy(field->data, name, len);
    field->len = len;
}


/* a name in ASCII, with zeros after it */

static void
ngx_http_webtorch_reason_kind(ngx_http_request_t *r, const u_char *p,
    size_t len, ngx_str_t *kind)
{
    size_t  n;

    for (n = 0; n < len && p[n] > ' ' && p[n] < 0x7f; n++) { /* void */ }

    if (n == 0) {
        return;
    }

    kind->data = ngx_pnalloc(r->pool, n);
    if (kind->data == NULL) {
        return;
    }

    ngx_memcpy(kind->data, p, n);
    kind->len = n;
}
