
#include "ngx_webtorch_print.h"


static u_char *ngx_webtorch_print(u_char *p, double n, int digits);
static void ngx_webtorch_print_point(u_char *p, u_char *last);


u_char *
ngx_webtorch_print_double(u_char *p, double n, int digits)
{
    u_char  *last;

    last = ngx_webtorch_print(p, n, digits);

    ngx_webtorch_print_point(p, last);

    return last;
}


u_char *
ngx_webtorch_print_exact(u_char *p, double n)
{
    u_char  *last;

    last = ngx_webtorch_print(p, n, 15);

    /* strtod() expects the comma, too */

    if (strtod((char *) p, NULL) != n) {
        last = ngx_webtorch_print(p, n, 17);
    }

    ngx_webtorch_print_point(p, last);

    return last;
}


static u_char *
ngx_webtorch_print(u_char *p, double n, int digits)
{
    return p + snprintf((char *) p, NGX_WEBTORCH_DOUBLE_LEN, "%.*g", digits, n);
}


static void
ngx_webtorch_print_point(u_char *p, u_char *last)
{
    u_char  *comma;

    comma = ngx_strlchr(p, last, ',');

    if (comma) {
        *comma = '.';
    }
}
