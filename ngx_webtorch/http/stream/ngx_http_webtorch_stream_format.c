
#include "ngx_http_webtorch_stream_format.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"


typedef struct {
    ngx_str_t                    type;
    ngx_http_webtorch_payload_e  payload;
    ngx_http_webtorch_framing_e  framing;
    ngx_uint_t                   answer;  /* of answers alone */
} ngx_http_webtorch_stream_format_t;


static ngx_http_webtorch_stream_format_t  ngx_http_webtorch_stream_formats[] = {

    { ngx_string("application/x-ndjson"),
      NGX_HTTP_WEBTORCH_PAYLOAD_JSON, NGX_HTTP_WEBTORCH_FRAMING_LINES, 0 },

    { ngx_string("application/ndjson"),
      NGX_HTTP_WEBTORCH_PAYLOAD_JSON, NGX_HTTP_WEBTORCH_FRAMING_LINES, 0 },

    { ngx_string("application/jsonl"),
      NGX_HTTP_WEBTORCH_PAYLOAD_JSON, NGX_HTTP_WEBTORCH_FRAMING_LINES, 0 },

    { ngx_string("application/octet-stream"),
      NGX_HTTP_WEBTORCH_PAYLOAD_RAW, NGX_HTTP_WEBTORCH_FRAMING_NONE, 0 },

    { ngx_string("text/plain"),
      NGX_HTTP_WEBTORCH_PAYLOAD_TEXT, NGX_HTTP_WEBTORCH_FRAMING_LINES, 0 },

    { ngx_string("text/event-stream"),
      NGX_HTTP_WEBTORCH_PAYLOAD_JSON, NGX_HTTP_WEBTORCH_FRAMING_SSE, 1 },

    { ngx_null_string, 0, 0, 0 }
};


static ngx_http_webtorch_stream_format_t  ngx_http_webtorch_stream_document = {
    ngx_string("application/json"),
    NGX_HTTP_WEBTORCH_PAYLOAD_JSON, NGX_HTTP_WEBTORCH_FRAMING_WHOLE, 1
};


static ngx_int_t ngx_http_webtorch_stream_choose(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st, ngx_http_webtorch_stream_format_t *own,
    const char *refusal);
static ngx_http_webtorch_stream_format_t *ngx_http_webtorch_stream_find(
    u_char *type, size_t len);
static ngx_http_webtorch_stream_format_t *ngx_http_webtorch_stream_accepted(
    ngx_http_webtorch_stream_t *st, ngx_str_t *accept,
    ngx_http_webtorch_stream_format_t *own);
static ngx_uint_t ngx_http_webtorch_stream_gives(
    ngx_http_webtorch_stream_t *st, ngx_http_webtorch_stream_format_t *format);


ngx_int_t
ngx_http_webtorch_stream_negotiate(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st)
{
    ngx_str_t                          *value;
    ngx_http_webtorch_stream_format_t  *in, *out;

    in = ngx_http_webtorch_stream_formats;

    if (r->headers_in.content_type) {
        value = &r->headers_in.content_type->value;
        in = ngx_http_webtorch_stream_find(value->data, value->len);
    }

    if (in == NULL || in->answer) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                   "unsupported_media_type",
                   "unknown content type of a stream: send "
                   "application/x-ndjson, a row of JSON in each line, or "
                   "application/octet-stream, rows of a single tensor");
    }

    if ((in->payload == NGX_HTTP_WEBTORCH_PAYLOAD_RAW
         && !ngx_http_webtorch_stream_takes_raw(st))
        || (in->payload == NGX_HTTP_WEBTORCH_PAYLOAD_TEXT
            && !ngx_http_webtorch_stream_takes_text(st)))
    {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                   "unsupported_media_type",
                   "this format does not carry the tensors of this stream: "
                   "send application/x-ndjson");
    }

    st->payload = in->payload;
    st->framing = in->framing;
    st->row_size = (size_t) st->conf->wire.inputs[0].row_size;

    out = ngx_http_webtorch_stream_gives(st, in)
              ? in : ngx_http_webtorch_stream_formats;

    return ngx_http_webtorch_stream_choose(r, st, out,
               "no format in the header \"Accept\" is one of this stream: "
               "accept application/x-ndjson or text/event-stream");
}


ngx_int_t
ngx_http_webtorch_stream_negotiate_answer(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st)
{
    return ngx_http_webtorch_stream_choose(r, st,
               &ngx_http_webtorch_stream_document,
               "no format in the header \"Accept\" is one of this stream: "
               "accept application/json, application/x-ndjson or "
               "text/event-stream");
}


/* the answer's format, by Accept or the request's own */

