
/* The version of Python that a path of "webtorch_python" belongs to. */


#ifndef _NGX_WEBTORCH_VERSION_H_INCLUDED_
#define _NGX_WEBTORCH_VERSION_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * NGX_ERROR: an interpreter, whose path ends with a zero byte, is known to be
 * of another version than the module was built for; a message of at most
 * NGX_WEBTORCH_MESSAGE_LEN bytes is written
 */
ngx_int_t ngx_webtorch_version_check(ngx_str_t *python, int major, int minor,
    char *error);


#endif /* _NGX_WEBTORCH_VERSION_H_INCLUDED_ */
