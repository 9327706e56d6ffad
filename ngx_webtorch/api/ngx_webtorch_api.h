
/*
 * api: the one interface between C and Python.  It includes no header but those
 * of C itself, and all other folders may include it.
 *
 * Between the two "cdef" marks the text is also cffi's cdef: declarations only.
 * After a change run "python -m webtorch._bridge_build", which regenerates
 * ngx_webtorch_bridge.c.
 */


#ifndef _NGX_WEBTORCH_API_H_INCLUDED_
#define _NGX_WEBTORCH_API_H_INCLUDED_


#include "ngx_webtorch_api_balancer.h"
#include "ngx_webtorch_api_net.h"
#include "ngx_webtorch_api_numbers.h"
#include "ngx_webtorch_api_settings.h"

#include <stddef.h>
#include <stdint.h>


/* cdef: begin */

/* an element of a tensor of strings */

typedef struct {
    uint64_t  at;                         /* inputs: offset in the batch's
                                             text, outputs: address */
    uint64_t  len;
} webtorch_text_t;


/*
 * A tensor of the signature; ndim and shape are a row's, without the batch
 * axis.  A size below 0 is that of a variable axis, -1 of the first; the row
 * is as many times larger then as its variable axes' sizes say.
 */

typedef struct {
    char      name[WEBTORCH_NAME_LEN];
    int32_t   dtype;
    int32_t   ndim;
    int64_t   shape[WEBTORCH_MAX_DIMS];
    int64_t   row_size;                   /* bytes */
} webtorch_spec_t;


/* gaps that an input may have */

typedef struct {
    uint32_t  flags;
    uint32_t  mask;                       /* index of the buffer with 1 for each
                                             missing element; 0: none, floats
                                             are NaN */
    uint32_t  len;                        /* bytes of the default: of a string,
                                             an element or a row */
    char      value[WEBTORCH_DEFAULT_LEN];
} webtorch_gap_t;


/* a handler, as its annotations describe it */

typedef struct {
    int32_t          kind;
    int32_t          batched;             /* rows of many requests in one call */
    int32_t          waits;               /* a call may wait for other workers,
                                             of a stream one of its "open" or
                                             "close" */
    int32_t          coroutine;           /* asyncio's loop runs it */
    int32_t          native;              /* it has a net that C evaluates */
    uint32_t         threads;             /* of its own, 0: not set */
    uint32_t         methods;
    uint32_t         ninputs;
    uint32_t         noutputs;
    webtorch_spec_t  inputs[WEBTORCH_MAX_BUFFERS];     /* masks are last */
    webtorch_spec_t  outputs[WEBTORCH_MAX_TENSORS];

    uint32_t         input_strings;       /* how many are tensors of strings */
    uint32_t         output_strings;

    /* variable axes, those of inputs first; 0: all sizes are fixed */
    uint32_t         naxes;
    uint32_t         nbound;              /* of inputs */
    char             axes[WEBTORCH_MAX_AXES][WEBTORCH_NAME_LEN];

    /*
     * WEBTORCH_STREAM: flags.  The last input is rows of states, or with
     * WEBTORCH_STREAM_RESUME the last inputs and outputs are the states.  The
     * output before them of one that has "done" is that.
     */
    uint32_t         stream;
    uint32_t         nstates;             /* among inputs and outputs */

    /* WEBTORCH_HANDLER: names of nginx's variables that it gets */
    uint32_t         nvars;
    char             vars[WEBTORCH_MAX_VARS][WEBTORCH_NAME_LEN];

    /* named captures of the location, which C sets before Python describes the
       handler */
    uint32_t         ncaptures;
    char             captures[WEBTORCH_MAX_CAPTURES][WEBTORCH_NAME_LEN];

    uint32_t         nmasks;
    uint32_t         noptional;           /* inputs with WEBTORCH_OPTIONAL and
                                             no default: Python gets None */
    webtorch_gap_t   gaps[WEBTORCH_MAX_TENSORS];       /* of inputs */

    /* "model=" as far as it has no variables, which C sets before Python
       describes the handler; empty: not set */
    char             model[WEBTORCH_VERSION_SET_LEN];

    /* what "webtorch_device" says, which C sets before Python describes the
       handler, then the device that it runs on; empty: the CPU */
    char             device[WEBTORCH_DEVICE_LEN];

    /* also set by C before Python describes the handler */
    uint32_t         slow;                /* webtorch_slow, ms; 0: off */
    int32_t          shadow;              /* of copies of requests alone */
    int32_t          offloaded;           /* another worker runs it; 0
                                             afterwards */
    uint32_t         max_batch;           /* rows; 0 afterwards */
} webtorch_schema_t;


