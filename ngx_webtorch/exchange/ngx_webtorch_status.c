
#include "ngx_webtorch_status.h"

#include <stddef.h>


/*
 * nginx's own errors, and the codes of those that handlers raise without one;
 * the first entry is for all others.
 */

static const ngx_webtorch_status_t  ngx_webtorch_statuses[] = {
    { 0, "error", "the request failed" },
    { 400, "bad_request", "the request is malformed" },
    { 401, "unauthorized", "credentials are missing or wrong" },
    { 402, "payment_required", "a payment is required" },
    { 403, "forbidden", "access is denied" },
    { 404, "not_found", "there is nothing at this address" },
    { 405, "method_not_allowed", "the method is not allowed here" },
    { 406, "not_acceptable",
      "there is no answer in a format that the client accepts" },
    { 408, "request_timeout", "the request took too long" },
    { 409, "conflict", "the request conflicts with what is there already" },
    { 410, "gone", "what was at this address is gone" },
    { 411, "length_required", "the length of the body is missing" },
    { 412, "precondition_failed",
      "the precondition in the request's headers is false" },
    { 413, "too_large",
      "the body is larger than \"client_max_body_size\" allows" },
    { 414, "uri_too_long", "the address is too long" },
    { 415, "unsupported_media_type",
      "the format of the body is not supported" },
    { 416, "range_not_satisfiable", "the file does not have this range" },
    { 421, "misdirected_request",
      "this server is not the one of the request's host" },
    { 422, "unprocessable_content", "the content of the request is not valid" },
    { 423, "locked", "what is at this address is locked" },
    { 425, "too_early",
      "the request was sent before the handshake was complete" },
    { 428, "precondition_required", "the request must have a precondition" },
    { 429, "too_many_requests", "the client sends too many requests" },
    { 431, "headers_too_large", "the headers of the request are too large" },
    { 451, "unavailable_for_legal_reasons", "the law forbids access" },
    { 500, "internal_error", "the server failed, see its error log" },
    { 501, "not_implemented", "the server does not implement this" },
    { 502, "bad_gateway", "the server behind this one failed" },
    { 503, "unavailable", "the server is busy" },
    { 504, "timeout", "the server did not answer in time" },
};


const ngx_webtorch_status_t *
ngx_webtorch_status_find(int status)
{
    size_t  i;

    for (i = 1; i < sizeof(ngx_webtorch_statuses)
                    / sizeof(ngx_webtorch_status_t); i++)
    {
        if (ngx_webtorch_statuses[i].status == status) {
            return &ngx_webtorch_statuses[i];
        }
    }

    return &ngx_webtorch_statuses[0];
}


const char *
ngx_webtorch_status_code(int status)
{
    const ngx_webtorch_status_t  *found;

    /* the text of the status would say that nginx itself failed */

    if (status == 500) {
        return NULL;
    }

    /* nor did nginx wait in vain */

    if (status == 504) {
        return "gateway_timeout";
    }

    found = ngx_webtorch_status_find(status);

    return (found == ngx_webtorch_statuses) ? NULL : found->code;
}
