
/* Rows of the numbers of windows, as models get them. */

#include "ngx_webtorch_window.h"

#include <string.h>


uint32_t
ngx_webtorch_windows_size(const ngx_webtorch_windows_t *windows)
{
    uint32_t  size;

    for (size = NGX_WEBTORCH_MIN_NUMBERS; size < windows->count; size *= 2) {
        /* void */
    }

    return size;
}


void
ngx_webtorch_features_numbers(int32_t *row, uint32_t n,
    const ngx_webtorch_windows_t *windows)
{
    uint32_t  count;

    count = (windows->count < n) ? windows->count : n;

    memcpy(row, windows->numbers, count * sizeof(int32_t));
    memset(row + count, 0, (n - count) * sizeof(int32_t));
}


void
ngx_webtorch_features_windows(int64_t *row, uint32_t n,
    const ngx_webtorch_windows_t *windows)
{
    uint32_t  i, last;

    last = windows->count ? windows->count - 1 : 0;

    for (i = 0; i < n; i++) {
        row[i] = windows->windows[i < windows->count ? i : last];
    }
}
