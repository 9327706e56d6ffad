
/* A request as a row of features. */


#ifndef _NGX_HTTP_WEBTORCH_ROW_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_ROW_H_INCLUDED_


#include "ngx_http_webtorch_feature_handler.h"
#include "ngx_webtorch_codec.h"
#include "ngx_webtorch_scored.h"


/*
 * Parses the request's features and sets the layout of its row.  They are
 * valid until the next call.  NGX_OK, or a code of
 * ngx_http_webtorch_body_part().
 */
ngx_int_t ngx_http_webtorch_row_measure(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_webtorch_layout_t *layout);

/*
 * Scores the request here.  NGX_DECLINED: the handler has no net, or the
 * request has too many numbers for the event loop; or another code.
 */
ngx_int_t ngx_http_webtorch_row_score(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh,
    ngx_webtorch_scored_result_t *result);

/*
 * Why not all of the request that was measured or scored last is in it, as a
 * code: NGX_OK, or one of ngx_http_webtorch_field_features().
 */
ngx_int_t ngx_http_webtorch_row_unread(void);

/* writes the row of the request that was measured last */
void ngx_http_webtorch_row_write(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_webtorch_sink_t *sink);

/*
 * Copies the name of the field that a window of the request belongs to, see
 * ngx_http_webtorch_field_name().  The features that were measured last are
 * not valid any more.
 */
size_t ngx_http_webtorch_row_field(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, uint32_t window, u_char *name);


#endif /* _NGX_HTTP_WEBTORCH_ROW_H_INCLUDED_ */
