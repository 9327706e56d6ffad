
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "ngx_webtorch_python.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_fork.h"

#include <sys/resource.h>


/* interval of polls for other running batches, microseconds */
#define NGX_WEBTORCH_SWAP_WAIT  500

/* microseconds that replaced models wait for functions of requests to return */
#define NGX_WEBTORCH_SWAP_LATE  2000000


static void ngx_webtorch_python_set_captures(ngx_webtorch_handler_t *handler,
    webtorch_schema_t *schema);
static long ngx_webtorch_python_waits(void);
static void ngx_webtorch_python_refresh_models(ngx_uint_t wait);


/* survive reloads, as the module is linked with -z nodelete */

static ngx_atomic_t     ngx_webtorch_python_nlearning;
static ngx_uint_t     (*ngx_webtorch_python_models_replaced)(void);

/* under the GIL */

static ngx_uint_t       ngx_webtorch_python_running;    /* batches of rows */
static ngx_uint_t       ngx_webtorch_python_calls;      /* of functions of
                                                           requests */
static int              ngx_webtorch_python_swapped;    /* models, not taken */
static ngx_uint_t       ngx_webtorch_python_swapped_at; /* microseconds */
static ngx_uint_t       ngx_webtorch_python_refreshing; /* they are taken now */


/* names that are too long for a schema have been refused */

static void
ngx_webtorch_python_set_captures(ngx_webtorch_handler_t *handler,
    webtorch_schema_t *schema)
{
    ngx_str_t   *name;
    ngx_uint_t   i;

    if (handler->captures == NULL) {
        return;
    }

    name = handler->captures->elts;

    for (i = 0; i < handler->captures->nelts; i++) {
        ngx_memcpy(schema->captures[i], name[i].data, name[i].len);
    }

    schema->ncaptures = (uint32_t) handler->captures->nelts;
}


ngx_int_t
ngx_webtorch_python_load(ngx_webtorch_handler_t *handler,
    webtorch_schema_t *schema, char *error)
{
    int  rc;

    static char  broken[] = "the package \"webtorch\" does not load, "
                            "its error is on stderr";

    ngx_memzero(schema, sizeof(webtorch_schema_t));
    ngx_webtorch_python_set_captures(handler, schema);
    ngx_memcpy(schema->model, handler->model.data, handler->model.len);
    schema->slow = (uint32_t) handler->slow;
    schema->shadow = (handler->shadowed != NULL);

    if (handler->resume) {
        schema->stream = WEBTORCH_STREAM_RESUME;
    }

    /* if webtorch._worker.bridge does not import, cffi prints why and returns 0 */

    schema->kind = -1;
    ngx_memcpy(error, broken, sizeof(broken));

    if (handler->policy) {
        rc = ngx_webtorch_py_policy((uint32_t) handler->index,
                                    (char *) handler->name.data,
                                    error, NGX_WEBTORCH_MESSAGE_LEN);

        ngx_webtorch_fork_exit_child();

        if (rc <= 0) {
            return NGX_ERROR;
        }

        handler->interval = (ngx_msec_t) rc;
        schema->kind = WEBTORCH_POLICY;

        return NGX_OK;
    }

    /* Python reads these and clears them: they may differ in workers */

    ngx_memcpy(schema->device, handler->device.data, handler->device.len);
    schema->offloaded = (int32_t) handler->offloaded;
    schema->max_batch = (uint32_t) handler->max_batch;

    rc = ngx_webtorch_py_load((uint32_t) handler->index,
                              (char *) handler->name.data, schema,
                              error, NGX_WEBTORCH_MESSAGE_LEN);

    ngx_webtorch_fork_exit_child();

    return rc == 0 && schema->kind != -1 ? NGX_OK : NGX_ERROR;
}


void
ngx_webtorch_python_begin(ngx_webtorch_conf_t *conf, ngx_uint_t check,
    const int *signals, ngx_uint_t (*models_replaced)(void))
{
    webtorch_settings_t  settings;

    ngx_webtorch_python_models_replaced = models_replaced;

    settings.check = (int32_t) check;
    settings.worker = (uint32_t) ngx_worker;
    settings.generation = conf->generation;
    settings.environment = environ;
    settings.reload = (conf->reload == 1);
    settings.stack_signal = signals ? signals[0] : 0;
    settings.slow_signal = signals ? signals[1] : 0;
    settings.threads = (int32_t) conf->threads;
    settings.owner = (conf->handoff == NULL || ngx_worker == 0);
    settings.npath = (uint32_t) conf->path->nelts;
    settings.checkpoint = conf->checkpoint
                          ? (char *) conf->checkpoint->name.data : NULL;
    settings.interval = conf->interval;
    settings.keep = (uint32_t) conf->keep;
    settings.store = NULL;
    settings.endpoint = NULL;
    settings.store_interval = 0;
    settings.store_keep = 0;

    if (conf->store) {
        settings.store = (char *) conf->store->url.data;
        settings.endpoint = (char *) conf->store->endpoint.data;
        settings.store_interval = conf->store->interval;
        settings.store_keep = (uint32_t) conf->store->keep;
    }

    settings.watch = conf->watch;
    settings.cluster = conf->cluster;

    ngx_webtorch_py_init(&settings);
}


void
ngx_webtorch_python_loaded(void)
{
    ngx_webtorch_py_start();
}


