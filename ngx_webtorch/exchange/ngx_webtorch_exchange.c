
#include "ngx_webtorch_exchange.h"
#include "ngx_webtorch_buffer.h"

#include <stdlib.h>
#include <string.h>


struct ngx_webtorch_exchange_s {
    ngx_webtorch_sink_t       sink;       /* begins as that */
    const webtorch_schema_t  *schema;
    ngx_webtorch_formats_t    formats;
    ngx_webtorch_layout_t     layout;
    ngx_webtorch_shape_t      shape;
    void                     *rows[WEBTORCH_MAX_BUFFERS];
    char                     *text;       /* all strings of the rows */
    ngx_webtorch_error_t      err;        /* status 0: there is none */

    char                     *answer;
    char                      answer_shape[NGX_WEBTORCH_SHAPE_LEN];
};


/* tensors that are encoded */

typedef struct {
    const webtorch_spec_t       *specs;
    uint32_t                     n;
    const void *const           *data;
    ngx_webtorch_layout_t       *layout;
    const ngx_webtorch_codec_t  *codec;
} ngx_webtorch_exchange_tensors_t;


static int ngx_webtorch_exchange_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static int ngx_webtorch_exchange_no_memory(ngx_webtorch_error_t *err);
static void ngx_webtorch_exchange_copy_rows(ngx_webtorch_exchange_t *x,
    webtorch_batch_t *batch);
static int ngx_webtorch_exchange_write(ngx_webtorch_exchange_t *x,
    ngx_webtorch_exchange_tensors_t *tensors, webtorch_message_t *answer);


uint64_t
ngx_webtorch_exchange_layout(void)
{
    return (uint64_t) sizeof(webtorch_schema_t) << 32
           | (uint64_t) sizeof(webtorch_batch_t) << 20
           | (uint64_t) sizeof(webtorch_reply_t) << 10
           | (uint64_t) sizeof(webtorch_job_t);
}


ngx_webtorch_exchange_t *
ngx_webtorch_exchange_create(const webtorch_schema_t *schema)
{
    ngx_webtorch_exchange_t  *x;

    x = calloc(1, sizeof(ngx_webtorch_exchange_t));

    if (x) {
        x->schema = schema;
    }

    return x;
}


void
ngx_webtorch_exchange_free(ngx_webtorch_exchange_t *x)
{
    uint32_t  i;

    for (i = 0; i < WEBTORCH_MAX_BUFFERS; i++) {
        ngx_webtorch_buffer_free(x->rows[i]);
    }

    ngx_webtorch_buffer_free(x->text);
    free(x->answer);
    free(x);
}


void
ngx_webtorch_exchange_negotiate(ngx_webtorch_exchange_t *x,
    const webtorch_message_t *request)
{
    /* a function of requests refuses no format of a body */

    (void) ngx_webtorch_formats_choose_in(&x->formats, x->schema,
                                          request->content_type.data
                                          ? &request->content_type : NULL,
                                          &x->layout, &x->err);

    ngx_webtorch_formats_choose_out(&x->formats, x->schema,
                                    request->accept.data ? request->accept.data
                                                         : "",
                                    request->accept.len);
}


int
ngx_webtorch_exchange_decode(ngx_webtorch_exchange_t *x,
    const webtorch_message_t *request)
{
    if (ngx_webtorch_formats_choose_in(&x->formats, x->schema,
                                       request->content_type.data
                                       ? &request->content_type : NULL,
                                       &x->layout, &x->err)
        != 0)
    {
        return -1;
    }

    ngx_webtorch_formats_choose_out(&x->formats, x->schema,
                                    request->accept.data ? request->accept.data
                                                         : "",
                                    request->accept.len);

    if (x->formats.out == NULL) {
        return ngx_webtorch_formats_not_acceptable(x->schema, &x->err);
    }

    if (x->formats.in->decode == NULL) {
        return ngx_webtorch_formats_no_files(&x->err);
    }

    if (x->formats.in->shapeless && request->shape.data) {

        if (ngx_webtorch_parse_shape(&x->shape, request->shape.data,
                                     request->shape.len)
            != 0)
        {
            return ngx_webtorch_formats_bad_shape(&x->err);
        }

        x->layout.shape = &x->shape;
    }

    if (request->body.len == 0) {
        return ngx_webtorch_formats_empty(&x->err);
    }

    x->sink.reserve = ngx_webtorch_exchange_reserve;
    x->sink.limit = (size_t) request->limit;

    if (ngx_webtorch_formats_decode(&x->formats, &request->body, x->schema,
                                    &x->sink, &x->layout, &x->err)
        != 0)
    {
        return -1;
    }

    memcpy(x->sink.data, x->rows, sizeof(x->rows));

    return ngx_webtorch_formats_check_finite(x->schema, &x->sink, &x->layout,
                                             &x->err);
}


