
/*
 * Version sets, the versions of models that the calls of a request use: numbers
 * by names.  Python, which loads versions, sets them in any thread.
 */


#ifndef _NGX_WEBTORCH_VERSION_SET_H_INCLUDED_
#define _NGX_WEBTORCH_VERSION_SET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_api.h"


/* version sets that requests of a process can choose */
#define NGX_WEBTORCH_MAX_VERSION_SETS  256


/* the number of "=model@version" or "/module:function@version"; 0: none */
uint32_t ngx_webtorch_version_set_find(ngx_str_t *name);

/*
 * Writes the name of a number, with a zero byte, to WEBTORCH_VERSION_SET_LEN
 * bytes; NGX_DECLINED: there is none.
 */
ngx_int_t ngx_webtorch_version_set_name(uint32_t number, char *name);

/*
 * Writes the versions of a function by the name "/module:function@", each with
 * a zero byte at its end, to WEBTORCH_VERSION_SET_LEN bytes each; returns how
 * many.
 */
ngx_uint_t ngx_webtorch_version_set_versions(ngx_str_t *name,
    u_char (*versions)[WEBTORCH_VERSION_SET_LEN], ngx_uint_t n);


#endif /* _NGX_WEBTORCH_VERSION_SET_H_INCLUDED_ */
