
/*
 * @webtorch.handler: sends its reply, which is bytes, a tensor or a file.
 */

#include "ngx_http_webtorch_reply.h"
#include "ngx_http_webtorch_accel.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_send.h"


static ngx_int_t ngx_http_webtorch_send_reply_bytes(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply);
static ngx_int_t ngx_http_webtorch_send_reply_tensor(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply);
static ngx_int_t ngx_http_webtorch_send_reply_file(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply);
static ngx_int_t ngx_http_webtorch_open_file(ngx_http_request_t *r,
    ngx_str_t *path, ngx_open_file_info_t *of);
static ngx_str_t ngx_http_webtorch_extension(ngx_str_t *path);
static ngx_int_t ngx_http_webtorch_reply_failed(ngx_http_request_t *r);


ngx_int_t
ngx_http_webtorch_send_reply(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply)
{
    ngx_int_t                        rc;
    ngx_http_webtorch_header_mark_t  mark;

    ngx_http_webtorch_mark_headers(r, &mark);

    if (reply->redirect.len) {
        rc = ngx_http_webtorch_accel_redirect(r, reply);

    } else if (reply->tensor.ndim >= 0) {
        rc = ngx_http_webtorch_send_reply_tensor(r, ctx, reply);

    } else if (reply->file.len) {
        rc = ngx_http_webtorch_send_reply_file(r, ctx, reply);

    } else {
        rc = ngx_http_webtorch_send_reply_bytes(r, ctx, reply);
    }

    /* nginx answers with an error instead */

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        rc = ngx_http_webtorch_replace_headers(r, rc, &mark, reply->headers,
                                               reply->nheaders);
    }

    return rc;
}


/* called when the answer is known to be the handler's, not an error */

