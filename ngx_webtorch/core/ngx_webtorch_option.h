
/* Parameters of directives, "name=value", by tables of their names. */


#ifndef _NGX_WEBTORCH_OPTION_H_INCLUDED_
#define _NGX_WEBTORCH_OPTION_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


typedef struct ngx_webtorch_option_s  ngx_webtorch_option_t;

struct ngx_webtorch_option_s {
    ngx_str_t     name;
    ngx_int_t   (*set)(const ngx_webtorch_option_t *option, void *field,
                       ngx_str_t *value);
    size_t        offset;                 /* of the field in the structure */
    ngx_int_t     min;
    ngx_int_t     max;
};


/*
 * Sets a field of a structure.  A table ends with an empty name.  NGX_DECLINED:
 * it has no such name; NGX_ERROR: the value is malformed.  found: or NULL.
 */
ngx_int_t ngx_webtorch_option_parse(const ngx_webtorch_option_t *options,
    void *conf, ngx_str_t *param, const ngx_webtorch_option_t **found);

/* of a field of ngx_uint_t */
ngx_int_t ngx_webtorch_option_number(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);

/* "on" or "off", of ngx_uint_t */
ngx_int_t ngx_webtorch_option_flag(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);

/* of ngx_msec_t */
ngx_int_t ngx_webtorch_option_time(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);

/* of size_t */
ngx_int_t ngx_webtorch_option_size(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);

/* of ngx_str_t, not empty */
ngx_int_t ngx_webtorch_option_text(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);


#endif /* _NGX_WEBTORCH_OPTION_H_INCLUDED_ */