static ngx_int_t
ngx_http_webtorch_stream_choose(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st, ngx_http_webtorch_stream_format_t *own,
    const char *refusal)
{
    ngx_int_t                           rc;
    ngx_str_t                           accept;
    ngx_http_webtorch_stream_format_t  *out;

    out = own;

    rc = ngx_http_webtorch_join_headers(r, "accept", &accept);

    if (rc == NGX_ERROR || ngx_http_webtorch_add_vary(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_OK && accept.len) {
        out = ngx_http_webtorch_stream_accepted(st, &accept, own);
    }

    if (out == NULL) {
        return ngx_http_webtorch_refuse(r, 406, "not_acceptable", refusal);
    }

    st->out_payload = out->payload;
    st->out_framing = out->framing;

    ngx_http_webtorch_set_type(r, &out->type);

    return NGX_DECLINED;
}


/* parameters are ignored; JSON by itself is a line */

static ngx_http_webtorch_stream_format_t *
ngx_http_webtorch_stream_find(u_char *type, size_t len)
{
    ngx_http_webtorch_stream_format_t  *format;

    len = ngx_webtorch_type_len((char *) type, len);

    if (len == sizeof("application/json") - 1
        && ngx_strncasecmp(type, (u_char *) "application/json", len) == 0)
    {
        return ngx_http_webtorch_stream_formats;
    }

    for (format = ngx_http_webtorch_stream_formats; format->type.len; format++)
    {
        if (format->type.len == len
            && ngx_strncasecmp(format->type.data, type, len) == 0)
        {
            return format;
        }
    }

    return NULL;
}


/* the first one of the highest quality; the request's own for a wildcard */

static ngx_http_webtorch_stream_format_t *
ngx_http_webtorch_stream_accepted(ngx_http_webtorch_stream_t *st,
    ngx_str_t *accept, ngx_http_webtorch_stream_format_t *own)
{
    size_t                              len;
    u_char                             *p, *end, *last;
    ngx_uint_t                          q, best;
    ngx_http_webtorch_stream_format_t  *format, *found;

    best = 0;
    found = NULL;
    last = accept->data + accept->len;

    for (p = accept->data; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, ',');

        if (end == NULL) {
            end = last;
        }

        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }

        q = ngx_webtorch_range_quality((char *) p, (char *) end);

        if (q <= best) {
            continue;
        }

        len = ngx_webtorch_type_len((char *) p, (size_t) (end - p));

        if (len == 3 && ngx_strncmp(p, "*/*", 3) == 0) {
            format = own;

        } else if (own->framing == NGX_HTTP_WEBTORCH_FRAMING_WHOLE
                   && len == own->type.len
                   && ngx_strncasecmp(p, own->type.data, len) == 0)
        {
            format = own;

        } else {
            format = ngx_http_webtorch_stream_find(p, len);
        }

        if (format && ngx_http_webtorch_stream_gives(st, format)) {
            best = q;
            found = format;
        }
    }

    return found;
}


static ngx_uint_t
ngx_http_webtorch_stream_gives(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_stream_format_t *format)
{
    switch (format->payload) {

    case NGX_HTTP_WEBTORCH_PAYLOAD_RAW:
        return ngx_http_webtorch_stream_gives_raw(st);

    case NGX_HTTP_WEBTORCH_PAYLOAD_TEXT:
        return ngx_http_webtorch_stream_gives_text(st);

    default:
        return 1;
    }
}


ngx_uint_t
ngx_http_webtorch_stream_takes_raw(ngx_http_webtorch_stream_t *st)
{
    webtorch_schema_t  *wire;

    wire = &st->conf->wire;

    return wire->ninputs == 1 && wire->naxes == 0 && wire->input_strings == 0;
}


ngx_uint_t
ngx_http_webtorch_stream_takes_text(ngx_http_webtorch_stream_t *st)
{
    webtorch_schema_t  *wire;

    wire = &st->conf->wire;

    return wire->ninputs == 1 && wire->input_strings == 1
           && wire->inputs[0].ndim == 0;
}


ngx_uint_t
ngx_http_webtorch_stream_gives_raw(ngx_http_webtorch_stream_t *st)
{
    webtorch_schema_t  *wire;

    wire = &st->conf->wire;

    return wire->noutputs == 1 && wire->naxes == 0
           && wire->output_strings == 0;
}


ngx_uint_t
ngx_http_webtorch_stream_gives_text(ngx_http_webtorch_stream_t *st)
{
    webtorch_schema_t  *wire;

    wire = &st->conf->wire;

    return wire->noutputs == 1 && wire->output_strings == 1
           && wire->outputs[0].ndim == 0;
}