typedef struct {
    char    *data;
    size_t   len;
} webtorch_str_t;


typedef struct {
    webtorch_str_t  name;
    webtorch_str_t  value;
} webtorch_header_t;


/*
 * A request for @webtorch.handler: one block that holds all of its strings, so
 * that it may outlive the connection.  This header is followed by lengths in
 * bytes, uint32_t each: of the variables, and of every header's name and value.
 * Then come the strings: method, path, arguments, variables and headers, and
 * the body, unless that is large: it is not copied but shared then, see
 * ngx_webtorch_shared_release().  The lengths of the first three are below.
 */

typedef struct {
    uint64_t            size;             /* of the block, in bytes */
    uint64_t            body;             /* bytes of the body */
    char               *data;             /* of a shared body */
    void               *shared;           /* its memory; NULL: it is not shared */
    uint32_t            method;
    uint32_t            path;
    uint32_t            args;
    uint32_t            nheaders;
    uint32_t            nvars;            /* as in the schema; a length of
                                             WEBTORCH_NOT_SET: not set */

    /* streams only; all of the above is set for the first call alone */
    uint32_t            next;             /* the next item of a generator */
    uint32_t            closing;
    uint32_t            state_row;        /* of its states; the number of a
                                             generator */
    uint32_t            old_state_row;    /* closing: its other one, or 0 */
    char               *states;           /* in place of rows: all states, each
                                             at a multiple of 64 bytes */
    uint64_t            states_size;
} webtorch_request_t;


/* the answer of a handler, one allocation, too */

typedef struct {
    int32_t             status;
    webtorch_str_t      content_type;     /* len 0: by the tensor's format */
    webtorch_str_t      body;
    uint32_t            nheaders;
    webtorch_header_t  *headers;
    webtorch_spec_t     tensor;           /* ndim < 0: the body is bytes */
    webtorch_str_t      file;             /* len > 0: a path to send instead */
    webtorch_str_t      redirect;         /* len > 0: "/uri" or "@location" that
                                             answers instead */
    uint32_t            more;             /* the body is an item, and the
                                             generator may yield another one */
} webtorch_reply_t;


/* an error that a handler raised for the client, one allocation, too */

typedef struct webtorch_failure_s {
    webtorch_str_t      message;          /* len 0: details are only logged */
    webtorch_str_t      code;             /* len 0: that of the status; C
                                             adds a zero byte to its copy */
    webtorch_str_t      detail;           /* JSON; len 0: none */
    uint32_t            nheaders;
    webtorch_header_t  *headers;
} webtorch_failure_t;


/* statuses of rows that Python has posted, beside those of HTTP */

#define WEBTORCH_ROWS_FULL       1000     /* queue= or queue_size= */
#define WEBTORCH_ROWS_LATE       1001     /* timeout= */
#define WEBTORCH_ROWS_CANCELLED  1002
#define WEBTORCH_ROWS_EXIT       1003     /* the worker exits */


/* rows that Python adds to a batch of a function of tensors, and their result */

typedef struct {
    uint32_t   handler;
    uint32_t   gather;                    /* 1: posted by asyncio's thread, which
                                             takes the result when it is there */
    uint64_t   caller;                    /* not 0, identifies exceptions */
    uint32_t   rows;
    uint32_t   ninputs;
    void      *inputs[WEBTORCH_MAX_TENSORS];
    size_t     input_size[WEBTORCH_MAX_TENSORS];       /* bytes */
    char      *text;
    uint64_t   text_len;

    /* sizes of variable axes; a result also has those of its outputs */
    int64_t    sizes[WEBTORCH_MAX_AXES];
    uint32_t   version_set;               /* as in a batch's sizes */

    int32_t    status;                    /* 0, of HTTP, or one of these above */
    char      *result;                    /* outputs, then the text */
    size_t     result_len;
    size_t     output_at[WEBTORCH_MAX_TENSORS];
    size_t     output_size[WEBTORCH_MAX_TENSORS];
    size_t     text_at;
    struct webtorch_failure_s  *failure;  /* of rows that another worker ran;
                                             or NULL */
} webtorch_rows_t;


