
/*
 * Files as rows, for functions of one tensor of bytes: the body is a row, or
 * each file of a form is one.
 */

#include "ngx_webtorch_codec_file.h"
#include "ngx_webtorch_gaps.h"
#include "ngx_webtorch_multipart.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>


typedef struct {
    const char   *data;
    size_t        len;
} ngx_webtorch_file_t;


typedef struct {
    uint32_t              n;
    ngx_webtorch_file_t   elts[WEBTORCH_MAX_PARTS];
} ngx_webtorch_files_t;


static int ngx_webtorch_files_read(const ngx_webtorch_files_t *files,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static int ngx_webtorch_file_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static int ngx_webtorch_files_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);


const ngx_webtorch_codec_t  ngx_webtorch_codec_file = {
    .name = "file",
    .types = { "image/*", "audio/*", "video/*" },
    .strings = 1,
    .decode = ngx_webtorch_file_decode
};


const ngx_webtorch_codec_t  ngx_webtorch_codec_files = {
    .name = "form",
    .types = { "multipart/form-data" },
    .strings = 1,
    .decode = ngx_webtorch_files_decode
};


int
ngx_webtorch_codec_takes_files(const webtorch_schema_t *schema)
{
    return schema->ninputs == 1
           && schema->batched
           && schema->inputs[0].dtype == WEBTORCH_BYTES
           && schema->inputs[0].ndim == 0;
}


const ngx_webtorch_codec_t *
ngx_webtorch_codec_of_files(const char *type, size_t len)
{
    size_t                       n;
    unsigned                     i;
    const ngx_webtorch_codec_t  *codec;

    if (ngx_webtorch_multipart_is_form(type, len)) {
        return &ngx_webtorch_codec_files;
    }

    codec = &ngx_webtorch_codec_file;

    for (i = 0; i < NGX_WEBTORCH_MAX_TYPES; i++) {
        n = strlen(codec->types[i]) - 1;

        if (len > n && strncasecmp(codec->types[i], type, n) == 0) {
            return codec;
        }
    }

    return (ngx_webtorch_codec_by_type(type, len) == &ngx_webtorch_codec_raw)
           ? codec : NULL;
}


static int
ngx_webtorch_files_read(const ngx_webtorch_files_t *files,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    uint32_t                    i;
    webtorch_text_t            *row;
    const ngx_webtorch_file_t  *file;

    ngx_webtorch_unbind(schema, layout);

    layout->rows = files->n;
    layout->named = 0;
    layout->text = 0;

    for (i = 0; i < files->n; i++) {
        layout->text += files->elts[i].len;
    }

    if (ngx_webtorch_gaps_reserve(schema, sink, layout, err) != 0) {
        return -1;
    }

    row = sink->data[0];

    for (i = 0; i < files->n; i++) {
        file = &files->elts[i];

        row[i].at = sink->at;
        row[i].len = file->len;

        if (file->len) {
            memcpy(sink->text, file->data, file->len);
            sink->text += file->len;
            sink->at += file->len;
        }
    }

    return 0;
}


static int
ngx_webtorch_file_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    ngx_webtorch_files_t  files;

    files.n = 1;
    files.elts[0].data = body;
    files.elts[0].len = len;

    layout->single = 1;

    return ngx_webtorch_files_read(&files, schema, sink, layout, err);
}


/* a browser sends an input without a chosen file as a file without a name */

static int
ngx_webtorch_files_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    int                    rc;
    webtorch_form_t        form;
    webtorch_part_t        part;
    ngx_webtorch_file_t   *file;
    ngx_webtorch_files_t   files;

    if (ngx_webtorch_multipart_open(&form, layout->type, layout->type_len,
                                    body, len, err)
        != 0)
    {
        return -1;
    }

    files.n = 0;

    for ( ;; ) {
        rc = ngx_webtorch_multipart_next(&form, &part, err);

        if (rc == -1) {
            return -1;
        }

        if (rc == 0) {
            break;
        }

        if (part.is_file && (part.filename.len || part.data.len)) {
            file = &files.elts[files.n++];
            file->data = body + part.data.at;
            file->len = (size_t) part.data.len;
        }
    }

    if (files.n == 0) {
        return ngx_webtorch_error(err, 422, "missing_file",
                   "the form has no file, but %" PRIu32 " fields or inputs "
                   "without a chosen file; with curl, send "
                   "-F file=@picture.jpg", form.nparts);
    }

    layout->single = 0;

    return ngx_webtorch_files_read(&files, schema, sink, layout, err);
}
