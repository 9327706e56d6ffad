
/* The fields of a request for tools. */

#include "ngx_webtorch_reading.h"

#include <string.h>


/* a body that is inflated or in UTF-16 */
#define NGX_WEBTORCH_READING_WORK  (1 << 18)


typedef struct {
    ngx_webtorch_reading_t  *reading;
    ngx_webtorch_fields_t    fields;
    ngx_webtorch_windows_t   windows;
    unsigned char            work[NGX_WEBTORCH_READING_WORK];
} ngx_webtorch_reading_memory_t;


static void ngx_webtorch_reading_field(void *data,
    const ngx_webtorch_field_t *field);


size_t
ngx_webtorch_reading_size(void)
{
    return sizeof(ngx_webtorch_reading_memory_t);
}


void
ngx_webtorch_reading(ngx_webtorch_reading_t *reading, void *memory)
{
    uint32_t                        i;
    ngx_webtorch_fields_t          *fields;
    ngx_webtorch_windows_t         *windows;
    ngx_webtorch_reading_memory_t  *rm;

    rm = memory;
    rm->reading = reading;
    fields = &rm->fields;
    windows = &rm->windows;

    ngx_webtorch_windows_init(windows, reading->numbers, reading->windows,
                              reading->size);
    windows->spans = reading->spans;

    ngx_webtorch_fields_init(fields, ngx_webtorch_reading_field, rm);
    fields->work = rm->work;
    fields->work_size = sizeof(rm->work);

    ngx_webtorch_fields_path(fields, &reading->path);
    ngx_webtorch_fields_query(fields, &reading->query);

    for (i = 0; i < reading->nheaders; i++) {
        ngx_webtorch_fields_header(fields, &reading->headers[2 * i],
                                   &reading->headers[2 * i + 1]);
    }

    ngx_webtorch_fields_body(fields, &reading->type, &reading->encoding,
                             &reading->body);
    ngx_webtorch_windows_request(windows, fields, &reading->method);

    reading->count = windows->count;
    reading->nwindows = windows->nwindows;
    reading->full = windows->full;
    reading->unread = fields->unread;
    reading->flaws = fields->flaws;
}


static void
ngx_webtorch_reading_field(void *data, const ngx_webtorch_field_t *field)
{
    uint32_t                        first;
    ngx_webtorch_reading_memory_t  *rm;

    rm = data;
    first = rm->windows.nwindows;

    ngx_webtorch_windows_field(&rm->windows, field);

    if (rm->reading->handler && rm->windows.nwindows > first) {
        rm->reading->handler(first, field);
    }
}