/* the header traceparent of a request */

typedef struct {
    uint8_t          trace[16];
    uint8_t          span[8];
    uint32_t         sampled;
    uint64_t         queued;              /* us of the clock: the request was */
} webtorch_trace_t;


/* the time to encode an answer and to send it, in a trace that is sampled */

typedef struct {
    webtorch_trace_t  trace;
    uint64_t          begun;              /* us of the clock */
    uint64_t          ended;
    uint32_t          status;             /* of HTTP */
} webtorch_trace_span_t;


/* a request's part of a batch */

typedef struct {
    uint32_t             first;           /* row */
    uint32_t             rows;
    int32_t              status;          /* 0, or HTTP status of the failure */
    uint32_t             expired;         /* C only; its time was over in the
                                             call */
    webtorch_failure_t  *failure;         /* NULL: details are only logged */
    webtorch_request_t  *request;         /* WEBTORCH_HANDLER only, as is reply */
    webtorch_reply_t    *reply;
    uint64_t             caller;          /* of rows that Python has posted; 0:
                                             they are those of a request;
                                             WEBTORCH_OFFLOADED: another worker
                                             has offloaded them */
    void                *waiter;          /* C only; NULL: no request waits */
    void                *owner;           /* C only, see ngx_webtorch_job.h */
    webtorch_trace_t    *trace;           /* NULL: the request has none */
} webtorch_job_t;


typedef struct {
    uint32_t         handler;
    uint32_t         slot;                /* of the handler's batch buffers */
    uint32_t         generation;          /* changes when the input buffers move */
    uint32_t         njobs;
    uint32_t         rows;
    uint32_t         capacity;            /* rows */
    uint32_t         retained;            /* Python keeps the input buffers */
    uint32_t         shared;              /* outputs may change after a call */
    webtorch_job_t  *jobs;
    void            *inputs[WEBTORCH_MAX_BUFFERS];
    size_t           allocated[WEBTORCH_MAX_BUFFERS];   /* bytes of inputs */
    uintptr_t        outputs[WEBTORCH_MAX_TENSORS];

    char            *text;                /* all strings of the inputs */
    uint64_t         text_len;

    /*
     * Sizes of variable axes, Python sets those that only outputs have; then
     * the bits of absent optional inputs, and the number of the versions of
     * models that the call uses, 0: those that the code names.
     */
    int64_t          sizes[WEBTORCH_NSIZES];

    /* WEBTORCH_WATCH_*; of the models that the call has used: steps and versions
       in the order of their names, which Python sets; they end with a zero */
    uint32_t         watch;
    char             steps[WEBTORCH_WATCH_LEN];
    char             versions[WEBTORCH_WATCH_LEN];
} webtorch_batch_t;


/* bytes of a form, by their offset in the body */

typedef struct {
    uint64_t         at;
    uint64_t         len;
    int32_t          coding;              /* WEBTORCH_PLAIN and so on */
} webtorch_span_t;


typedef struct {
    webtorch_span_t  name;
    webtorch_span_t  filename;            /* empty: no file was chosen */
    webtorch_span_t  content_type;        /* empty: none */
    webtorch_span_t  headers;             /* all lines, each with CR LF */
    webtorch_span_t  data;
    int32_t          is_file;             /* it has a filename */
} webtorch_part_t;


/* a body of multipart/form-data that is being read, without a copy */

typedef struct {
    const char      *body;
    uint64_t         len;
    uint64_t         at;                  /* of the next part's headers */
    uint32_t         nparts;              /* read */
    uint32_t         max_parts;
    uint32_t         last;                /* the closing boundary was read */
    uint32_t         boundary_len;        /* with CR LF "--" in front */
    char             boundary[WEBTORCH_BOUNDARY_LEN];
    webtorch_span_t  charset;             /* the field "_charset_", or empty */

    /* the error of the last call, as it is sent to a client */
    int32_t          status;              /* HTTP status */
    const char      *code;
    char             message[WEBTORCH_MESSAGE_LEN];
} webtorch_form_t;


/* counters of a model in the zone, shared by all workers */