static int
ngx_webtorch_exchange_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    size_t                    size;
    uint32_t                  i;
    ngx_webtorch_exchange_t  *x;

    x = (ngx_webtorch_exchange_t *) sink;

    for (i = 0; i < ngx_webtorch_buffers(x->schema); i++) {
        size = ngx_webtorch_buffer_row_size(x->schema, i, layout->sizes);

        if (size == 0) {
            continue;
        }

        x->rows[i] = ngx_webtorch_buffer_alloc(layout->rows * size);

        if (x->rows[i] == NULL) {
            return ngx_webtorch_exchange_no_memory(err);
        }
    }

    if (layout->text) {
        x->text = ngx_webtorch_buffer_alloc(layout->text);

        if (x->text == NULL) {
            return ngx_webtorch_exchange_no_memory(err);
        }
    }

    /* a codec advances these while it writes */

    memcpy(sink->data, x->rows, sizeof(x->rows));
    sink->text = x->text;
    sink->at = 0;

    return 0;
}


static int
ngx_webtorch_exchange_no_memory(ngx_webtorch_error_t *err)
{
    return ngx_webtorch_error(err, 500, "no_memory", "no memory");
}


void
ngx_webtorch_exchange_get_error(const ngx_webtorch_exchange_t *x,
    webtorch_error_t *error)
{
    error->status = x->err.status;
    error->code = x->err.code;
    error->text = x->err.text;
}


int
ngx_webtorch_exchange_alike(const ngx_webtorch_exchange_t *x,
    const ngx_webtorch_exchange_t *other)
{
    return x->schema == other->schema
           && memcmp(x->layout.sizes, other->layout.sizes,
                     x->schema->nbound * sizeof(int64_t))
              == 0
           && (x->schema->noptional == 0
               || x->layout.sizes[WEBTORCH_ABSENT]
                  == other->layout.sizes[WEBTORCH_ABSENT]);
}


int
ngx_webtorch_exchange_join(ngx_webtorch_exchange_t **x, uint32_t n,
    webtorch_batch_t *batch)
{
    size_t                    size, text;
    uint32_t                  i;
    const webtorch_schema_t  *schema;

    text = 0;
    schema = x[0]->schema;

    for (i = 0; i < n; i++) {
        batch->jobs[i].first = batch->rows;
        batch->jobs[i].rows = x[i]->layout.rows;
        batch->rows += x[i]->layout.rows;
        text += x[i]->layout.text;
    }

    batch->njobs = n;
    batch->capacity = batch->rows;

    memcpy(batch->sizes, x[0]->layout.sizes, sizeof(batch->sizes));

    if (schema->noptional == 0) {
        batch->sizes[WEBTORCH_ABSENT] = 0;
    }

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        size = batch->rows
               * ngx_webtorch_buffer_row_size(schema, i, batch->sizes);

        if (size == 0) {
            continue;
        }

        batch->inputs[i] = ngx_webtorch_buffer_alloc(size);

        if (batch->inputs[i] == NULL) {
            return -1;
        }

        batch->allocated[i] = size;
    }

    if (text) {
        batch->text = ngx_webtorch_buffer_alloc(text);

        if (batch->text == NULL) {
            return -1;
        }
    }

    batch->rows = 0;

    for (i = 0; i < n; i++) {
        ngx_webtorch_exchange_copy_rows(x[i], batch);
    }

    return 0;
}


static void
ngx_webtorch_exchange_copy_rows(ngx_webtorch_exchange_t *x,
    webtorch_batch_t *batch)
{
    char                     *to;
    size_t                    size, k;
    uint32_t                  i;
    webtorch_text_t          *string;
    const webtorch_schema_t  *schema;

    schema = x->schema;

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        size = ngx_webtorch_buffer_row_size(schema, i, batch->sizes);

        if (size == 0) {
            continue;
        }

        to = (char *) batch->inputs[i] + batch->rows * size;
        memcpy(to, x->rows[i], x->layout.rows * size);

        if (!ngx_webtorch_is_string(schema->inputs[i].dtype)) {
            continue;
        }

        string = (webtorch_text_t *) to;

        for (k = 0; k < x->layout.rows * size / sizeof(webtorch_text_t); k++) {
            string[k].at += batch->text_len;
        }
    }

    if (x->layout.text) {
        memcpy(batch->text + batch->text_len, x->text, x->layout.text);
    }

    batch->rows += x->layout.rows;
    batch->text_len += x->layout.text;
}


