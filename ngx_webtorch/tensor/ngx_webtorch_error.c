
/*
 * Errors of bodies.
 */

#include "ngx_webtorch_error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>


int
ngx_webtorch_error(ngx_webtorch_error_t *err, int status, const char *code,
    const char *fmt, ...)
{
    va_list  args;

    err->status = status;
    err->code = code;

    va_start(args, fmt);
    (void) vsnprintf(err->text, NGX_WEBTORCH_ERROR_LEN, fmt, args);
    va_end(args);

    return -1;
}


void
ngx_webtorch_error_append(ngx_webtorch_error_t *err, const char *fmt, ...)
{
    size_t   used;
    va_list  args;

    used = strlen(err->text);

    va_start(args, fmt);
    (void) vsnprintf(err->text + used, NGX_WEBTORCH_ERROR_LEN - used, fmt,
                     args);
    va_end(args);
}


int
ngx_webtorch_error_mismatch(ngx_webtorch_error_t *err, const char *code,
    const webtorch_schema_t *schema, const webtorch_spec_t *spec,
    const char *dtype, const char *shape)
{
    char  expected[NGX_WEBTORCH_SHAPE_LEN];

    return ngx_webtorch_error(err, 422, code,
                   "tensor \"%s\": expected %s %s, found %s %s",
                   spec->name, ngx_webtorch_dtypes[spec->dtype].name,
                   ngx_webtorch_spec_shape(expected, spec, schema),
                   dtype, shape);
}


int
ngx_webtorch_error_unknown(ngx_webtorch_error_t *err, const char *name,
    size_t len, const webtorch_spec_t *specs, uint32_t n)
{
    uint32_t  i;

    (void) ngx_webtorch_error(err, 422, "unknown_tensor",
                              "no tensor is named \"%.*s\"",
                              (int) (len < 64 ? len : 64), name);

    for (i = 0; i < n; i++) {
        ngx_webtorch_error_append(err, "%s\"%s\"",
                                  i ? ", " : ", the function has ",
                                  specs[i].name);
    }

    return -1;
}


int
ngx_webtorch_error_missing(ngx_webtorch_error_t *err,
    const webtorch_spec_t *spec)
{
    return ngx_webtorch_error(err, 422, "missing_tensor",
                              "tensor \"%s\" is missing", spec->name);
}


int
ngx_webtorch_error_duplicate(ngx_webtorch_error_t *err,
    const webtorch_spec_t *spec)
{
    return ngx_webtorch_error(err, 400, "malformed_body",
                              "tensor \"%s\" is given twice", spec->name);
}


int
ngx_webtorch_error_rows(ngx_webtorch_error_t *err, const char *name,
    uint32_t rows, const char *other, uint32_t other_rows)
{
    return ngx_webtorch_error(err, 422, "wrong_shape",
                              "tensors \"%s\" and \"%s\" differ in rows: "
                              "%" PRIu32 " and %" PRIu32,
                              name, other, rows, other_rows);
}


int
ngx_webtorch_error_batch(ngx_webtorch_error_t *err, const char *batched,
    const char *single)
{
    return ngx_webtorch_error(err, 422, "wrong_shape",
                              "tensor \"%s\" has a batch axis, \"%s\" has "
                              "none: give one to all tensors or to none",
                              batched, single);
}
