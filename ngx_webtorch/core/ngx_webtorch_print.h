
/*
 * Floating-point numbers as text, with a decimal point: the application may
 * have set a locale with a comma, and ngx_sprintf() has no such format.
 */


#ifndef _NGX_WEBTORCH_PRINT_H_INCLUDED_
#define _NGX_WEBTORCH_PRINT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* bytes of a number with 17 digits, at most, and a zero byte */
#define NGX_WEBTORCH_DOUBLE_LEN  32


/* both write at most NGX_WEBTORCH_DOUBLE_LEN bytes and return the end */

u_char *ngx_webtorch_print_double(u_char *p, double n, int digits);

/* with the least digits with which it is read as the same number */
u_char *ngx_webtorch_print_exact(u_char *p, double n);


#endif /* _NGX_WEBTORCH_PRINT_H_INCLUDED_ */
