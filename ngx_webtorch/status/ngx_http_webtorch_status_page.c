
#include "ngx_http_webtorch_status_page.h"


/* NGX_WEBTORCH_STATUS_PAGE: the file's name, which nginx's configure sets */

__asm__(".section .rodata\n"
        ".hidden ngx_http_webtorch_status_html\n"
        ".hidden ngx_http_webtorch_status_html_len\n"
        ".global ngx_http_webtorch_status_html\n"
        ".global ngx_http_webtorch_status_html_len\n"
        ".balign 8\n"
        "ngx_http_webtorch_status_html_len:\n"
        ".quad 1f - ngx_http_webtorch_status_html\n"
        "ngx_http_webtorch_status_html:\n"
        ".incbin \"" NGX_WEBTORCH_STATUS_PAGE "\"\n"
        "1:\n"
        ".previous\n");


extern const uint64_t  ngx_http_webtorch_status_html_len
                           __attribute__((visibility("hidden")));
extern u_char          ngx_http_webtorch_status_html[]
                           __attribute__((visibility("hidden")));


void
ngx_http_webtorch_status_get_page(ngx_str_t *page)
{
    page->data = ngx_http_webtorch_status_html;
    page->len = (size_t) ngx_http_webtorch_status_html_len;
}
