
#include "ngx_http_webtorch_version_set.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_webtorch_version_set.h"


static ngx_int_t ngx_http_webtorch_version_set_find(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, u_char *name, u_char *last);


ngx_int_t
ngx_http_webtorch_version_set_of_model(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_http_complex_value_t *model)
{
    u_char     *last, name[WEBTORCH_VERSION_SET_LEN];
    ngx_str_t   value;

    if (ngx_http_complex_value(r, model, &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* without a version: as the code has it */

    if (value.len && value.data[value.len - 1] == '@') {
        return NGX_DECLINED;
    }

    last = ngx_snprintf(name, sizeof(name), "=%V", &value);

    return ngx_http_webtorch_version_set_find(r, ctx, name, last);
}


ngx_int_t
ngx_http_webtorch_version_set_of_function(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler,
    ngx_str_t *version)
{
    u_char  *last, name[WEBTORCH_VERSION_SET_LEN];

    if (version->len == 1 && version->data[0] == '1') {
        return NGX_DECLINED;
    }

    last = ngx_snprintf(name, sizeof(name), "/%V@%V", &handler->name, version);

    return ngx_http_webtorch_version_set_find(r, ctx, name, last);
}


static ngx_int_t
ngx_http_webtorch_version_set_find(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, u_char *name, u_char *last)
{
    u_char     text[WEBTORCH_VERSION_SET_LEN + 64];
    uint32_t   number;
    ngx_str_t  key;

    key.data = name;
    key.len = last - name;

    number = ngx_webtorch_version_set_find(&key);

    if (number == 0) {
        key.data++;
        key.len--;

        (void) ngx_snprintf(text, sizeof(text),
                            "version \"%V\" is not loaded%Z", &key);

        return ngx_http_webtorch_refuse(r, NGX_HTTP_NOT_FOUND,
                                        "unknown_version", (char *) text);
    }

    ctx->layout.sizes[WEBTORCH_VERSION_SET] = number;

    return NGX_DECLINED;
}
