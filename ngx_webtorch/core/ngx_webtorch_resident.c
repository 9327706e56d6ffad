
#include "ngx_webtorch_resident.h"


/* bytes; each arena keeps twice as many at its end */
#define NGX_WEBTORCH_RESIDENT_KEPT_SIZE  (8 * 1024 * 1024)


static ngx_uint_t  ngx_webtorch_resident_logged;


/*
 * glibc's thresholds grow with the largest block that was freed; mallopt()
 * would set them for good.
 */

void
ngx_webtorch_resident_keep(void)
{
    void *volatile  p;

    p = malloc(NGX_WEBTORCH_RESIDENT_KEPT_SIZE);
    free(p);
}


size_t
ngx_webtorch_resident(ngx_log_t *log)
{
    char         text[64];
    ssize_t      n;
    ngx_fd_t     fd;
    const char  *p;

    fd = ngx_open_file("/proc/self/statm", NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {

        /* it is asked for several times a second */

        if (!ngx_webtorch_resident_logged) {
            ngx_log_error(NGX_LOG_ALERT, log, ngx_errno,
                          ngx_open_file_n " \"/proc/self/statm\" failed");
            ngx_webtorch_resident_logged = 1;
        }

        return 0;
    }

    n = ngx_read_fd(fd, text, sizeof(text) - 1);

    (void) ngx_close_file(fd);

    if (n <= 0) {
        return 0;
    }

    text[n] = '\0';

    /* numbers of pages: all, resident, ... */

    p = ngx_strchr(text, ' ');

    return p ? (size_t) strtoul(p, NULL, 10) * ngx_pagesize : 0;
}
