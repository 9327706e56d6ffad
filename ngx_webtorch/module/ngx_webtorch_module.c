
/*
 * The core module: starts and stops the interpreter, handlers and balancers in
 * nginx's processes, so that modules of HTTP, and of other protocols, only name
 * handlers.
 */

#include "ngx_webtorch.h"
#include "ngx_webtorch_check.h"
#include "ngx_webtorch_endpoint.h"
#include "ngx_webtorch_exit.h"
#include "ngx_webtorch_fork.h"
#include "ngx_webtorch_handler.h"
#include "ngx_webtorch_offload_recv.h"
#include "ngx_webtorch_thread.h"
#include "ngx_webtorch_balancer.h"
#include "ngx_webtorch_async.h"
#include "ngx_webtorch_learner.h"
#include "ngx_webtorch_posted_rows.h"
#include "ngx_webtorch_python.h"
#include "ngx_webtorch_resident.h"
#include "ngx_webtorch_runner.h"
#include "ngx_webtorch_runner_thread.h"
#include "ngx_webtorch_stuck.h"
#include "ngx_webtorch_accept.h"
#include "ngx_webtorch_block.h"
#include "ngx_webtorch_drain.h"
#include "ngx_webtorch_graceful.h"
#include "ngx_webtorch_memory.h"
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_metrics_worker.h"
#include "ngx_webtorch_owner.h"
#include "ngx_webtorch_split.h"
#include "ngx_webtorch_upkeep.h"
#include "ngx_webtorch_worker.h"
#include "ngx_webtorch_zone.h"


/* seconds for the last checkpoint and Python's exit functions */
#define NGX_WEBTORCH_EXIT_TIMEOUT  60

/* seconds of them for the GIL, which a call that is stuck may hold */
#define NGX_WEBTORCH_EXIT_STUCK    5


static void *ngx_webtorch_create_conf(ngx_cycle_t *cycle);
static char *ngx_webtorch_init_conf(ngx_cycle_t *cycle, void *data);
static ngx_int_t ngx_webtorch_set_python(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);
static void ngx_webtorch_python_log(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf, ngx_err_t err, const char *fmt);
static ngx_int_t ngx_webtorch_default_preload(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);
static ngx_int_t ngx_webtorch_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_webtorch_init_process(ngx_cycle_t *cycle);
static void ngx_webtorch_load(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf,
    ngx_webtorch_handler_t *handler);
static void ngx_webtorch_exit_process(ngx_cycle_t *cycle);
static ngx_int_t ngx_webtorch_exit_python(ngx_cycle_t *cycle);
static void *ngx_webtorch_exit_thread(void *data);


/* Python has begun to stop, and a call still runs */
static ngx_atomic_t  ngx_webtorch_exit_begun;
static ngx_atomic_t  ngx_webtorch_exit_busy;


static ngx_core_module_t  ngx_webtorch_module_ctx = {
    ngx_string("webtorch"),
    ngx_webtorch_create_conf,
    ngx_webtorch_init_conf
};


