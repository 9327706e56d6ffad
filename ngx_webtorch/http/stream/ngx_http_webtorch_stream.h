
/*
 * http/stream: a connection whose chunks are rows, each of which is answered as
 * it comes.  The files from the bottom to the top: handshake, account, table,
 * deflate, row, output, encode, input, resume, decode, chunk, format, head,
 * pump, ping, turn, document, upkeep, http, websocket, content, generator,
 * generate, generate_protocol, option, conf.
 *
 * A chunk is a job of the handler's runner, so that rows of all streams that
 * are ready are one call.  A stream has one chunk in a call at a time.  Beside
 * its tensors a row has the rows of the stream's states to read from and to
 * write to, see python/webtorch/_streams/streams.py.  With "resume" the states are in
 * the zone instead, and are themselves inputs and outputs of a chunk.
 */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_H_INCLUDED_


#include "ngx_http_webtorch.h"
#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_codec.h"
#include "ngx_webtorch_frame.h"
#include "ngx_webtorch_job.h"
#include "ngx_webtorch_queue.h"
#include "ngx_webtorch_records.h"
#include "ngx_webtorch_timer.h"


/* answers of a stream that wait while the one before is sent */
#define NGX_HTTP_WEBTORCH_MAX_ANSWERS   16

/* bytes of them */
#define NGX_HTTP_WEBTORCH_MAX_ANSWER    65536

/* bytes that are parsed before the event loop polls other clients */
#define NGX_HTTP_WEBTORCH_BUDGET        65536

/* hexadecimal digits of Stream-Id */
#define NGX_HTTP_WEBTORCH_ID_LEN        32

/* kind of a kept response: its payload type and this bit */
#define NGX_HTTP_WEBTORCH_KIND_BINARY   4


typedef struct ngx_http_webtorch_stream_s   ngx_http_webtorch_stream_t;
typedef struct ngx_http_webtorch_streams_s  ngx_http_webtorch_streams_t;
typedef struct ngx_http_webtorch_stream_document_s
    ngx_http_webtorch_stream_document_t;
typedef struct ngx_http_webtorch_result_s   ngx_http_webtorch_result_t;


typedef enum {
    NGX_HTTP_WEBTORCH_PAYLOAD_JSON = 0,
    NGX_HTTP_WEBTORCH_PAYLOAD_RAW,
    NGX_HTTP_WEBTORCH_PAYLOAD_TEXT        /* strings as they are */
} ngx_http_webtorch_payload_e;


typedef enum {
    NGX_HTTP_WEBTORCH_FRAMING_LINES = 0,
    NGX_HTTP_WEBTORCH_FRAMING_NONE,       /* rows of a fixed size */
    NGX_HTTP_WEBTORCH_FRAMING_SSE,
    NGX_HTTP_WEBTORCH_FRAMING_WHOLE,      /* a document at the end */
    NGX_HTTP_WEBTORCH_FRAMING_WEBSOCKET
} ngx_http_webtorch_framing_e;


/* a location whose handler may be a stream */

typedef struct {
    ngx_http_core_loc_conf_t   *clcf;
    size_t                      max_chunk;   /* bytes; 0: no limit */
} ngx_http_webtorch_stream_loc_t;


/* handler->data of a location, from the time when the configuration is read */

typedef struct {
    ngx_array_t                  *locations; /* of locations, see above */
    ngx_str_t                     name;      /* of the function */
    webtorch_schema_t             wire;      /* without what is not sent */
    webtorch_schema_t             open_wire; /* of a generate function's open,
                                                in a worker */

    /* options of the directive */
    const ngx_str_t              *option;    /* one that is set, or NULL */
    ngx_uint_t                    max_streams;   /* in a worker */
    ngx_uint_t                    max_steps; /* of a generation */
    ngx_msec_t                    idle;      /* between chunks */
    ngx_msec_t                    ping;      /* to a client that waits */
    ngx_msec_t                    resume;    /* time in which a client may come
                                                back; 0: it may not */
    size_t                        resume_buffer; /* bytes of answers that are
                                                kept for it */
    ngx_str_t                     origins;   /* of WebSockets; empty: those of
                                                the same host */
    ngx_str_t                     protocols; /* of WebSockets */
    ngx_uint_t                    deflate;   /* messages of WebSockets may be
                                                compressed */

    /* with "resume=" */
    ngx_webtorch_record_form_t    form;
    u_char                        digest[NGX_WEBTORCH_RECORD_DIGEST];
    ngx_webtorch_records_t       *records;   /* in a worker; or NULL */
    ngx_uint_t                    orphaned;  /* no worker will continue them */
} ngx_http_webtorch_stream_conf_t;


/* an answer that is filled while the other one is sent */

typedef struct {
    ngx_buf_t                   buf;
    ngx_webtorch_message_t      bytes;
    size_t                      skip;        /* of these, which are not sent */
    ngx_uint_t                  n;           /* answers */
} ngx_http_webtorch_answer_t;


struct ngx_http_webtorch_stream_s {
    ngx_webtorch_job_owner_t     owner;      /* first, as jobs point to it */
    ngx_webtorch_waiter_t        waiter;
    ngx_webtorch_timer_t         over;       /* posted when there are none */

    ngx_http_request_t          *request;    /* NULL: it has ended */
    ngx_webtorch_handler_t      *handler;
    ngx_http_webtorch_stream_conf_t  *conf;
    ngx_http_webtorch_streams_t *streams;

    /* rows of its states; 0: zeros */
    uint32_t                     state_rows[2];
    uint32_t                     read;
    uint32_t                     write;

