
/*
 * Requests for fuzz_fields.c and fuzz_scored.c: lines of an input are the path,
 * query, type, encoding, a header's name and its value, and the rest is the
 * body.
 */

#ifndef _FUZZ_REQUEST_H_INCLUDED_
#define _FUZZ_REQUEST_H_INCLUDED_


#include "ngx_webtorch_fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define fuzz_check(condition, what)                                           \
    if (!(condition)) {                                                       \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what);             \
        abort();                                                              \
    }

#define FUZZ_LINES  6
#define FUZZ_PARTS  (FUZZ_LINES + 1)
#define FUZZ_WORK   (64 * 1024)


/* memory of exactly its size, so that a read beyond it is found */

static void
fuzz_part(ngx_webtorch_part_t *part, const uint8_t *data, size_t len)
{
    char  *copy;

    copy = malloc(len ? len : 1);
    memcpy(copy, data, len);

    part->data = copy;
    part->len = len;
}


static void
fuzz_request_split(ngx_webtorch_part_t parts[FUZZ_PARTS], const uint8_t *data,
    size_t size)
{
    size_t          i;
    const uint8_t  *last, *end;

    last = data + size;

    for (i = 0; i < FUZZ_LINES; i++) {
        end = (data < last) ? memchr(data, '\n', (size_t) (last - data)) : NULL;
        end = end ? end : last;

        fuzz_part(&parts[i], data, (size_t) (end - data));
        data = (end < last) ? end + 1 : last;
    }

    fuzz_part(&parts[FUZZ_LINES], data, (size_t) (last - data));
}


static void
fuzz_request_free(ngx_webtorch_part_t parts[FUZZ_PARTS])
{
    size_t  i;

    for (i = 0; i < FUZZ_PARTS; i++) {
        free((void *) parts[i].data);
    }
}


#endif /* _FUZZ_REQUEST_H_INCLUDED_ */
