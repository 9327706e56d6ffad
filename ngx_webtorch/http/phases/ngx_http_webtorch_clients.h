
/* webtorch_clients_zone: what is known of clients. */


#ifndef _NGX_HTTP_WEBTORCH_CLIENTS_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_CLIENTS_H_INCLUDED_


#include "ngx_http_webtorch_phases_ctx.h"
#include "ngx_webtorch_statistics.h"
#include "ngx_webtorch_text.h"


char *ngx_http_webtorch_clients_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* the zone of a configuration without the directive */
char *ngx_http_webtorch_clients_default(ngx_conf_t *cf,
    ngx_http_webtorch_phases_main_conf_t *pmcf);

/* sets the context's key, once; len 0: there is none */
void ngx_http_webtorch_clients_key(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx);

/* counts a request with a key, once, and copies the client to the context */
void ngx_http_webtorch_clients_arrive(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx,
    const ngx_webtorch_text_features_t *text);
void ngx_http_webtorch_clients_finish(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx,
    const ngx_webtorch_outcome_t *outcome);


#endif /* _NGX_HTTP_WEBTORCH_CLIENTS_H_INCLUDED_ */