int
ngx_webtorch_exchange_encode(ngx_webtorch_exchange_t *x,
    const webtorch_batch_t *batch, const webtorch_job_t *job,
    webtorch_message_t *answer)
{
    static const char  none[1];

    uint32_t                          i;
    const void                       *data[WEBTORCH_MAX_TENSORS];
    webtorch_spec_t                   specs[WEBTORCH_MAX_TENSORS];
    ngx_webtorch_exchange_tensors_t   tensors;

    for (i = 0; i < x->schema->noutputs; i++) {
        ngx_webtorch_resolve(&specs[i], &x->schema->outputs[i], batch->sizes);

        data[i] = batch->outputs[i]
                  ? (char *) batch->outputs[i]
                    + job->first * (size_t) specs[i].row_size
                  : none;
    }

    memcpy(x->layout.sizes, batch->sizes, sizeof(batch->sizes));

    tensors.specs = specs;
    tensors.n = x->schema->noutputs;
    tensors.data = data;
    tensors.layout = &x->layout;
    tensors.codec = x->formats.out;

    answer->shape.data = NULL;

    if (tensors.codec->shapeless && (x->schema->naxes || x->layout.shape)) {
        answer->shape.data = x->answer_shape;
        answer->shape.len = (size_t) (ngx_webtorch_write_sizes(x->answer_shape,
                                                               &specs[0],
                                                               &x->layout)
                                      - x->answer_shape);
    }

    return ngx_webtorch_exchange_write(x, &tensors, answer);
}


int
ngx_webtorch_exchange_encode_reply(ngx_webtorch_exchange_t *x,
    const webtorch_reply_t *reply, webtorch_message_t *answer)
{
    const void                       *data;
    ngx_webtorch_layout_t             layout;
    ngx_webtorch_exchange_tensors_t   tensors;

    memset(&layout, 0, sizeof(ngx_webtorch_layout_t));

    layout.rows = 1;
    layout.single = 1;

    data = reply->body.data;

    tensors.specs = &reply->tensor;
    tensors.n = 1;
    tensors.data = &data;
    tensors.layout = &layout;
    tensors.codec = x->formats.out;

    if (reply->content_type.len) {
        tensors.codec = ngx_webtorch_codec_by_type(reply->content_type.data,
                                                   reply->content_type.len);
        if (tensors.codec == NULL) {
            x->err.status = 0;
            return -1;
        }
    }

    if (tensors.codec == NULL) {
        return ngx_webtorch_error(&x->err, 406, "not_acceptable",
                                  "no format in the header \"Accept\" is "
                                  "known: accept application/json");
    }

    answer->shape.data = NULL;

    return ngx_webtorch_exchange_write(x, &tensors, answer);
}


static int
ngx_webtorch_exchange_write(ngx_webtorch_exchange_t *x,
    ngx_webtorch_exchange_tensors_t *tensors, webtorch_message_t *answer)
{
    char      *end;
    uint32_t   i;

    tensors->layout->text = 0;

    for (i = 0; i < tensors->n; i++) {
        tensors->layout->text += ngx_webtorch_text_size(&tensors->specs[i],
                                                        tensors->data[i],
                                                        tensors->layout->rows);
    }

    free(x->answer);

    x->answer = malloc(ngx_webtorch_codec_bound(tensors->codec, tensors->specs,
                                                tensors->n, tensors->layout)
                       + 1);
    if (x->answer == NULL) {
        return ngx_webtorch_exchange_no_memory(&x->err);
    }

    end = ngx_webtorch_codec_encode(tensors->codec, x->answer, tensors->specs,
                                    tensors->n, tensors->data, tensors->layout);

    answer->content_type.data = (char *) tensors->codec->types[0];
    answer->content_type.len = strlen(tensors->codec->types[0]);
    answer->body.data = x->answer;
    answer->body.len = (size_t) (end - x->answer);

    return 0;
}
