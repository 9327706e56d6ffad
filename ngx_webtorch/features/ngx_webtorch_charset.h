
#ifndef _NGX_WEBTORCH_CHARSET_H_INCLUDED_
#define _NGX_WEBTORCH_CHARSET_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


#define NGX_WEBTORCH_LAST_CHAR  0x10ffff


static inline int
ngx_webtorch_charset_alnum(uint32_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
           || (c >= 'a' && c <= 'z');
}


/* a blank of JSON, XML and forms */

static inline int
ngx_webtorch_charset_blank(unsigned char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}


/* appends a character as UTF-8; returns its end */
unsigned char *ngx_webtorch_charset_utf8(unsigned char *p, uint32_t c);

/* whether it is text: UTF-8 with few control characters */
int ngx_webtorch_charset_is_text(const unsigned char *p, size_t len);

/* whether text of a charset is read: a superset of ASCII, or UTF-16 */
int ngx_webtorch_charset_is_known(const char *name, size_t name_len);

/* UTF-16 as UTF-8; size: of p; stops where that is full */
size_t ngx_webtorch_charset_utf16(unsigned char *p, size_t size,
    const unsigned char *from, size_t len, int big);

/* in place, returning the new length; sets bits NGX_WEBTORCH_DECODED_... */
size_t ngx_webtorch_charset_ascii(unsigned char *p, size_t len,
    uint32_t *decoded);
size_t ngx_webtorch_charset_zeros(unsigned char *p, size_t len,
    uint32_t *decoded);


#endif /* _NGX_WEBTORCH_CHARSET_H_INCLUDED_ */