ngx_int_t
ngx_http_webtorch_add_reply_headers(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply)
{
    uint32_t   i;
    ngx_int_t  rc;
    ngx_str_t  name, value;

    for (i = 0; i < reply->nheaders; i++) {
        ngx_http_webtorch_get_str(&name, &reply->headers[i].name);
        ngx_http_webtorch_get_str(&value, &reply->headers[i].value);

        rc = ngx_http_webtorch_accel_header(r, &name, &value);

        if (rc == NGX_DECLINED) {
            rc = ngx_http_webtorch_add_header(r, &name, &value);
        }

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ctx->conditional = (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))
                       && (reply->file.len
                           || r->headers_out.etag
                           || r->headers_out.last_modified);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_send_reply_bytes(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply)
{
    ngx_str_t  type;

    if (ngx_http_webtorch_add_reply_headers(r, ctx, reply) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_webtorch_get_str(&type, &reply->content_type);

    return ngx_http_webtorch_send(r, reply->status, &type,
                                  (u_char *) reply->body.data,
                                  reply->body.len);
}


/* a handler's tensor has no batch axis */

static ngx_int_t
ngx_http_webtorch_send_reply_tensor(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply)
{
    ngx_str_t                     text;
    const void                   *data;
    ngx_webtorch_layout_t         layout;
    ngx_http_webtorch_tensors_t   tensors;
    const ngx_webtorch_codec_t   *codec;

    codec = ctx->formats.out;

    if (reply->content_type.len) {
        codec = ngx_webtorch_codec_by_type(reply->content_type.data,
                                           reply->content_type.len);

        if (codec == NULL) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "webtorch: a handler answered with a tensor as "
                          "\"%*s\", which is not a format of tensors",
                          reply->content_type.len, reply->content_type.data);

            return ngx_http_webtorch_reply_failed(r);
        }

    } else if (ngx_http_webtorch_add_vary(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (codec == NULL) {
        ngx_str_set(&text, "no format in the header \"Accept\" is known: "
                           "accept application/json");
        return ngx_http_webtorch_error(r, 406, "not_acceptable", &text);
    }

    if (ngx_http_webtorch_add_reply_headers(r, ctx, reply) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&layout, sizeof(ngx_webtorch_layout_t));

    layout.rows = 1;
    layout.single = 1;

    data = reply->body.data;

    tensors.status = reply->status;
    tensors.codec = codec;
    tensors.specs = &reply->tensor;
    tensors.n = 1;
    tensors.data = &data;
    tensors.layout = &layout;
    tensors.batch = NULL;

    return ngx_http_webtorch_send_tensors(r, &tensors);
}


/* like ngx_http_static_handler(): cached, by sendfile(), with ranges */

static ngx_int_t
ngx_http_webtorch_send_reply_file(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply)
{
    ngx_int_t              rc;
    ngx_str_t              path, type;
    ngx_buf_t             *b;
    ngx_chain_t            out;
    ngx_open_file_info_t   of;

    ngx_http_webtorch_get_str(&path, &reply->file);

    rc = ngx_http_webtorch_open_file(r, &path, &of);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ngx_http_webtorch_add_reply_headers(r, ctx, reply) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->file = ngx_pcalloc(r->pool, sizeof(ngx_file_t));
    if (b->file == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->file_last = of.size;
    b->in_file = (of.size != 0);

    b->file->fd = of.fd;
    b->file->name = path;
    b->file->log = r->connection->log;
    b->file->directio = of.is_directio;

    ngx_http_webtorch_get_str(&type, &reply->content_type);

    if (type.len == 0) {
        /* by the extension of the file, not of the request */

        r->exten = ngx_http_webtorch_extension(&path);

        if (ngx_http_set_content_type(r) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        type = r->headers_out.content_type;
    }

    r->headers_out.last_modified_time = of.mtime;
    r->headers_out.content_length_n = of.size;

    if (r->headers_out.etag == NULL && ngx_http_set_etag(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* the filter does not check the method */

    r->allow_ranges = (ctx->conditional && reply->status == NGX_HTTP_OK);

    out.buf = b;
    out.next = NULL;

    return ngx_http_webtorch_send_chain(r, reply->status, &type, &out,
                                        (size_t) of.size);
}


/* NGX_DECLINED: it is open; else the error is answered */

static ngx_int_t
ngx_http_webtorch_open_file(ngx_http_request_t *r, ngx_str_t *path,
    ngx_open_file_info_t *of)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ngx_memzero(of, sizeof(ngx_open_file_info_t));

    of->read_ahead = clcf->read_ahead;
    of->directio = clcf->directio;
    of->valid = clcf->open_file_cache_valid;
    of->min_uses = clcf->open_file_cache_min_uses;
    of->errors = clcf->open_file_cache_errors;
    of->events = clcf->open_file_cache_events;

    if (ngx_http_set_disable_symlinks(r, clcf, path, of) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_open_cached_file(clcf->open_file_cache, path, of, r->pool)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, of->err,
                      "webtorch: a handler answered with a file, "
                      "%s \"%V\" failed",
                      of->failed ? of->failed : "open()", path);

#if (NGX_HAVE_OPENAT)
        /* ENOTDIR: a link that leads to a directory */

        if (of->disable_symlinks
            && (of->err == NGX_ELOOP || of->err == NGX_EMLINK
                || of->err == NGX_ENOTDIR))
        {
            return ngx_http_webtorch_refuse(r, NGX_HTTP_FORBIDDEN, "forbidden",
                                            "access is denied");
        }
#endif

        return ngx_http_webtorch_reply_failed(r);
    }

    if (!of->is_file) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "webtorch: a handler answered with a file, "
                      "\"%V\" is not a regular file", path);

        return ngx_http_webtorch_reply_failed(r);
    }

    return NGX_DECLINED;
}


static ngx_str_t
ngx_http_webtorch_extension(ngx_str_t *path)
{
    u_char     *p, *last;
    ngx_str_t   exten;

    last = path->data + path->len;

    ngx_str_null(&exten);

    for (p = last; p > path->data && p[-1] != '/'; p--) {
        if (p[-1] == '.') {
            exten.data = p;
            exten.len = last - p;
            break;
        }
    }

    return exten;
}


/* the reason is in the log */

static ngx_int_t
ngx_http_webtorch_reply_failed(ngx_http_request_t *r)
{
    ngx_str_t  text;

    ngx_str_set(&text, "the handler failed, see the error log");

    return ngx_http_webtorch_error(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                   "handler_failed", &text);
}