typedef struct {
    uint64_t         steps;               /* optimizer steps */
    uint64_t         saved;               /* steps in the last checkpoint */
    uint64_t         seen;                /* files changed later are new, ns */
    uint64_t         weights;             /* identifies the file of "weights="
                                             when it began; 0: there was none */
    uint64_t         others;              /* steps of the weights beside these,
                                             which were made at other hosts */
    uint64_t         applied;             /* number of the last change by a
                                             round of hosts */
    uint64_t         replaced;            /* how often the weights were replaced
                                             by others */
    uint32_t         undo;                /* the snapshot is complete */
    uint32_t         frozen;              /* training makes no steps */
} webtorch_counters_t;


/* key of a block lookup; only Python reads the layout */

typedef struct {
    const char           *name;           /* of the model */
    uint32_t              kind;
    uint32_t              undo;           /* with memory for a copy */
    const char           *layout;
    size_t                layout_len;
    size_t                size;
} webtorch_wanted_t;


/* a block of the zone: the memory of a model, or of its optimizer */

typedef struct {
    uint32_t              id;
    uint32_t              fresh;          /* the caller has to fill it */
    char                 *data;
    size_t                size;
    webtorch_counters_t  *counters;

    /* fresh: the latest of this name and kind; NULL: none */
    const char           *old_layout;
    size_t                old_len;
    char                 *old_data;
    webtorch_counters_t  *old_counters;
} webtorch_block_t;

/* cdef: end */


/*
 * Implemented by _worker/bridge.py, called by C with or without the GIL.
 * Those that may fail write a message of at most len bytes and return -1.
 */

/* cdef: python begin */

/* imports "module:function" as handler number index, sets its schema */
int ngx_webtorch_py_load(uint32_t index, const char *name,
    webtorch_schema_t *schema, char *error, size_t len);

/*
 * Runs a batch, sets its outputs and its jobs' status.  What every batch needs
 * is passed as arguments, which costs less than members.
 */
int ngx_webtorch_py_run(uint32_t handler, uint32_t slot, uint32_t generation,
    uint32_t rows, webtorch_batch_t *batch);

/* as ngx_webtorch_py_run(), for a batch whose "watch" is not 0 */
int ngx_webtorch_py_run_watched(uint32_t handler, uint32_t slot,
    uint32_t generation, uint32_t rows, webtorch_batch_t *batch);

/* imports a balancer's policy; returns the milliseconds between its rounds */
int ngx_webtorch_py_policy(uint32_t index, const char *name, char *error,
    size_t len);

/* a policy learns from finished requests and publishes its parameters */
int ngx_webtorch_py_learn(uint32_t index, uint32_t balancer);

/* in a new thread that will run batches; threads of an operator of torch */
void ngx_webtorch_py_thread(int threads);

/* before a process loads handlers, after that, and before it exits */
void ngx_webtorch_py_init(const webtorch_settings_t *settings);
void ngx_webtorch_py_start(void);

/* 1: a call is still running */
int ngx_webtorch_py_exit(void);

/* models were replaced in the zone, no batch runs here; 1: to be called again */
int ngx_webtorch_py_refresh_models(void);

/* cdef: python end */


/* implemented in C, called by Python with the GIL held, in any thread */

/* cdef: c begin */

void ngx_webtorch_log(int level, const char *text, size_t len);

/* the failure is copied; NULL: details are only logged */
void ngx_webtorch_job_fail(webtorch_job_t *job, int status,
    const webtorch_failure_t *failure);

/* the reply is copied; -1: no memory */
int ngx_webtorch_job_reply(webtorch_job_t *job, const webtorch_reply_t *reply);

/* a reply of bytes without headers, both are copied; -1: no memory */
int ngx_webtorch_job_reply_body(webtorch_job_t *job, int status,
    const char *type, const char *body, size_t len);

/* an item that a generator has yielded, it is copied; -1: no memory */
int ngx_webtorch_job_reply_item(webtorch_job_t *job, const char *item,
    size_t len);

/*
 * Called in the thread of asyncio's loop.  begin() returns a descriptor, which
 * is readable when there is something to take: batches of a request each, and
 * batches that are to be cancelled and have been taken before.  take() and
 * cancelled() write up to n of them, and return how many; take() is to be
 * called again if it was n.  done() gives a batch back, with the next call of
 * flush(), which is needed if done() returns 1.
 */
