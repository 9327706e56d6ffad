
#include "ngx_webtorch_copy.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_tensor.h"


ngx_int_t
ngx_webtorch_copy_job(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_waiter_t *from, const ngx_webtorch_layout_t *layout)
{
    size_t                   size, start, n;
    uint32_t                 i;
    webtorch_text_t         *entry;
    webtorch_schema_t       *schema;
    ngx_webtorch_sink_t      sink;
    const webtorch_batch_t  *api;

    if (ngx_webtorch_runner_reserve(runner, layout, &sink) != NGX_OK) {
        return NGX_ERROR;
    }

    schema = &runner->handler->schema;
    api = &from->batch->api;

    /* the strings of the last job are the last ones */

    start = api->text_len - layout->text;

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        size = ngx_webtorch_buffer_row_size(schema, i, layout->sizes);

        if (size == 0) {
            continue;
        }

        ngx_memcpy(sink.data[i],
                   (u_char *) api->inputs[i] + from->job->first * size,
                   layout->rows * size);

        if (i >= schema->ninputs
            || !ngx_webtorch_is_string(schema->inputs[i].dtype))
        {
            continue;
        }

        entry = sink.data[i];

        for (n = layout->rows * size / sizeof(webtorch_text_t); n; n--) {
            entry->at = entry->at - start + sink.at;
            entry++;
        }
    }

    if (layout->text) {
        ngx_memcpy(sink.text, api->text + start, layout->text);
    }

    return NGX_OK;
}


size_t
ngx_webtorch_copy_size(const ngx_webtorch_waiter_t *from,
    const ngx_webtorch_layout_t *layout)
{
    return layout->rows * from->batch->row_size + layout->text;
}


ngx_uint_t
ngx_webtorch_copy_elapsed(const ngx_webtorch_waiter_t *waiter)
{
    return waiter->batch->elapsed;
}
