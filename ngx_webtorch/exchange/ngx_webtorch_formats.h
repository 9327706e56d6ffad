
/*
 * exchange/: what a request's headers and its body mean, without a server: the
 * formats of a body and of its answer, what is refused, the texts of errors.
 * Files here include headers of api/, tensor/ and of this folder only.
 *
 * This header: the choice of formats, and decoding with them.
 */


#ifndef _NGX_WEBTORCH_FORMATS_H_INCLUDED_
#define _NGX_WEBTORCH_FORMATS_H_INCLUDED_


#include "ngx_webtorch_codec.h"


typedef struct {
    const ngx_webtorch_codec_t  *in;
    const ngx_webtorch_codec_t  *out;         /* NULL: none is acceptable */

    /* the answer's, if a body of text/plain is JSON */
    const ngx_webtorch_codec_t  *json_out;
} ngx_webtorch_formats_t;


/*
 * Chooses the format of a body by its Content-Type, NULL: there is none, and
 * sets layout->type of a form; -1: err is set.
 */
int ngx_webtorch_formats_choose_in(ngx_webtorch_formats_t *formats,
    const webtorch_schema_t *schema, const webtorch_str_t *type,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);

/* chooses the format of the answer by an Accept header, "" if there is none */
void ngx_webtorch_formats_choose_out(ngx_webtorch_formats_t *formats,
    const webtorch_schema_t *schema, const char *accept, size_t len);

/* the error of an answer without a format; returns -1 */
int ngx_webtorch_formats_not_acceptable(const webtorch_schema_t *schema,
    ngx_webtorch_error_t *err);

/* other errors: of the header Tensor-Shape, of files of PyTorch, of no body */
int ngx_webtorch_formats_bad_shape(ngx_webtorch_error_t *err);
int ngx_webtorch_formats_no_files(ngx_webtorch_error_t *err);
int ngx_webtorch_formats_empty(ngx_webtorch_error_t *err);

/* decodes a body, as a codec does */
int ngx_webtorch_formats_decode(ngx_webtorch_formats_t *formats,
    const webtorch_str_t *body, const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err);

/* -1: a function that trains would train on a NaN or an infinity, err is set */
int ngx_webtorch_formats_check_finite(const webtorch_schema_t *schema,
    const ngx_webtorch_sink_t *sink, const ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err);


#endif /* _NGX_WEBTORCH_FORMATS_H_INCLUDED_ */