int ngx_webtorch_async_begin(void);
uint32_t ngx_webtorch_async_take(webtorch_batch_t **batches, uint32_t n);
uint32_t ngx_webtorch_async_cancelled(webtorch_batch_t **batches, uint32_t n);
int ngx_webtorch_async_done(webtorch_batch_t *batch);
void ngx_webtorch_async_flush(void);

/*
 * The loop is not stuck; returns the milliseconds until it is to be called
 * again, 0: no call with "stuck=" runs.
 */
uint32_t ngx_webtorch_async_beat(void);

/*
 * Rows for a batch of a function of tensors.  direct() returns 1 if the calling
 * thread cannot wait for a batch: the function is to be called.  make() makes a
 * handler of a function that no directive names; -1: its rows are too large, or
 * there is no memory.
 *
 * post() copies the rows and returns them, NULL: no memory.  wait() waits until
 * they have a status.  Those to be gathered are posted together, and finished()
 * returns up to n that have a status, in the thread of asyncio's loop.  All are
 * freed by the caller then; cancel() only lets them end earlier.
 */
int ngx_webtorch_rows_direct(void);
int ngx_webtorch_rows_make(uint32_t number, const char *name,
    const webtorch_schema_t *schema);
webtorch_rows_t *ngx_webtorch_rows_post(const webtorch_rows_t *rows);
void ngx_webtorch_rows_post_gathered(void);
void ngx_webtorch_rows_wait(webtorch_rows_t *rows);
void ngx_webtorch_rows_cancel(webtorch_rows_t *rows);
uint32_t ngx_webtorch_rows_finished(webtorch_rows_t **rows, uint32_t n);
void ngx_webtorch_rows_free(webtorch_rows_t *rows);

/*
 * Versions that requests may choose, by "=model@version", or of all models of
 * a function by "/module:function@version".  Number 0: no longer; -1: there are
 * too many, or the name is too long.
 */
int ngx_webtorch_version_set_update(const char *name, uint32_t number);

/*
 * Waits until there are spans, and takes up to n of them; 0: the worker exits.
 * None are kept before it is first called.  It does not wait if n is 0.
 */
uint32_t ngx_webtorch_spans_take(webtorch_trace_span_t *spans, uint32_t n);
void ngx_webtorch_spans_stop(void);

/* frees an input buffer that Python owns */
void ngx_webtorch_buffer_free(void *p);

/* releases a shared body */
void ngx_webtorch_shared_release(void *shared);

/*
 * Copies a balancer's finished requests from number *next on, and advances it.
 * Returns their number.  Requests that were overwritten are left out.
 */
uint32_t ngx_webtorch_balancer_samples(uint32_t balancer, uint64_t *next,
    webtorch_sample_t *samples, uint32_t n);

/* copies its servers in the order of their numbers, returns how many */
uint32_t ngx_webtorch_balancer_servers(uint32_t balancer,
    webtorch_server_t *servers, uint32_t n);

/*
 * Parameters for the next picks, if this worker is still the learner; -1: a
 * number is not finite.
 */
int ngx_webtorch_balancer_publish(uint32_t balancer,
    const webtorch_params_t *params);

/* factors of the servers' costs, if this worker is still the learner; -1: one is not finite, or not above 0 */
int ngx_webtorch_balancer_scale(uint32_t balancer, const float *scales,
    uint32_t n);

/*
 * For operators: copies the names of balancers in the order of their numbers,
 * returns how many there are; copies servers that the configuration has,
 * returns how many; ejects a server, or returns it.  -1: there is none of that
 * address.
 */
uint32_t ngx_webtorch_balancer_names(webtorch_str_t *names, uint32_t n);
uint32_t ngx_webtorch_balancer_peers(uint32_t balancer, webtorch_peer_t *peers,
    uint32_t n);
int ngx_webtorch_balancer_order(uint32_t balancer, const char *address,
    size_t len, int out);

/*
 * Opens a form by the request's header Content-Type; the body must stay in
 * memory while it is read.  -1: the form's error is set.
 */
int ngx_webtorch_form_open(webtorch_form_t *form, const char *content_type,
    size_t content_type_len, const char *body, size_t len);

/*
 * Reads at most n parts and returns their number, which is less than n only at
 * the end.  -1: the form's error is set, whatever was read before.
 */
int ngx_webtorch_form_read(webtorch_form_t *form, webtorch_part_t *parts,
    uint32_t n);

