
/*
 * Parameters of headers such as Content-Type and Content-Disposition.
 */


#ifndef _NGX_WEBTORCH_PARAMETER_H_INCLUDED_
#define _NGX_WEBTORCH_PARAMETER_H_INCLUDED_


#include <stddef.h>

#include "ngx_webtorch_api.h"


/* name=value or name="value" */

typedef struct {
    const char   *name;
    size_t        name_len;
    const char   *value;
    size_t        len;
    int32_t       coding;                 /* WEBTORCH_PLAIN or _QUOTED */
} ngx_webtorch_parameter_t;


/* returns 1 if a text is the expected one, in any case */
int ngx_webtorch_parameter_is(const char *text, size_t len,
    const char *expected);

/* returns the first character that is no space or tab, or the end */
const char *ngx_webtorch_parameter_skip(const char *p, const char *end);

/* returns the length of what may stand without quotes */
size_t ngx_webtorch_parameter_token(const char *p, const char *end);

/* returns the byte that two hexadecimal digits are, -1: they are not */
int ngx_webtorch_parameter_hex(const char *p);

/*
 * Reads "; name=value" and moves *pos to its end; 1: there is one, 0: the end
 * of the header, -1: it is malformed.
 */
int ngx_webtorch_parameter_read(const char **pos, const char *end,
    ngx_webtorch_parameter_t *param);


#endif /* _NGX_WEBTORCH_PARAMETER_H_INCLUDED_ */
