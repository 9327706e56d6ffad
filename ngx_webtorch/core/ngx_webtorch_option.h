
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
 * The option of a parameter in a table, which ends with an empty name, and its
 * value; NULL: the table has no such name.
 */
const ngx_webtorch_option_t *ngx_webtorch_option_find(
    const ngx_webtorch_option_t *options, ngx_str_t *param, ngx_str_t *value);

/* sets the field of a structure; NGX_ERROR: the value is malformed */
ngx_int_t ngx_webtorch_option_set(const ngx_webtorch_option_t *option,
    void *conf, ngx_str_t *value);

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
