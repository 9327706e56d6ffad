
/* A field: one value that a client chose, its place, name and decodings. */


#ifndef _NGX_WEBTORCH_FIELD_H_INCLUDED_
#define _NGX_WEBTORCH_FIELD_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


/* bytes of a name with its path, such as "body.user.name" */
#define NGX_WEBTORCH_FIELD_NAME     256

/*
 * Bytes of a value that are decoded at once.  A longer value is read in pieces
 * that overlap, so that nothing hides at a border.  The step from piece to
 * piece is a multiple of 4, the length of a group of base64.
 */
#define NGX_WEBTORCH_FIELD_PIECE    4096
#define NGX_WEBTORCH_FIELD_OVERLAP  256

/* formats in values of other formats: JSON in a parameter, for example */
#define NGX_WEBTORCH_FIELD_NESTED   3

/* open objects, arrays or elements */
#define NGX_WEBTORCH_FIELD_DEPTH    64


typedef enum {
    NGX_WEBTORCH_PLACE_PATH = 0,
    NGX_WEBTORCH_PLACE_QUERY,
    NGX_WEBTORCH_PLACE_COOKIE,
    NGX_WEBTORCH_PLACE_HEADER,
    NGX_WEBTORCH_PLACE_FORM,
    NGX_WEBTORCH_PLACE_JSON,
    NGX_WEBTORCH_PLACE_MULTIPART,
    NGX_WEBTORCH_PLACE_FILE,              /* content of a file in multipart */
    NGX_WEBTORCH_PLACE_XML,
    NGX_WEBTORCH_PLACE_GRAPHQL,
    NGX_WEBTORCH_PLACE_TEXT               /* a body of no known format */
} ngx_webtorch_field_place_e;

#define NGX_WEBTORCH_PLACES         (NGX_WEBTORCH_PLACE_TEXT + 1)


/* steps of decoding that changed the value, beyond the format's own */

#define NGX_WEBTORCH_DECODED_PERCENT   0x0001
#define NGX_WEBTORCH_DECODED_AGAIN     0x0002    /* percent, once more */
#define NGX_WEBTORCH_DECODED_UNICODE   0x0004    /* "%uXXXX" */
#define NGX_WEBTORCH_DECODED_ENTITY    0x0008    /* of HTML */
#define NGX_WEBTORCH_DECODED_ESCAPE    0x0010    /* "\x27", "\u0027" */
#define NGX_WEBTORCH_DECODED_OVERLONG  0x0020    /* UTF-8 of too many bytes */
#define NGX_WEBTORCH_DECODED_WIDE      0x0040    /* full-width letters */
#define NGX_WEBTORCH_DECODED_UTF16     0x0080
#define NGX_WEBTORCH_DECODED_BASE64    0x0100
#define NGX_WEBTORCH_DECODED_HEX       0x0200
#define NGX_WEBTORCH_DECODED_ASCII     0x0400    /* escapes of plain letters */
#define NGX_WEBTORCH_DECODED_BITS      11


/* kind of a value */

#define NGX_WEBTORCH_FIELD_KEY         0x0001    /* a name, read as a value */
#define NGX_WEBTORCH_FIELD_FILENAME    0x0002
#define NGX_WEBTORCH_FIELD_MORE        0x0004    /* a piece but the first */
#define NGX_WEBTORCH_FIELD_OPAQUE      0x0008    /* base64 of no text */
#define NGX_WEBTORCH_FIELD_BINARY      0x0010    /* bytes that are not text */
#define NGX_WEBTORCH_FIELD_MARKUP      0x0020    /* declaration or comment */
#define NGX_WEBTORCH_FIELD_SYNTAX      0x0040    /* around other fields */
#define NGX_WEBTORCH_FIELD_NULL        0x0080    /* it has null bytes */
#define NGX_WEBTORCH_FIELD_BITS        8


/* anomalies of a request as a whole */

#define NGX_WEBTORCH_FLAW_TYPE          0x0001    /* not what the type says */
#define NGX_WEBTORCH_FLAW_SYNTAX        0x0002    /* of JSON, XML, multipart */
#define NGX_WEBTORCH_FLAW_BOUNDARY      0x0004    /* none, or no usual one */
#define NGX_WEBTORCH_FLAW_PART          0x0008    /* header of multipart */
#define NGX_WEBTORCH_FLAW_END           0x0010    /* the body has no end */
#define NGX_WEBTORCH_FLAW_TWICE         0x0020    /* a header, name or type */


/* why a part of a request was not read */

#define NGX_WEBTORCH_UNREAD_ENCODING   0x0001    /* Content-Encoding */
#define NGX_WEBTORCH_UNREAD_CHARSET    0x0002
#define NGX_WEBTORCH_UNREAD_DEPTH      0x0004
#define NGX_WEBTORCH_UNREAD_SIZE       0x0008    /* when inflated */
#define NGX_WEBTORCH_UNREAD_CUT        0x0010    /* the body goes on */


typedef struct {
    ngx_webtorch_field_place_e  place;
    uint32_t              decoded;
    uint32_t              flags;
    const char           *name;           /* without a terminating zero */
    size_t                name_len;
    const unsigned char  *value;
    size_t                len;
} ngx_webtorch_field_t;


/* field: valid during the call only */

typedef void (*ngx_webtorch_field_pt)(void *data,
    const ngx_webtorch_field_t *field);


#endif /* _NGX_WEBTORCH_FIELD_H_INCLUDED_ */
