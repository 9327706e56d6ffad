
#ifndef _NGX_WEBTORCH_DECODING_H_INCLUDED_
#define _NGX_WEBTORCH_DECODING_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


/* codings of a format's own */

typedef enum {
    NGX_WEBTORCH_CODING_NONE = 0,
    NGX_WEBTORCH_CODING_PERCENT,          /* a path */
    NGX_WEBTORCH_CODING_FORM,             /* percent, and "+" is a blank */
    NGX_WEBTORCH_CODING_JSON,             /* the inside of a string */
    NGX_WEBTORCH_CODING_XML               /* entities */
} ngx_webtorch_coding_e;


/*
 * All functions decode in place, as no coding makes text longer, and return the
 * new length.
 */

/* the coding of the format; sets bits NGX_WEBTORCH_DECODED_... */
size_t ngx_webtorch_decoding_format(unsigned char *p, size_t len,
    ngx_webtorch_coding_e coding, uint32_t *decoded);

/*
 * Further codings, as often as they show, up to a bound.  Sets decoded and
 * flags.  scratch: memory of len bytes.
 */
size_t ngx_webtorch_decoding_value(unsigned char *p, size_t len,
    unsigned char *scratch, uint32_t *decoded, uint32_t *flags);

/* decodes both alphabets, with or without padding; 0: it is not base64 */
size_t ngx_webtorch_decoding_base64(unsigned char *p, const unsigned char *from,
    size_t len);


#endif /* _NGX_WEBTORCH_DECODING_H_INCLUDED_ */
