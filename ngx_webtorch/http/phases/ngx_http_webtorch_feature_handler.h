
/* A handler whose inputs are features of requests, a row for each. */


#ifndef _NGX_HTTP_WEBTORCH_FEATURE_HANDLER_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_FEATURE_HANDLER_H_INCLUDED_


#include "ngx_http_webtorch_phases.h"
#include "ngx_webtorch_features.h"
#include "ngx_webtorch_handler.h"


/* features that exist before a request is finished */
#define NGX_HTTP_WEBTORCH_FEATURES                                            \
    (NGX_HTTP_WEBTORCH_ALL_FEATURES & ~(1U << NGX_WEBTORCH_FEATURE_OUTCOME))

#define NGX_HTTP_WEBTORCH_ALL_FEATURES  ((1U << NGX_WEBTORCH_NFEATURES) - 1)

/* features of fields that a net has scored */
#define NGX_HTTP_WEBTORCH_SCORED                                              \
    (1U << NGX_WEBTORCH_FEATURE_LOGITS | 1U << NGX_WEBTORCH_FEATURE_PRINTS)

/* features of the client, which is in the request's context */
#define NGX_HTTP_WEBTORCH_CLIENTS                                             \
    (1U << NGX_WEBTORCH_FEATURE_CLIENT | 1U << NGX_WEBTORCH_FEATURE_SITE      \
     | 1U << NGX_WEBTORCH_FEATURE_KEY)


struct ngx_http_webtorch_feature_handler_s {
    ngx_webtorch_handler_t          *handler;
    uint32_t                         allowed; /* features, a bit for each */
    uint32_t                         used;    /* by the schema */
    ngx_webtorch_feature_e           inputs[WEBTORCH_MAX_TENSORS];
    size_t                           body;    /* limit of the body, bytes */
    double                           target;  /* share of normal requests that
                                                 may be denied; 0: not set */
    ngx_uint_t                       body_optional;  /* left out if it was
                                                        not read */
    ngx_uint_t                       partial;  /* fields that can be read are
                                                  scored if others cannot */
    ngx_uint_t                       any_output;  /* outputs are not read */

    /* one message a second, or an overload fills the disk */
    time_t                           logged;  /* seconds */
    ngx_uint_t                       nskipped;
};


/* with the defaults of its options */
char *ngx_http_webtorch_feature_handler_init(ngx_conf_t *cf,
    ngx_http_webtorch_feature_handler_t *fh, ngx_str_t *name);

/* parses "body=size" and the options of handlers */
char *ngx_http_webtorch_feature_handler_option(ngx_conf_t *cf,
    ngx_http_webtorch_feature_handler_t *fh, ngx_str_t *option);


#endif /* _NGX_HTTP_WEBTORCH_FEATURE_HANDLER_H_INCLUDED_ */
