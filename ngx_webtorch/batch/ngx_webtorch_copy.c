
#include "ngx_webtorch_copy.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_tensor.h"


ngx_int_t
ngx_webtorch_copy_job(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_waiter_t *from, const ngx_webtorch_layout_t *layout)
{
    size_t                   size;
    uint32_t                 i;
    webtorch_schema_t       *schema;
    ngx_webtorch_sink_t      rows;
    const webtorch_batch_t  *api;

    schema = &runner->handler->schema;
    api = &from->batch->api;

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        size = ngx_webtorch_buffer_row_size(schema, i, layout->sizes);

        rows.data[i] = (u_char *) api->inputs[i] + from->job->first * size;
    }

    /* the strings of the last job are the last ones */

    rows.at = api->text_len - layout->text;
    rows.text = api->text + rows.at;

    return ngx_webtorch_runner_copy(runner, layout, &rows);
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
