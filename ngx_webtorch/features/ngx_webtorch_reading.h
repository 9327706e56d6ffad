
/*
 * Reads the fields of a request without a server, for tools: the same numbers
 * as in nginx, and what they are of.
 */


#ifndef _NGX_WEBTORCH_READING_H_INCLUDED_
#define _NGX_WEBTORCH_READING_H_INCLUDED_


#include "ngx_webtorch_window.h"


/* window: the first one of the field */

typedef void (*ngx_webtorch_reading_pt)(uint32_t window,
    const ngx_webtorch_field_t *field);


typedef struct {
    ngx_webtorch_part_t          method;
    ngx_webtorch_part_t          path;
    ngx_webtorch_part_t          query;
    ngx_webtorch_part_t          type;      /* of the body */
    ngx_webtorch_part_t          encoding;
    ngx_webtorch_part_t          body;
    const ngx_webtorch_part_t   *headers;   /* names and values in turn */
    uint32_t                     nheaders;
    uint32_t                     size;      /* of the rows */
    int32_t                     *numbers;
    int32_t                     *windows;
    ngx_webtorch_window_span_t  *spans;
    ngx_webtorch_reading_pt      handler;

    /* what was read */
    uint32_t                     count;     /* of numbers */
    uint32_t                     nwindows;
    uint32_t                     full;
    uint32_t                     unread;    /* NGX_WEBTORCH_UNREAD_... */
    uint32_t                     flaws;     /* NGX_WEBTORCH_FLAW_... */
} ngx_webtorch_reading_t;


/* bytes of memory that it needs */
size_t ngx_webtorch_reading_size(void);

void ngx_webtorch_reading(ngx_webtorch_reading_t *reading, void *memory);


#endif /* _NGX_WEBTORCH_READING_H_INCLUDED_ */
