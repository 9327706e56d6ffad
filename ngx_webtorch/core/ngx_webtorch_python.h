
/*
 * The interpreter, for those who do not include Python.h.  Functions that may
 * fail write a message of one line.
 */


#ifndef _NGX_WEBTORCH_PYTHON_H_INCLUDED_
#define _NGX_WEBTORCH_PYTHON_H_INCLUDED_


#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"

#include <sys/stat.h>


#define NGX_WEBTORCH_MESSAGE_LEN  1024


/*
 * The path of the interpreter that runs nginx, if nginx is a library of it;
 * else NULL.
 */
char *ngx_webtorch_python_host(void);

/* starts the interpreter once in a process, and imports what is preloaded */
ngx_int_t ngx_webtorch_python_start(ngx_webtorch_conf_t *conf, char *error);

/*
 * torch._dynamo, which takes half as long to import as the rest of torch, and
 * which optimizers and torch.compile use alone: whether this process, a child,
 * has imported it; and its import, for all children
 */
ngx_uint_t ngx_webtorch_python_has_dynamo(void);
ngx_int_t ngx_webtorch_python_import_dynamo(char *error);

/*
 * nginx as a daemon has no umask, as it gives each file its mode.  Python does
 * not: this adds bits, and returns the umask before.
 */
mode_t ngx_webtorch_python_restrict(mode_t bits);

/* appends the place of a directive that is the cause, if it is set */
void ngx_webtorch_python_add_directive(char *error,
    const ngx_webtorch_directive_t *directive);

/* in a child of the process that started it, before anything else */
ngx_int_t ngx_webtorch_python_child(ngx_webtorch_conf_t *conf, char *error);

/* a call, in microseconds */

typedef struct {
    uint64_t                started;      /* of the clock, before the GIL */
    uint64_t                ended;
    ngx_uint_t              gil;          /* waited for it */
    ngx_uint_t              call;         /* in Python */
} ngx_webtorch_python_time_t;


/* imports a handler and describes it */
ngx_int_t ngx_webtorch_python_load(ngx_webtorch_handler_t *handler,
    webtorch_schema_t *schema, char *error);

/*
 * Before and after handlers are loaded.  check: this process serves nothing;
 * signals: that which writes the stacks of Python's threads to stderr, and that
 * which writes the stack of the thread that receives it, each 0: none; or NULL;
 * models_replaced: whether models were replaced since it was called last
 */
void ngx_webtorch_python_begin(ngx_webtorch_conf_t *conf, ngx_uint_t check,
    const int *signals, ngx_uint_t (*models_replaced)(void));
void ngx_webtorch_python_loaded(void);

/* before a worker exits; NGX_BUSY: a call is still running */
ngx_int_t ngx_webtorch_python_exit(void);

/* returns when this thread has had the GIL */
void ngx_webtorch_python_wait(void);

/*
 * runs a batch and measures it; a call that may wait does so, when models were
 * replaced, until no other one runs
 */
void ngx_webtorch_python_run(webtorch_batch_t *batch, ngx_uint_t wait,
    ngx_uint_t *waited, ngx_webtorch_python_time_t *time);

/*
 * Takes models that were replaced, between two batches.  NGX_AGAIN: a batch or
 * a policy's round is running, or another worker fills a block; called in the
 * event loop.
 */
ngx_int_t ngx_webtorch_python_refresh(void);

/* whether a thread runs a policy's round */
ngx_uint_t ngx_webtorch_python_learning(void);

/* a policy's round; NGX_ERROR: it failed, and the reason is logged */
ngx_int_t ngx_webtorch_python_learn(ngx_webtorch_handler_t *policy,
    ngx_uint_t balancer);

/* around the batches that a thread, which is not the main one, runs */
void *ngx_webtorch_python_thread_begin(ngx_int_t threads);
void ngx_webtorch_python_thread_end(void *state);


#endif /* _NGX_WEBTORCH_PYTHON_H_INCLUDED_ */