    /* input */
    ngx_webtorch_message_t       message;
    size_t                       row_size;   /* of raw rows */
    ngx_http_webtorch_payload_e  payload;
    ngx_http_webtorch_framing_e  framing;
    ngx_webtorch_layout_t        layout;     /* of the chunk in the call */
    ngx_str_t                    piece;      /* of a body in a file */
    size_t                       budget;     /* bytes, see above */

    /* output */
    ngx_http_webtorch_payload_e  out_payload;
    ngx_http_webtorch_framing_e  out_framing;
    ngx_http_webtorch_answer_t   answers[2];
    ngx_uint_t                   filling;    /* index in answers */
    uint64_t                     nanswers;   /* ever */
    size_t                       answer_at;  /* of the last one, in what is
                                                filled, and its payload */
    size_t                       payload_at;
    size_t                       payload_len;
    ngx_chain_t                  chain;
    u_char                       id[NGX_WEBTORCH_RECORD_ID];
    size_t                       id_len;
    ngx_str_t                    prefix;     /* of each answer of the inference
                                                protocol, an open object; or
                                                empty */

    /* with "resume" */
    ngx_webtorch_claim_t         claim;      /* its record; or none */
    ngx_queue_t                  queue;      /* of those in this worker that
                                                have sent a head */

    ngx_webtorch_account_t       account;    /* of the messages and answers */

    ngx_http_webtorch_stream_t **in_thread;  /* of the task that decodes its
                                                chunk or encodes its answer, to
                                                be set to NULL when the request
                                                ends; or NULL */

    /*
     * The chunk is answered; or it is decoded, NGX_ERROR: err is set; or its
     * answer is encoded and added.
     */
    void                       (*answered)(ngx_webtorch_waiter_t *waiter,
                                           webtorch_job_t *job);
    void                       (*decoded)(ngx_http_webtorch_stream_t *st,
                                          ngx_int_t rc);
    void                       (*encoded)(ngx_http_webtorch_stream_t *st,
                                          ngx_http_webtorch_result_t *result);

    ngx_webtorch_error_t         err;
    webtorch_failure_t          *failure;    /* of err: the function raised it,
                                                while the job is there */

    /* methods of the transport; start() is called after open() succeeded */
    void                       (*start)(ngx_http_webtorch_stream_t *st);

    /*
     * Reads up to the end of a chunk: NGX_OK: it is in the message; NGX_AGAIN:
     * the client has not sent it; NGX_DONE: it sends no more; NGX_ERROR: err is
     * set; or an HTTP status, with which the request is to be finalized.
     */
    ngx_int_t                  (*read_chunk)(ngx_http_webtorch_stream_t *st);

    /*
     * Adds the next call of a stream that has no chunks: NGX_AGAIN, or
     * NGX_ERROR: err is set; NULL: it has chunks.
     */
    ngx_int_t                  (*produce)(ngx_http_webtorch_stream_t *st);
    ngx_queue_t                           turn;       /* if in_turn */
    ngx_uint_t                            nsteps;     /* calls that returned */
    ngx_http_webtorch_stream_document_t  *document; /* or NULL */

    /* sends the answer of a stream that has ended, and finalizes; or NULL */
    void                       (*finish)(ngx_http_webtorch_stream_t *st);

    /* the last answer is the error in err; sets ended */
    void                       (*fail)(ngx_http_webtorch_stream_t *st);

    /* to a client that sends nothing; or NULL */
    ngx_int_t                  (*ping)(ngx_http_webtorch_stream_t *st);

    /* the function has ended the stream; or NULL */
    void                       (*end)(ngx_http_webtorch_stream_t *st);

    /* the connection is closed before the stream has ended; or NULL */
    void                       (*leave)(ngx_http_webtorch_stream_t *st);

    ngx_msec_t                   since;      /* the last chunk or answer */
    ngx_webtorch_timer_t         pinging;    /* of one without chunks, see
                                                ping; handler NULL: none */
    void                        *websocket;
    ngx_uint_t                   window;     /* bits, of answers of a WebSocket
                                                that are compressed; 0: none
                                                are */

    unsigned                     resumed:1;  /* open was called by another */
    unsigned                     replaying:1;   /* the client may lack answers
                                                   that the record keeps */
    unsigned                     refused:1;  /* err is its only answer */
    unsigned                     restart:1;  /* the client is to come back */
    unsigned                     finished:1;    /* the client has ended it */
    unsigned                     fatal:1;    /* no client may come back */
    unsigned                     left:1;     /* its request has ended */
    unsigned                     opening:1;  /* open is called */
    unsigned                     opened:1;   /* open has succeeded */
    unsigned                     sending:1;  /* the other answer is sent */
    unsigned                     in_call:1;  /* its chunk is in a batch,
                                                or it, or its answer, in a
                                                thread */
    unsigned                     ended:1;    /* no chunk is read any more */
    unsigned                     more:1;     /* bytes are not parsed yet, as
                                                answers wait */
    unsigned                     binary:1;   /* answers of a WebSocket */
    unsigned                     deflated:1; /* the message is */
    unsigned                     text:1;     /* and becomes UTF-8 */
    unsigned                     counted:1;  /* as a request of this worker */
    unsigned                     in_turn:1;  /* produce is called soon */
    unsigned                     inline_end:1;  /* the last answer did not end
                                                with its line */
    unsigned                     lingering:1;   /* the client's bytes are read
                                                   to their end after it */
};


#endif /* _NGX_HTTP_WEBTORCH_STREAM_H_INCLUDED_ */
