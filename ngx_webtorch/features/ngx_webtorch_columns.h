
#ifndef _NGX_WEBTORCH_COLUMNS_H_INCLUDED_
#define _NGX_WEBTORCH_COLUMNS_H_INCLUDED_


#include "ngx_webtorch_statistics.h"
#include "ngx_webtorch_text.h"


#define NGX_WEBTORCH_CLASSES          16  /* classes of characters */


/* columns of "request" that other files use */

typedef enum {
    NGX_WEBTORCH_REQUEST_HTTP = 6,
    NGX_WEBTORCH_REQUEST_TLS = 9,
    NGX_WEBTORCH_REQUEST_HOST,
    NGX_WEBTORCH_REQUEST_HOST_IS_ADDRESS,
    NGX_WEBTORCH_REQUEST_USER_AGENT,
    NGX_WEBTORCH_REQUEST_ACCEPT,
    NGX_WEBTORCH_REQUEST_ACCEPT_LANGUAGE,
    NGX_WEBTORCH_REQUEST_ACCEPT_ENCODING,
    NGX_WEBTORCH_REQUEST_REFERER,
    NGX_WEBTORCH_REQUEST_COOKIE,
    NGX_WEBTORCH_REQUEST_AUTHORIZATION,
    NGX_WEBTORCH_REQUEST_LENGTHS,
    NGX_WEBTORCH_REQUEST_CLASSES = 29,
    NGX_WEBTORCH_REQUEST_COLUMNS
        = NGX_WEBTORCH_REQUEST_CLASSES + NGX_WEBTORCH_CLASSES
} ngx_webtorch_request_column_e;

#define NGX_WEBTORCH_CLIENT_COLUMNS   (15 + NGX_WEBTORCH_KINDS)
#define NGX_WEBTORCH_SITE_COLUMNS     8
#define NGX_WEBTORCH_OUTCOME_COLUMNS  13


typedef struct {
    uint32_t             method;          /* its column */
    uint32_t             http;            /* its column */
    uint32_t             flags;           /* bits of columns from tls on */
    uint64_t             headers;         /* number of headers */
    uint64_t             body;            /* bytes */
    uint64_t             user_agent;      /* bytes */
    uint64_t             cookie;          /* bytes */
} ngx_webtorch_request_features_t;


/* rows of the first k columns, see docs/features.md */
void ngx_webtorch_features_request(float *row, uint32_t k,
    const ngx_webtorch_request_features_t *request,
    const ngx_webtorch_text_features_t *text);
void ngx_webtorch_features_client(float *row, uint32_t k,
    const ngx_webtorch_client_t *client);
void ngx_webtorch_features_site(float *row, uint32_t k,
    const ngx_webtorch_site_t *site);
void ngx_webtorch_features_outcome(float *row, uint32_t k,
    const ngx_webtorch_outcome_t *outcome);


#endif /* _NGX_WEBTORCH_COLUMNS_H_INCLUDED_ */
