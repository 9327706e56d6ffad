
/*
 * frame: the bytes of a stream become messages, one for each chunk.  Parsers
 * take bytes that are cut anywhere, and collect a message whose size is
 * bounded.  The folder needs neither nginx nor Python; it includes headers of
 * api/ and tensor/.
 */


#ifndef _NGX_WEBTORCH_FRAME_H_INCLUDED_
#define _NGX_WEBTORCH_FRAME_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


/* return codes of parsers */

typedef enum {
    NGX_WEBTORCH_FRAME_OK = 0,            /* the message is complete */
    NGX_WEBTORCH_FRAME_AGAIN,             /* all bytes are taken */
    NGX_WEBTORCH_FRAME_DONE,              /* at the end: no message is left */
    NGX_WEBTORCH_FRAME_TRUNCATED,         /* at the end: a part of one is */
    NGX_WEBTORCH_FRAME_TOO_LARGE,
    NGX_WEBTORCH_FRAME_NO_MEMORY
} ngx_webtorch_frame_e;


/*
 * Zeroed, with a limit, before its first use.  After the data there is room for
 * NGX_WEBTORCH_PADDING bytes, which parsers of its text may read.
 */

typedef struct {
    char      *data;                      /* see ngx_webtorch_buffer.h */
    size_t     len;
    size_t     size;                      /* allocated, without the padding */
    size_t     limit;                     /* bytes of a message; 0: none */
} ngx_webtorch_message_t;


/* bytes that become a message; the parser advances pos */

typedef struct {
    const uint8_t  *pos;
    const uint8_t  *last;
} ngx_webtorch_bytes_t;


/* NGX_WEBTORCH_FRAME_OK, TOO_LARGE or NO_MEMORY */
ngx_webtorch_frame_e ngx_webtorch_message_add(ngx_webtorch_message_t *m,
    const uint8_t *data, size_t len);

/* sets the bytes that there is room for; NGX_WEBTORCH_FRAME_OK or NO_MEMORY */
ngx_webtorch_frame_e ngx_webtorch_message_reserve(ngx_webtorch_message_t *m,
    size_t size);

/* makes it empty; memory of a large one is freed */
void ngx_webtorch_message_reset(ngx_webtorch_message_t *m);
void ngx_webtorch_message_free(ngx_webtorch_message_t *m);


/*
 * A line without "\n" or "\r\n".  blank: 0: lines of white space only are
 * skipped.  A complete message must be reset before the next call.
 */
ngx_webtorch_frame_e ngx_webtorch_line_read(ngx_webtorch_message_t *m,
    ngx_webtorch_bytes_t *in, int blank);

/* after the last byte: OK: the last line, which had no "\n"; DONE: none */
ngx_webtorch_frame_e ngx_webtorch_line_finish(ngx_webtorch_message_t *m,
    int blank);


/* a row of a fixed size, above 0 */
ngx_webtorch_frame_e ngx_webtorch_row_read(ngx_webtorch_message_t *m,
    ngx_webtorch_bytes_t *in, size_t size);

/* after the last byte: DONE, or TRUNCATED */
ngx_webtorch_frame_e ngx_webtorch_row_finish(ngx_webtorch_message_t *m);


#endif /* _NGX_WEBTORCH_FRAME_H_INCLUDED_ */
