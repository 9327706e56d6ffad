
/*
 * Errors that a body causes, as the client sees them.
 */


#ifndef _NGX_WEBTORCH_ERROR_H_INCLUDED_
#define _NGX_WEBTORCH_ERROR_H_INCLUDED_


#include "ngx_webtorch_tensor.h"


#ifdef __cplusplus
extern "C" {
#endif


#define NGX_WEBTORCH_ERROR_LEN      512


typedef struct {
    int           status;                 /* HTTP status, 4xx or 5xx */
    const char   *code;                   /* stable, for programs */
    char          text[NGX_WEBTORCH_ERROR_LEN];
} ngx_webtorch_error_t;


/* adds to the text of an error that is set, as far as there is room */
void ngx_webtorch_error_append(ngx_webtorch_error_t *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* all functions below set the error and return -1 */

int ngx_webtorch_error(ngx_webtorch_error_t *err, int status, const char *code,
    const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* 422: a tensor of this dtype and shape, both as text, does not fit the spec */
int ngx_webtorch_error_mismatch(ngx_webtorch_error_t *err, const char *code,
    const webtorch_schema_t *schema, const webtorch_spec_t *spec,
    const char *dtype, const char *shape);

/*
 * None of the n specs has this name, which need not end with '\0'; the text
 * lists the names that they have.
 */
int ngx_webtorch_error_unknown(ngx_webtorch_error_t *err, const char *name,
    size_t len, const webtorch_spec_t *specs, uint32_t n);
int ngx_webtorch_error_missing(ngx_webtorch_error_t *err,
    const webtorch_spec_t *spec);
int ngx_webtorch_error_duplicate(ngx_webtorch_error_t *err,
    const webtorch_spec_t *spec);

/* two tensors differ in their number of rows */
int ngx_webtorch_error_rows(ngx_webtorch_error_t *err, const char *name,
    uint32_t rows, const char *other, uint32_t other_rows);

/* a tensor has a batch axis, another one is a row without it */
int ngx_webtorch_error_batch(ngx_webtorch_error_t *err, const char *batched,
    const char *single);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_ERROR_H_INCLUDED_ */
