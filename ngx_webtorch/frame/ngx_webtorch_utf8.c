
#include "ngx_webtorch_utf8.h"


static int ngx_webtorch_utf8_begin(ngx_webtorch_utf8_t *utf8, uint8_t byte);


int
ngx_webtorch_utf8_check(ngx_webtorch_utf8_t *utf8, const uint8_t *p, size_t len)
{
    const uint8_t  *last;

    for (last = p + len; p < last; p++) {

        if (utf8->left) {
            if (*p < utf8->min || *p > utf8->max) {
                return -1;
            }

            utf8->left--;
            utf8->min = 0x80;
            utf8->max = 0xbf;
            continue;
        }

        if (*p >= 0x80 && ngx_webtorch_utf8_begin(utf8, *p) != 0) {
            return -1;
        }
    }

    return 0;
}


/* overlong forms, surrogates and what is above U+10FFFF show in byte two */

static int
ngx_webtorch_utf8_begin(ngx_webtorch_utf8_t *utf8, uint8_t byte)
{
    utf8->min = 0x80;
    utf8->max = 0xbf;

    if (byte >= 0xc2 && byte <= 0xdf) {
        utf8->left = 1;
        return 0;
    }

    if (byte >= 0xe0 && byte <= 0xef) {
        utf8->left = 2;

        if (byte == 0xe0) {
            utf8->min = 0xa0;

        } else if (byte == 0xed) {
            utf8->max = 0x9f;
        }

        return 0;
    }

    if (byte >= 0xf0 && byte <= 0xf4) {
        utf8->left = 3;

        if (byte == 0xf0) {
            utf8->min = 0x90;

        } else if (byte == 0xf4) {
            utf8->max = 0x8f;
        }

        return 0;
    }

    return -1;
}
