
#ifndef _NGX_WEBTORCH_PATH_H_INCLUDED_
#define _NGX_WEBTORCH_PATH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Makes a name absolute, as ngx_conf_full_name() does unless nginx was started
 * with a relative prefix.  Workers use names, too, and have another directory
 * if there is a "working_directory".
 */

ngx_int_t ngx_webtorch_full_name(ngx_cycle_t *cycle, ngx_str_t *name,
    ngx_uint_t conf_prefix);


#endif /* _NGX_WEBTORCH_PATH_H_INCLUDED_ */
