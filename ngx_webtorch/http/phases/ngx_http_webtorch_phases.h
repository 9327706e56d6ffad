
/*
 * http/phases: models in the access, rewrite and log phases of requests, that
 * is webtorch_access, webtorch_set and webtorch_log, and the features of
 * requests that they get.  It includes api/ to batch/ and features/, nginx's
 * http and the request helpers of http/; it does not include Python.h.
 *
 * This header is the configuration of the phases.
 */


#ifndef _NGX_HTTP_WEBTORCH_PHASES_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_PHASES_H_INCLUDED_


#include <ngx_http.h>


typedef struct ngx_http_webtorch_access_s  ngx_http_webtorch_access_t;

typedef struct ngx_http_webtorch_feature_handler_s
    ngx_http_webtorch_feature_handler_t;


typedef struct {
    ngx_http_webtorch_access_t           *access;  /* NULL: off */
    ngx_array_t                          *sets;    /* of ngx_http_webtorch_
                                                      set_t *; NULL: none */
    ngx_http_webtorch_feature_handler_t  *log;     /* NULL: off */
} ngx_http_webtorch_phases_loc_conf_t;


typedef struct {
    ngx_shm_zone_t                       *clients;
    ngx_int_t                             request_id;  /* variable's index */

    unsigned                              used:1;  /* by any directive */
    unsigned                              access:1;
    unsigned                              set:1;
} ngx_http_webtorch_phases_main_conf_t;


extern ngx_module_t  ngx_http_webtorch_phases_module;


#endif /* _NGX_HTTP_WEBTORCH_PHASES_H_INCLUDED_ */