/* writes a name or a filename decoded, at most span->len bytes; returns how many */
size_t ngx_webtorch_form_decode(const webtorch_form_t *form,
    const webtorch_span_t *span, char *text);

/* returns freed memory to the system, which malloc() may have kept */
void ngx_webtorch_trim(void);

/* whether workers share models */
int ngx_webtorch_zone_exists(void);

/*
 * Finds the latest block of a name, kind and layout, or allocates one, which is
 * fresh.  It holds the zone's lock then, until the same thread calls
 * ngx_webtorch_block_ready() or ngx_webtorch_block_discard().  -1: none, or no
 * room; 1: another worker fills a block, to be called again later.
 */
int ngx_webtorch_block_attach(const webtorch_wanted_t *wanted, int how,
    webtorch_block_t *block);
void ngx_webtorch_block_ready(uint32_t id);

/* frees a block that is fresh or that no other worker uses */
void ngx_webtorch_block_discard(uint32_t id);
void ngx_webtorch_block_detach(uint32_t id);

/*
 * Blocks of a model and its optimizer that configurations before have used are
 * not found any more, but for these two.
 */
void ngx_webtorch_block_supersede(uint32_t id, uint32_t optimizer);

/* the block of a version that is unloaded is not found any more */
void ngx_webtorch_block_retire(uint32_t id);

/*
 * The number of the last order of an operator that this worker has followed,
 * and how many workers that serve have not followed an order.
 */
void ngx_webtorch_orders_followed(uint64_t number);
uint32_t ngx_webtorch_orders_behind(uint64_t number);

/* counts a step, in any worker */
void ngx_webtorch_block_step(uint32_t id);

/* whether workers that train in strict order use it: steps need the lock */
int ngx_webtorch_block_strict(uint32_t id);

/*
 * The lock of training in strict order over all workers, which may be nested.
 * Under it: takes a snapshot of a model's block and of its optimizer's, drops
 * it after the step, or restores both, which the next owner of the lock does if
 * the worker exited in a step.
 */
void ngx_webtorch_training_lock(void);
void ngx_webtorch_training_unlock(void);
void ngx_webtorch_block_snapshot(uint32_t id, uint32_t optimizer);
void ngx_webtorch_block_commit(uint32_t id);
void ngx_webtorch_block_restore(uint32_t id);

/* whether this worker writes checkpoints, in the calling thread */
int ngx_webtorch_saver_elect(void);
void ngx_webtorch_saver_resign(void);

/* election for object storage, and for the rounds with other hosts */
int ngx_webtorch_uploader_elect(void);
void ngx_webtorch_uploader_resign(void);
int ngx_webtorch_rounds_elect(void);
void ngx_webtorch_rounds_resign(void);

/* whether the models of this host are those of its cluster: it may be ready */
void ngx_webtorch_rounds_join(int joined);

/*
 * This worker has made its last step.  Returns whether all workers that run
 * have, so that the host takes part in one more round and then leaves.
 */
int ngx_webtorch_rounds_last(void);

/*
 * This worker cannot serve any more: it is replaced when another one may take
 * over, and answers its requests before it exits.  The text is logged.
 */
void ngx_webtorch_retire(const char *text, size_t len);
/* begins or ends a drain of the server; returns whether it was drained */
int ngx_webtorch_drain_set(int drain);
int ngx_webtorch_drain_get(void);

/* whether this worker is shutting down */
int ngx_webtorch_exiting(void);

/* the cells of a metric in this worker, see metrics/; NULL: it is not counted */
uint64_t *ngx_webtorch_metrics_open(int type, const char *name,
    const char *labels, const char *help, const double *bounds,
    uint32_t nbounds);

/*
 * Sums over all workers that there were: requests that a handler has answered,
 * those of them with 5xx, and steps of a model and their losses.  Called in any
 * thread.
 */
void ngx_webtorch_metrics_sum_answers(const char *name, uint64_t *answers,
    uint64_t *errors);
void ngx_webtorch_metrics_sum_losses(const char *name, uint64_t *steps,
    double *losses);

/*
 * A reward, from 0 to 1, for a choice of webtorch_split.  -1: there is no such
 * split, 1: it has no such choice.
 */
int ngx_webtorch_split_reward(const char *name, size_t name_len,
    const char *choice, size_t choice_len, double value);

/* cdef: c end */


#endif /* _NGX_WEBTORCH_API_H_INCLUDED_ */