ngx_int_t
ngx_webtorch_python_exit(void)
{
    return ngx_webtorch_py_exit() ? NGX_BUSY : NGX_OK;
}


void
ngx_webtorch_python_wait(void)
{
    PyGILState_Release(PyGILState_Ensure());
}


void
ngx_webtorch_python_run(webtorch_batch_t *batch, ngx_uint_t wait,
    ngx_uint_t *waited, ngx_webtorch_python_time_t *time)
{
    int               rc;
    long              waits;
    uint32_t          i;
    uint64_t          start;
    ngx_uint_t       *running;
    PyGILState_STATE  gil;

    time->started = ngx_webtorch_clock_usec();

    gil = PyGILState_Ensure();

    time->gil = ngx_webtorch_clock_usec() - time->started;

    ngx_webtorch_python_refresh_models(wait);

    running = batch->jobs[0].request ? &ngx_webtorch_python_calls
                                     : &ngx_webtorch_python_running;
    (*running)++;

    waits = waited ? ngx_webtorch_python_waits() : 0;

    start = ngx_webtorch_clock_usec();

    rc = batch->watch
         ? ngx_webtorch_py_run_watched(batch->handler, batch->slot,
                                       batch->generation, batch->rows, batch)
         : ngx_webtorch_py_run(batch->handler, batch->slot, batch->generation,
                               batch->rows, batch);

    ngx_webtorch_fork_exit_child();

    time->ended = ngx_webtorch_clock_usec();
    time->call = time->ended - start;

    if (waited) {
        *waited = (ngx_webtorch_python_waits() != waits);
    }

    (*running)--;

    PyGILState_Release(gil);

    if (rc != 0) {
        for (i = 0; i < batch->njobs; i++) {
            batch->jobs[i].status = 500;
        }
    }
}


/* how often this thread has given up the processor to wait for something */

static long
ngx_webtorch_python_waits(void)
{
    struct rusage  ru;

    if (getrusage(RUSAGE_THREAD, &ru) == -1) {
        return 0;
    }

    return ru.ru_nvcsw;
}


/*
 * Models that were replaced are taken while no batch runs in this process, so
 * that each batch has the old or the new ones.  The event loop does not wait:
 * what it runs beside a thread has the old ones yet.  Functions of requests may
 * take long, and no batch waits for them: there are the old models while some
 * run, for two seconds at most.
 */

static void
ngx_webtorch_python_refresh_models(ngx_uint_t wait)
{
    PyThreadState  *state;

    if (ngx_webtorch_python_models_replaced()) {
        ngx_webtorch_python_swapped = 1;
        ngx_webtorch_python_swapped_at = ngx_webtorch_clock_usec();
    }

    while (ngx_webtorch_python_swapped) {

        if (ngx_webtorch_python_calls
            && ngx_webtorch_clock_usec() - ngx_webtorch_python_swapped_at
               < NGX_WEBTORCH_SWAP_LATE)
        {
            return;
        }

        if (ngx_webtorch_python_running == 0
            && ngx_webtorch_python_refreshing == 0)
        {
            ngx_webtorch_python_refreshing = 1;
            ngx_webtorch_python_swapped = ngx_webtorch_py_refresh_models();
            ngx_webtorch_python_refreshing = 0;

            if (ngx_webtorch_python_swapped == 0) {
                return;
            }
        }

        /* a refresh by another thread takes less than a millisecond */

        if (!wait && ngx_webtorch_python_refreshing == 0) {
            return;
        }

        state = PyEval_SaveThread();
        (void) usleep(NGX_WEBTORCH_SWAP_WAIT);
        PyEval_RestoreThread(state);
    }
}


ngx_int_t
ngx_webtorch_python_refresh(void)
{
    ngx_int_t         rc;
    PyGILState_STATE  gil;

    /* the event loop does not wait for the GIL while others have use for it */

    if (ngx_webtorch_python_running || ngx_webtorch_python_nlearning) {
        return NGX_AGAIN;
    }

    gil = PyGILState_Ensure();

    ngx_webtorch_python_refresh_models(0);
    rc = ngx_webtorch_python_swapped ? NGX_AGAIN : NGX_OK;

    PyGILState_Release(gil);

    return rc;
}


ngx_int_t
ngx_webtorch_python_learn(ngx_webtorch_handler_t *policy, ngx_uint_t balancer)
{
    int               rc;
    PyGILState_STATE  gil;

    ngx_webtorch_python_nlearning = 1;

    gil = PyGILState_Ensure();

    rc = ngx_webtorch_py_learn((uint32_t) policy->index, (uint32_t) balancer);

    PyGILState_Release(gil);

    ngx_webtorch_python_nlearning = 0;

    return rc == 0 ? NGX_OK : NGX_ERROR;
}


ngx_uint_t
ngx_webtorch_python_learning(void)
{
    return ngx_webtorch_python_nlearning;
}


void *
ngx_webtorch_python_thread_begin(ngx_int_t threads)
{
    /* never released: the thread keeps its state until it ends */
    (void) PyGILState_Ensure();

    ngx_webtorch_py_thread((int) threads);

    return PyEval_SaveThread();
}


void
ngx_webtorch_python_thread_end(void *state)
{
    PyEval_RestoreThread(state);
    PyThreadState_Clear(state);
    PyThreadState_DeleteCurrent();
}
