
#include "ngx_http_webtorch_choose.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_webtorch_choice.h"


static ngx_int_t ngx_http_webtorch_choose_name(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, u_char *name, u_char *last);


ngx_int_t
ngx_http_webtorch_choose(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
    ngx_http_complex_value_t *model)
{
    u_char     *last, name[WEBTORCH_CHOICE_LEN];
    ngx_str_t   value;

    if (ngx_http_complex_value(r, model, &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* without a version: as the code has it */

    if (value.len && value.data[value.len - 1] == '@') {
        return NGX_DECLINED;
    }

    last = ngx_snprintf(name, sizeof(name), "=%V", &value);

    return ngx_http_webtorch_choose_name(r, ctx, name, last);
}


ngx_int_t
ngx_http_webtorch_choose_version(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler,
    ngx_str_t *version)
{
    u_char  *last, name[WEBTORCH_CHOICE_LEN];

    if (version->len == 1 && version->data[0] == '1') {
        return NGX_DECLINED;
    }

    last = ngx_snprintf(name, sizeof(name), "/%V@%V", &handler->name, version);

    return ngx_http_webtorch_choose_name(r, ctx, name, last);
}


static ngx_int_t
ngx_http_webtorch_choose_name(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, u_char *name, u_char *last)
{
    u_char     *p, text[WEBTORCH_CHOICE_LEN + 64];
    uint32_t    number;
    ngx_int_t   rc;
    ngx_str_t   key;

    key.data = name;
    key.len = last - name;

    number = ngx_webtorch_choice_find(&key);

    if (number == 0) {
        rc = ngx_http_webtorch_discard_body(r);

        if (rc != NGX_OK) {
            return rc;
        }

        key.data++;
        key.len--;

        p = ngx_snprintf(text, sizeof(text), "version \"%V\" is not loaded",
                         &key);
        key.data = text;
        key.len = p - text;

        return ngx_http_webtorch_error(r, NGX_HTTP_NOT_FOUND,
                                       "unknown_version", &key);
    }

    ctx->layout.sizes[WEBTORCH_CHOICE] = number;

    return NGX_DECLINED;
}