ngx_module_t  ngx_webtorch_module = {
    NGX_MODULE_V1,
    &ngx_webtorch_module_ctx,              /* module context */
    NULL,                                  /* module directives */
    NGX_CORE_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_webtorch_init_module,              /* init module */
    ngx_webtorch_init_process,             /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_webtorch_exit_process,             /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static void *
ngx_webtorch_create_conf(ngx_cycle_t *cycle)
{
    ngx_webtorch_conf_t  *conf;

    conf = ngx_pcalloc(cycle->pool, sizeof(ngx_webtorch_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->python = { 0, NULL };
     *     conf->zone_name = { 0, NULL };
     *     conf->zone_size = 0;
     *     conf->zone = NULL;
     *     conf->locations = NULL;
     *     conf->checkpoint = NULL;
     *     conf->store = NULL;
     *     conf->cluster = NULL;
     *     conf->logged = 0;
     *     conf->watch = 0;
     */

    conf->path = ngx_array_create(cycle->pool, 2, sizeof(ngx_str_t));
    if (conf->path == NULL) {
        return NULL;
    }

    conf->preload = ngx_array_create(cycle->pool, 2, sizeof(ngx_str_t));
    if (conf->preload == NULL) {
        return NULL;
    }

    if (ngx_array_init(&conf->handlers, cycle->pool, 4,
                       sizeof(ngx_webtorch_handler_t *))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_array_init(&conf->endpoints, cycle->pool, 4,
                       sizeof(ngx_webtorch_endpoint_t))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_array_init(&conf->balancers, cycle->pool, 4,
                       sizeof(ngx_webtorch_balancer_t *))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_array_init(&conf->splits, cycle->pool, 2,
                       sizeof(ngx_webtorch_split_t *))
        != NGX_OK)
    {
        return NULL;
    }

    conf->threads = NGX_CONF_UNSET;
    conf->metrics = NGX_CONF_UNSET;
    conf->worker_memory = NGX_CONF_UNSET_SIZE;
    conf->reload = NGX_CONF_UNSET;

    return conf;
}


static char *
ngx_webtorch_init_conf(ngx_cycle_t *cycle, void *data)
{
    ngx_webtorch_conf_t *conf = data;

    char              error[NGX_WEBTORCH_MESSAGE_LEN];
    ngx_core_conf_t  *ccf;

    ngx_conf_init_value(conf->metrics, 1);

    /* "nginx -s" only sends a signal */

    if (ngx_process == NGX_PROCESS_SIGNALLER || conf->handlers.nelts == 0) {
        return NGX_CONF_OK;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (conf->threads == NGX_CONF_UNSET) {
        conf->threads = ngx_max(1, ngx_ncpu / ngx_max(1,
                                                     ccf->worker_processes));
    }

    if (conf->checkpoint && conf->zone_size == 0) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "\"webtorch_checkpoint\" requires "
                      "\"webtorch_zone\" in %s:%ui",
                      conf->checkpoint->conf_file, conf->checkpoint->line);
        return NGX_CONF_ERROR;
    }

    if (conf->store && conf->zone_size == 0) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "\"webtorch_checkpoint\" requires "
                      "\"webtorch_zone\" in %s:%ui",
                      conf->store->directive.file, conf->store->directive.line);
        return NGX_CONF_ERROR;
    }

    if (conf->cluster && conf->zone_size == 0) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "\"webtorch_cluster\" requires \"webtorch_zone\" "
                      "in %s:%uD", conf->cluster->file, conf->cluster->line);
        return NGX_CONF_ERROR;
    }

    if (ngx_webtorch_set_python(cycle, conf) != NGX_OK
        || ngx_webtorch_default_preload(cycle, conf) != NGX_OK
        || ngx_webtorch_zone_init(cycle, conf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (ngx_webtorch_python_start(conf, error) != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "webtorch: %s", error);
        return NGX_CONF_ERROR;
    }

    if (ngx_webtorch_check(cycle, conf) != NGX_OK
        || ngx_webtorch_handlers_add_lives(cycle, &conf->handlers) != NGX_OK
        || ngx_webtorch_endpoints_init(cycle, conf) != NGX_OK
        || ngx_webtorch_owner_init(cycle, conf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* a directory is a virtual environment: its interpreter is used */

static ngx_int_t
ngx_webtorch_set_python(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    char             *host;
    u_char           *p;
    ngx_file_info_t   fi;

    host = ngx_webtorch_python_host();

    if (host) {
        if (conf->python.len != 0) {
            ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                          "\"webtorch_python\" is ignored, as nginx is a "
                          "library of the interpreter %s", host);
        }

        conf->python.data = (u_char *) host;
        conf->python.len = ngx_strlen(host);

        return NGX_OK;
    }

    if (conf->python.len == 0) {
        ngx_str_set(&conf->python, NGX_WEBTORCH_PYTHON);
    }

    if (ngx_file_info(conf->python.data, &fi) == NGX_FILE_ERROR) {
        ngx_webtorch_python_log(cycle, conf, ngx_errno,
                                "\"webtorch_python\": \"%V\" not found%Z");
        return NGX_ERROR;
    }

    if (!ngx_is_dir(&fi)) {
        return NGX_OK;
    }

    /* Python 3.14 would have a second slash in sys.prefix */

    while (conf->python.len > 1
           && conf->python.data[conf->python.len - 1] == '/')
    {
        conf->python.len--;
    }

    p = ngx_pnalloc(cycle->pool, conf->python.len + sizeof("/bin/python"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    conf->python.len = (size_t) (ngx_sprintf(p, "%V/bin/python%Z",
                                             &conf->python)
                                 - p - 1);
    conf->python.data = p;

    if (access((char *) p, X_OK) == -1) {
        ngx_webtorch_python_log(cycle, conf, ngx_errno,
                                "\"webtorch_python\": no interpreter \"%V\", "
                                "is the directory a virtual environment?%Z");
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* fmt is that of the interpreter's name */

static void
ngx_webtorch_python_log(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf,
    ngx_err_t err, const char *fmt)
{
    char  error[NGX_WEBTORCH_MESSAGE_LEN];

    (void) ngx_snprintf((u_char *) error, NGX_WEBTORCH_MESSAGE_LEN, fmt,
                        &conf->python);
    error[NGX_WEBTORCH_MESSAGE_LEN - 1] = '\0';

    ngx_webtorch_python_add_directive(error, &conf->python_directive);

    ngx_log_error(NGX_LOG_EMERG, cycle->log, err, "%s", error);
}


static ngx_int_t
ngx_webtorch_default_preload(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    ngx_str_t  *name;

    if (conf->preload->nelts != 0) {
        return NGX_OK;
    }

    name = ngx_array_push(conf->preload);
    if (name == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(name, "torch");

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_init_module(ngx_cycle_t *cycle)
{
    ngx_webtorch_conf_t  *conf;

    conf = ngx_webtorch_get_conf(cycle);

    if (conf->zone) {
        ngx_webtorch_graceful_announce(cycle, conf);
    }

    ngx_webtorch_metrics_init(cycle, conf);
    ngx_webtorch_accept_init(cycle, conf);
    ngx_webtorch_drain_init(cycle->log);

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_init_process(ngx_cycle_t *cycle)
{
    int                       signals[2];
    char                      error[NGX_WEBTORCH_MESSAGE_LEN];
    sigset_t                  mask;
    ngx_uint_t                i;
    ngx_webtorch_conf_t      *conf;
    ngx_webtorch_handler_t  **handler;

    conf = ngx_webtorch_get_conf(cycle);

    if ((ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
        || conf->handlers.nelts == 0)
    {
        return NGX_OK;
    }

    ngx_webtorch_resident_keep();

    if (ngx_webtorch_fork_init(cycle->log) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_webtorch_python_child(conf, error) != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "webtorch: %s", error);
        return NGX_ERROR;
    }

    if (ngx_webtorch_runner_init_process(cycle, conf->threads) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_webtorch_posted_init_process();

    ngx_webtorch_metrics_init_process(conf, cycle->log);
    ngx_webtorch_metrics_handlers_init(&conf->handlers, cycle->log);
    ngx_webtorch_splits_init_process(conf);

    ngx_webtorch_zone_use(conf, cycle->log);
    ngx_webtorch_worker_init(conf, cycle->log);
    ngx_webtorch_block_init();
    ngx_webtorch_upkeep_init(cycle->log);
    ngx_webtorch_owner_init_process(conf, cycle->log);

    ngx_webtorch_thread_block_signals(&mask);

    ngx_webtorch_stuck_signals(&conf->handlers, signals);

    ngx_webtorch_python_begin(conf, 0, signals, ngx_webtorch_block_replaced);

    handler = conf->handlers.elts;

    for (i = 0; i < conf->handlers.nelts; i++) {
        ngx_webtorch_load(cycle, conf, handler[i]);
    }

    ngx_webtorch_python_loaded();
    ngx_webtorch_async_watch();
    ngx_webtorch_graceful_init(conf, cycle->log);
    ngx_webtorch_memory_init(conf, cycle->log);
    ngx_webtorch_metrics_worker_init(cycle->log);

    ngx_webtorch_thread_restore_signals(&mask);

    if (ngx_webtorch_accept_init_process(cycle, conf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_webtorch_offload_recv_init_process(cycle, conf) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_webtorch_balancers_init_process(cycle, conf);
    ngx_webtorch_learner_init_process(cycle, conf);

    return ngx_webtorch_stuck_init_process(cycle, &conf->handlers);
}


/*
 * A handler that loaded while the configuration was read may fail now, for
 * example if a worker crashed and its code has changed.  Then its requests are
 * answered with 503 and all others are served.
 */

static void
ngx_webtorch_load(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf,
    ngx_webtorch_handler_t *handler)
{
    char               error[NGX_WEBTORCH_MESSAGE_LEN];
    webtorch_schema_t  schema;

    if (ngx_webtorch_python_load(handler, &schema, error) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, cycle->log, 0,
                      "webtorch handler \"%V\": %s in %V:%ui",
                      &handler->name, error, &handler->file, handler->line);
        return;
    }

    if (handler->loaded && ngx_webtorch_schema_valid(&schema) == 0) {
        handler->schema = schema;
        ngx_webtorch_handler_adapt(handler);
    }

    if (ngx_memcmp(&schema, &handler->schema, sizeof(schema)) != 0) {
        ngx_log_error(NGX_LOG_ERR, cycle->log, 0,
                      "webtorch handler \"%V\" has another signature than "
                      "when the configuration was read, reload nginx",
                      &handler->name);
        return;
    }

    if (handler->policy) {
        return;
    }

    if (handler->offloaded) {
        /* a call that hangs or takes long is one of the owner */
        handler->stuck = 0;
        handler->slow = 0;
    }

    handler->timed = (handler->metrics || conf->logged);
    handler->watch = conf->watch;

    handler->runner = ngx_webtorch_runner_create(cycle, handler);

    if (handler->start
        && handler->runner
        && handler->start(cycle, handler) != NGX_OK)
    {
        handler->runner = NULL;
    }
}


static void
ngx_webtorch_exit_process(ngx_cycle_t *cycle)
{
    ngx_int_t             rc;
    ngx_webtorch_conf_t  *conf;

    conf = ngx_webtorch_get_conf(cycle);

    if (conf->zone == NULL || ngx_process == NGX_PROCESS_HELPER) {
        return;
    }

    ngx_webtorch_balancers_exit_process(conf);
    ngx_webtorch_stuck_exit_process();

    rc = ngx_webtorch_learner_exit_process(cycle);

    ngx_webtorch_offload_recv_exit_process();

    /* calls that wait for batches return now */

    if (ngx_webtorch_posted_exit_process() != NGX_OK) {
        rc = NGX_BUSY;
    }

    if (ngx_webtorch_runner_exit_process(cycle, &conf->handlers) != NGX_OK) {
        rc = NGX_BUSY;
    }

    if (ngx_webtorch_exit_python(cycle) != NGX_OK) {
        rc = NGX_BUSY;
    }

    ngx_webtorch_metrics_exit_process();
    ngx_webtorch_worker_exit();

    /* threads of applications may be running even if none of handlers is */

    if (rc == NGX_BUSY
        || ngx_webtorch_exit_busy
        || ngx_webtorch_exit_without_destructors(cycle->log) != NGX_OK)
    {
        ngx_webtorch_exit_now(cycle);
    }
}


/*
 * Python stops its own threads and writes the last checkpoint.  This is done in
 * a thread, as a handler that is still running may never release the GIL.
 */

static ngx_int_t
ngx_webtorch_exit_python(ngx_cycle_t *cycle)
{
    time_t     timeout;
    pthread_t  thread;

    ngx_webtorch_exit_begun = 0;

    if (ngx_webtorch_thread_create(&thread, ngx_webtorch_exit_thread, NULL,
                                   cycle->log)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    timeout = NGX_WEBTORCH_EXIT_TIMEOUT;

    if (ngx_webtorch_stuck_found()) {
        timeout = NGX_WEBTORCH_EXIT_STUCK;

        if (ngx_webtorch_thread_join(thread, timeout) == NGX_OK) {
            return NGX_OK;
        }

        if (ngx_webtorch_exit_begun) {
            timeout = NGX_WEBTORCH_EXIT_TIMEOUT;
        }
    }

    if (timeout == NGX_WEBTORCH_EXIT_TIMEOUT
        && ngx_webtorch_thread_join(thread, timeout) == NGX_OK)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                  "webtorch: Python did not stop within %T s, exiting before "
                  "checkpoints and exit functions are complete", timeout);

    return NGX_BUSY;
}


static void *
ngx_webtorch_exit_thread(void *data)
{
    ngx_webtorch_python_wait();
    ngx_webtorch_exit_begun = 1;

    if (ngx_webtorch_python_exit() != NGX_OK) {
        ngx_webtorch_exit_busy = 1;
    }

    return NULL;
}
