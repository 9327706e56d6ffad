
#include "ngx_webtorch_formats.h"
#include "ngx_webtorch_codec_file.h"
#include "ngx_webtorch_hint.h"


static int ngx_webtorch_formats_refuse(ngx_webtorch_error_t *err,
    const webtorch_schema_t *schema, const char *text);
static void ngx_webtorch_formats_append(ngx_webtorch_error_t *err, uint32_t n,
    uint32_t strings);


int
ngx_webtorch_formats_choose_in(ngx_webtorch_formats_t *formats,
    const webtorch_schema_t *schema, const webtorch_str_t *type,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    formats->in = &ngx_webtorch_codec_json;

    if (type == NULL) {
        return 0;
    }

    if (ngx_webtorch_codec_takes_files(schema)) {
        formats->in = ngx_webtorch_codec_of_files(type->data, type->len);

        if (formats->in) {
            layout->type = type->data;
            layout->type_len = type->len;
            return 0;
        }
    }

    formats->in = ngx_webtorch_codec_by_type(type->data, type->len);

    if (schema->kind == WEBTORCH_HANDLER) {
        formats->in = formats->in ? formats->in : &ngx_webtorch_codec_json;
        return 0;
    }

    if (formats->in == NULL) {
        return ngx_webtorch_formats_refuse(err, schema,
                   ngx_webtorch_codec_takes_files(schema)
                   ? "unknown content type: send a file with its own type or "
                     "in a form, as curl -F file=@name does; known are "
                   : schema->input_strings
                   ? "unknown content type: send application/json; known are "
                   : "unknown content type: send application/json, or "
                     "text/plain for Torch7's serialization; known are ");
    }

    /* a browser sends JSON as text/plain, if nothing else is set */

    if (formats->in == &ngx_webtorch_codec_torch7) {
        return 0;
    }

    if (schema->input_strings && !formats->in->strings) {
        return ngx_webtorch_formats_refuse(err, schema,
                   "this format carries no strings: send application/json; "
                   "known are ");
    }

    return 0;
}


void
ngx_webtorch_formats_choose_out(ngx_webtorch_formats_t *formats,
    const webtorch_schema_t *schema, const char *accept, size_t len)
{
    const ngx_webtorch_codec_t  *own;

    /* answers are not files */

    own = (formats->in == &ngx_webtorch_codec_file
           || formats->in == &ngx_webtorch_codec_files)
          ? &ngx_webtorch_codec_json : formats->in;

    formats->out = ngx_webtorch_codec_by_accept(accept, len, own,
                                                schema->noutputs,
                                                schema->output_strings);

    if (formats->in == &ngx_webtorch_codec_torch7) {
        formats->json_out = ngx_webtorch_codec_by_accept(accept, len,
                                                     &ngx_webtorch_codec_json,
                                                     schema->noutputs,
                                                     schema->output_strings);
    }
}


int
ngx_webtorch_formats_not_acceptable(const webtorch_schema_t *schema,
    ngx_webtorch_error_t *err)
{
    (void) ngx_webtorch_error(err, 406, "not_acceptable",
               "no format in the header \"Accept\" is known: "
               "accept application/json; known are ");

    ngx_webtorch_formats_append(err, schema->noutputs, schema->output_strings);

    return -1;
}


int
ngx_webtorch_formats_bad_shape(ngx_webtorch_error_t *err)
{
    return ngx_webtorch_error(err, 400, "malformed_body",
               "the header \"Tensor-Shape\" is not a shape like \"2,17\"");
}


int
ngx_webtorch_formats_no_files(ngx_webtorch_error_t *err)
{
    return ngx_webtorch_error(err, 415, "unsupported_media_type",
               "files of torch.save() are taken only where the directive "
               "\"webtorch_torch_load\" allows it: send "
               "application/vnd.safetensors");
}


int
ngx_webtorch_formats_empty(ngx_webtorch_error_t *err)
{
    return ngx_webtorch_error(err, 400, "empty_body",
                              "the body is empty, tensors are expected");
}


/* text: followed by the formats that can hold the inputs */

static int
ngx_webtorch_formats_refuse(ngx_webtorch_error_t *err,
    const webtorch_schema_t *schema, const char *text)
{
    (void) ngx_webtorch_error(err, 415, "unsupported_media_type", "%s", text);

    ngx_webtorch_formats_append(err, schema->ninputs, schema->input_strings);

    if (ngx_webtorch_codec_takes_files(schema)) {
        ngx_webtorch_error_append(err,
                                  ", multipart/form-data, image/*, audio/*, "
                                  "video/*, application/octet-stream");
    }

    return -1;
}


/* adds the formats that can hold n tensors */

static void
ngx_webtorch_formats_append(ngx_webtorch_error_t *err, uint32_t n,
    uint32_t strings)
{
    const char                         *separator;
    const ngx_webtorch_codec_t  *const *codec;

    separator = "";

    for (codec = ngx_webtorch_codecs; *codec; codec++) {

        if (ngx_webtorch_codec_holds(*codec, n, strings)) {
            ngx_webtorch_error_append(err, "%s%s", separator,
                                      (*codec)->types[0]);
            separator = ", ";
        }
    }
}


int
ngx_webtorch_formats_decode(ngx_webtorch_formats_t *formats,
    const webtorch_str_t *body, const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    if (formats->in == &ngx_webtorch_codec_torch7) {

        if (ngx_webtorch_hint_is_json(body->data, body->len)) {
            formats->in = &ngx_webtorch_codec_json;
            formats->out = formats->json_out;

        } else if (schema->input_strings) {
            return ngx_webtorch_error(err, 415, "unsupported_media_type",
                       "text/plain is JSON or Torch7's serialization, which "
                       "carries no strings: send application/json");
        }
    }

    if (formats->in->decode(body->data, body->len, schema, sink, layout, err)
        == 0)
    {
        return 0;
    }

    ngx_webtorch_hint_format(err, formats->in, body->data, body->len);

    return -1;
}


int
ngx_webtorch_formats_check_finite(const webtorch_schema_t *schema,
    const ngx_webtorch_sink_t *sink, const ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    int                     missing, good;
    uint32_t                i;
    uint64_t                n;
    const webtorch_spec_t  *spec;

    if (schema->kind != WEBTORCH_TRAIN) {
        return 0;
    }

    for (i = 0; i < schema->ninputs; i++) {
        spec = &schema->inputs[i];

        n = layout->rows * ngx_webtorch_buffer_row_size(schema, i,
                                                        layout->sizes)
            / ngx_webtorch_dtypes[spec->dtype].size;

        /* NaN is a missing element there */

        missing = (schema->gaps[i].flags & WEBTORCH_MISSING) != 0;

        good = missing ? ngx_webtorch_not_infinite(spec->dtype, sink->data[i],
                                                   n)
                       : ngx_webtorch_finite(spec->dtype, sink->data[i], n);

        if (!good) {
            return ngx_webtorch_error(err, 422, "not_finite",
                       "tensor \"%s\": %s cannot be trained on", spec->name,
                       missing ? "infinities" : "NaN and infinities");
        }
    }

    return 0;
}
