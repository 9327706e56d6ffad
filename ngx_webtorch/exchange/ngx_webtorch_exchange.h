
/*
 * Requests of functions without a server, for Python's webtorch.testing: a body
 * becomes rows, the rows of several requests become a batch, and its outputs
 * become answers.  nginx itself does not use it.
 *
 * Between the two "cdef" marks the text is also cffi's cdef, after that of
 * ngx_webtorch_api.h.
 */


#ifndef _NGX_WEBTORCH_EXCHANGE_H_INCLUDED_
#define _NGX_WEBTORCH_EXCHANGE_H_INCLUDED_


#include "ngx_webtorch_formats.h"


/* cdef: begin */

typedef struct ngx_webtorch_exchange_s  ngx_webtorch_exchange_t;


/* request and response headers; data NULL: the header is absent */

typedef struct {
    webtorch_str_t   content_type;
    webtorch_str_t   accept;
    webtorch_str_t   shape;               /* Tensor-Shape */
    webtorch_str_t   body;
    uint64_t         limit;               /* bytes that it may inflate to */
} webtorch_message_t;


typedef struct {
    int32_t          status;
    const char      *code;
    const char      *text;
} webtorch_error_t;


/* sizes of structures, by which Python recognizes a library of another version */
uint64_t ngx_webtorch_exchange_layout(void);

/*
 * Makes an exchange for a request of a function; NULL: no memory.  The schema
 * must stay as it is until the exchange is freed.
 */
ngx_webtorch_exchange_t *ngx_webtorch_exchange_create(const webtorch_schema_t *schema);
void ngx_webtorch_exchange_free(ngx_webtorch_exchange_t *x);

/* chooses the formats and decodes the body; -1: there is an error */
int ngx_webtorch_exchange_decode(ngx_webtorch_exchange_t *x, const webtorch_message_t *request);

/* chooses the format of the answer of a function of requests */
void ngx_webtorch_exchange_negotiate(ngx_webtorch_exchange_t *x, const webtorch_message_t *request);

void ngx_webtorch_exchange_get_error(const ngx_webtorch_exchange_t *x, webtorch_error_t *error);

/* returns 1 if the rows of both can be in a batch */
int ngx_webtorch_exchange_alike(const ngx_webtorch_exchange_t *x, const ngx_webtorch_exchange_t *other);

/*
 * Copies the rows of n requests into a batch with as many jobs, which begins as
 * zeros but for the jobs; -1: no memory.  The inputs belong to Python then, the
 * text is to be freed with ngx_webtorch_buffer_free().
 */
int ngx_webtorch_exchange_join(ngx_webtorch_exchange_t **x, uint32_t n, webtorch_batch_t *batch);

/* encodes the outputs of a job; -1: no memory */
int ngx_webtorch_exchange_encode(ngx_webtorch_exchange_t *x, const webtorch_batch_t *batch, const webtorch_job_t *job, webtorch_message_t *answer);

/*
 * Encodes the tensor of a reply; the answer belongs to the exchange.  -1: it
 * has another type than that of a format of tensors, or there is an error.
 */
int ngx_webtorch_exchange_encode_reply(ngx_webtorch_exchange_t *x, const webtorch_reply_t *reply, webtorch_message_t *answer);

/* the code of an error that a function has raised without one; NULL: none */
const char *ngx_webtorch_status_code(int status);

/* cdef: end */


#endif /* _NGX_WEBTORCH_EXCHANGE_H_INCLUDED_ */
