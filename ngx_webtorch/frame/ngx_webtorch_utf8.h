
/* UTF-8 in pieces that are cut anywhere. */


#ifndef _NGX_WEBTORCH_UTF8_H_INCLUDED_
#define _NGX_WEBTORCH_UTF8_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


/* between two characters if zeroed */

typedef struct {
    uint8_t   left;                       /* bytes that a character misses */
    uint8_t   min;                        /* range of the next byte */
    uint8_t   max;
} ngx_webtorch_utf8_t;


/*
 * Returns 0 if the bytes continue a text; -1: a byte can belong to none.  The
 * text is whole if "left" is 0 after its last byte.
 */
int ngx_webtorch_utf8_check(ngx_webtorch_utf8_t *utf8, const uint8_t *p,
    size_t len);


#endif /* _NGX_WEBTORCH_UTF8_H_INCLUDED_ */
