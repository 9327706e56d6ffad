
#include "ngx_http_webtorch_health.h"
#include "ngx_http_webtorch.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_status.h"
#include "ngx_http_webtorch_status_snapshot.h"
#include "ngx_http_webtorch_status_writer.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_drain.h"
#include "ngx_webtorch_handoff.h"
#include "ngx_webtorch_path.h"
#include "ngx_webtorch_runner.h"
#include "ngx_webtorch_training.h"


/* bytes of a reason beside the name in it */
#define NGX_HTTP_WEBTORCH_REASON_LEN     128

/* microseconds after which other workers should have taken over to learn */
#define NGX_HTTP_WEBTORCH_LEARNER_DEAD   60000000


/* configuration of a location */

typedef struct {
    ngx_uint_t                          ready;      /* or live */
    ngx_str_t                           drain;      /* a file; empty: none */
} ngx_http_webtorch_health_t;


typedef struct {
    ngx_http_webtorch_status_writer_t   w;
    ngx_uint_t                          json;
    ngx_uint_t                          verbose;    /* with what is not wrong */
    ngx_uint_t                          nreasons;
} ngx_http_webtorch_health_answer_t;


static char *ngx_http_webtorch_health_option(ngx_conf_t *cf,
    ngx_http_webtorch_health_t *health, ngx_str_t *option);
static ngx_int_t ngx_http_webtorch_health_handler(ngx_http_request_t *r);
static ngx_uint_t ngx_http_webtorch_health_wants_json(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_health_check(ngx_http_request_t *r,
    ngx_http_webtorch_health_t *health, ngx_http_webtorch_health_answer_t *a);
static void ngx_http_webtorch_health_check_handlers(
    ngx_http_webtorch_snapshot_t *snapshot,
    ngx_http_webtorch_health_answer_t *a);
static ngx_uint_t ngx_http_webtorch_health_is_asked(
    ngx_webtorch_handler_t *handler, ngx_webtorch_handler_t *other);
static ngx_int_t ngx_http_webtorch_health_check_handler(
    ngx_http_webtorch_snapshot_t *snapshot, ngx_webtorch_handler_t *handler,
    ngx_http_webtorch_health_answer_t *a);
static ngx_uint_t ngx_http_webtorch_health_full(
    ngx_http_webtorch_snapshot_t *snapshot, ngx_webtorch_handler_t *handler);
static void ngx_http_webtorch_health_check_learners(
    ngx_http_webtorch_snapshot_t *snapshot,
    ngx_http_webtorch_health_answer_t *a);
static void ngx_http_webtorch_health_add(ngx_http_webtorch_health_answer_t *a,
    const char *fmt, ...);
static void ngx_http_webtorch_health_passed(
    ngx_http_webtorch_health_answer_t *a, ngx_str_t *name);
static ngx_int_t ngx_http_webtorch_health_send(ngx_http_request_t *r,
    ngx_http_webtorch_health_t *health, ngx_http_webtorch_health_answer_t *a);


char *
ngx_http_webtorch_conf_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_loc_conf_t *wlcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    ngx_uint_t                   i;
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_webtorch_health_t  *health;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return (clcf->handler == ngx_http_webtorch_health_handler)
                   ? "is duplicate" : "conflicts with another handler";
    }

    health = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_health_t));
    if (health == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "ready") == 0) {
        health->ready = 1;

    } else if (ngx_strcmp(value[1].data, "live") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\", it must be \"live\" or "
                           "\"ready\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {
        rv = ngx_http_webtorch_health_option(cf, health, &value[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    wlcf->health = health;
    clcf->handler = ngx_http_webtorch_health_handler;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_health_option(ngx_conf_t *cf,
    ngx_http_webtorch_health_t *health, ngx_str_t *option)
{
    if (!health->ready
        || option->len <= sizeof("drain=") - 1
        || ngx_strncmp(option->data, "drain=", sizeof("drain=") - 1) != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                           option);
        return NGX_CONF_ERROR;
    }

    health->drain.data = option->data + sizeof("drain=") - 1;
    health->drain.len = option->len - (sizeof("drain=") - 1);

    if (ngx_webtorch_full_name(cf->cycle, &health->drain, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_webtorch_health_handler(ngx_http_request_t *r)
{
    ngx_int_t                           rc;
    ngx_str_t                           value;
    ngx_http_webtorch_health_t         *health;
    ngx_http_webtorch_loc_conf_t       *wlcf;
    ngx_http_webtorch_health_answer_t   answer;

    ngx_memzero(&answer, sizeof(ngx_http_webtorch_health_answer_t));

    rc = ngx_http_webtorch_status_begin(r, &answer.w);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_webtorch_not_allowed(r, WEBTORCH_GET|WEBTORCH_HEAD);
    }

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);
    health = wlcf->health;

    answer.json = ngx_http_webtorch_health_wants_json(r);
    answer.verbose = (ngx_http_arg(r, (u_char *) "verbose", 7, &value)
                      == NGX_OK
                      || (r->args.len == 7
                          && ngx_memcmp(r->args.data, "verbose", 7) == 0));

    if (answer.json) {
        ngx_http_webtorch_status_puts(&answer.w, "{\"reasons\":[");
    }

    if (health->ready
        && ngx_http_webtorch_health_check(r, health, &answer) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_health_send(r, health, &answer);
}


/* "Accept: application/json", as clients of the inference protocol send */

static ngx_uint_t
ngx_http_webtorch_health_wants_json(ngx_http_request_t *r)
{
    ngx_str_t  value;

    if (ngx_http_arg(r, (u_char *) "format", 6, &value) == NGX_OK) {
        return value.len == 4 && ngx_memcmp(value.data, "json", 4) == 0;
    }

    if (ngx_http_webtorch_join_headers(r, "accept", &value) != NGX_OK) {
        return 0;
    }

    return ngx_strlcasestrn(value.data, value.data + value.len,
                            (u_char *) "application/json",
                            sizeof("application/json") - 2)
           != NULL;
}


static ngx_int_t
ngx_http_webtorch_health_check(ngx_http_request_t *r,
    ngx_http_webtorch_health_t *health, ngx_http_webtorch_health_answer_t *a)
{
    ngx_file_info_t               fi;
    ngx_http_webtorch_snapshot_t  snapshot;

    if (ngx_webtorch_drain_get()) {
        ngx_http_webtorch_health_add(a, "the server is drained by an operator");
    }

    if (health->drain.len
        && ngx_file_info(health->drain.data, &fi) != NGX_FILE_ERROR)
    {
        ngx_http_webtorch_health_add(a, "the server is drained");
    }

    if (ngx_http_webtorch_snapshot_take(r, &snapshot) != NGX_OK) {
        return NGX_ERROR;
    }

    if (snapshot.conf->cluster && !ngx_webtorch_rounds_joined()) {
        ngx_http_webtorch_health_add(a, "the models of the cluster are not "
                                     "here yet");
    }

    ngx_http_webtorch_health_check_handlers(&snapshot, a);
    ngx_http_webtorch_health_check_learners(&snapshot, a);

    return NGX_OK;
}


static void
ngx_http_webtorch_health_check_handlers(ngx_http_webtorch_snapshot_t *snapshot,
    ngx_http_webtorch_health_answer_t *a)
{
    ngx_uint_t                i, k, n;
    ngx_webtorch_handler_t  **handler;

    handler = snapshot->conf->handlers.elts;
    n = snapshot->conf->handlers.nelts;

    for (i = 0; i < n; i++) {

        /* one line for a function, which several directives may name */

        for (k = 0; k < i; k++) {
            if (ngx_http_webtorch_health_is_asked(handler[k], handler[i])) {
                break;
            }
        }

        if (k < i || !ngx_http_webtorch_health_is_asked(handler[i], handler[i]))
        {
            continue;
        }

        for ( /* void */ ; k < n; k++) {
            if (ngx_http_webtorch_health_is_asked(handler[k], handler[i])
                && ngx_http_webtorch_health_check_handler(snapshot, handler[k],
                                                          a)
                   != NGX_OK)
            {
                break;
            }
        }

        if (k == n) {
            ngx_http_webtorch_health_passed(a, &handler[i]->name);
        }
    }
}


/* whether clients get responses of a handler, which is of a function */

static ngx_uint_t
ngx_http_webtorch_health_is_asked(ngx_webtorch_handler_t *handler,
    ngx_webtorch_handler_t *other)
{
    return !handler->policy
           && !handler->shadowed
           && handler->name.len == other->name.len
           && ngx_memcmp(handler->name.data, other->name.data,
                         other->name.len)
              == 0;
}


/*
 * A queue is full in this worker, or was so just now in any of them.  Each
 * of several directives for a function has its own.  NGX_DECLINED: a reason was
 * added.
 */

static ngx_int_t
ngx_http_webtorch_health_check_handler(ngx_http_webtorch_snapshot_t *snapshot,
    ngx_webtorch_handler_t *handler, ngx_http_webtorch_health_answer_t *a)
{
    ngx_uint_t  full;

    if (handler->runner == NULL) {
        ngx_http_webtorch_health_add(a, "%V is not loaded", &handler->name);
        return NGX_DECLINED;
    }

    if (handler->offloaded
        && !ngx_webtorch_handoff_served(snapshot->conf->handoff,
                                        handler->offload_slot))
    {
        ngx_http_webtorch_health_add(a, "the owner of the device does not run "
                                     "%V", &handler->name);
        return NGX_DECLINED;
    }

    full = ngx_http_webtorch_health_full(snapshot, handler);

    if (full) {
        ngx_http_webtorch_health_add(a, "queue of %V is full since %ui s",
                                     &handler->name, full);
        return NGX_DECLINED;
    }

    if (!handler->deferred && ngx_webtorch_runner_full(handler->runner, 0)) {
        ngx_http_webtorch_health_add(a, "queue of %V is full", &handler->name);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* seconds; 0: it is not, or nothing is counted */

static ngx_uint_t
ngx_http_webtorch_health_full(ngx_http_webtorch_snapshot_t *snapshot,
    ngx_webtorch_handler_t *handler)
{
    ngx_uint_t                        i;
    ngx_http_webtorch_status_item_t  *item;

    if (handler->series == NULL) {
        return 0;
    }

    item = snapshot->handlers.elts;

    for (i = 0; i < snapshot->handlers.nelts; i++) {
        if (item[i].series == handler->series) {
            return ngx_http_webtorch_snapshot_full(snapshot, &item[i]);
        }
    }

    return 0;
}


/* an interval of 0: the policy was not loaded */

static void
ngx_http_webtorch_health_check_learners(ngx_http_webtorch_snapshot_t *snapshot,
    ngx_http_webtorch_health_answer_t *a)
{
    uint64_t                  passed;
    ngx_uint_t                i;
    ngx_webtorch_balancer_t  *balancer, **balancers;

    balancers = snapshot->conf->balancers.elts;

    for (i = 0; i < snapshot->conf->balancers.nelts; i++) {
        balancer = balancers[i];

        if (balancer->policy->interval == 0) {
            ngx_http_webtorch_health_add(a, "policy of upstream %V is not "
                                         "loaded", &balancer->name);
            continue;
        }

        ngx_shmtx_lock(balancer->mutex);
        passed = balancer->memory->learned
                 ? ngx_webtorch_elapsed_usec(snapshot->now,
                                             balancer->memory->learned)
                 : 0;
        ngx_shmtx_unlock(balancer->mutex);

        if (passed > NGX_HTTP_WEBTORCH_LEARNER_DEAD
                     + balancer->policy->interval * 1000)
        {
            ngx_http_webtorch_health_add(a, "policy of upstream %V has not "
                                         "learned for %uL s", &balancer->name,
                                         passed / 1000000);
            continue;
        }

        ngx_http_webtorch_health_passed(a, &balancer->name);
    }
}


/* as Kubernetes' own servers write it, or as a string of JSON */

static void
ngx_http_webtorch_health_add(ngx_http_webtorch_health_answer_t *a,
    const char *fmt, ...)
{
    u_char   text[NGX_HTTP_WEBTORCH_REASON_LEN + NGX_WEBTORCH_METRICS_KEY];
    u_char  *last;
    va_list  args;

    va_start(args, fmt);
    last = ngx_vslprintf(text, text + sizeof(text), fmt, args);
    va_end(args);

    if (a->json) {
        ngx_http_webtorch_status_puts(&a->w, a->nreasons ? ",\"" : "\"");
        ngx_http_webtorch_status_escape(&a->w, text, (size_t) (last - text));
        ngx_http_webtorch_status_puts(&a->w, "\"");

    } else {
        ngx_http_webtorch_status_puts(&a->w, "[-]");
        ngx_http_webtorch_status_write(&a->w, text, (size_t) (last - text));
        ngx_http_webtorch_status_puts(&a->w, "\n");
    }

    a->nreasons++;
}


static void
ngx_http_webtorch_health_passed(ngx_http_webtorch_health_answer_t *a,
    ngx_str_t *name)
{
    if (!a->verbose || a->json) {
        return;
    }

    ngx_http_webtorch_status_puts(&a->w, "[+]");
    ngx_http_webtorch_status_write(&a->w, name->data, name->len);
    ngx_http_webtorch_status_puts(&a->w, " ok\n");
}


static ngx_int_t
ngx_http_webtorch_health_send(ngx_http_request_t *r,
    ngx_http_webtorch_health_t *health, ngx_http_webtorch_health_answer_t *a)
{
    ngx_str_t  type;

    if (a->json) {
        ngx_str_set(&type, "application/json");
        ngx_http_webtorch_status_puts(&a->w, health->ready ? "],\"ready\":"
                                                           : "],\"live\":");
        ngx_http_webtorch_status_puts(&a->w, a->nreasons ? "false}\n"
                                                         : "true}\n");

    } else {
        ngx_str_set(&type, "text/plain; charset=utf-8");
        ngx_http_webtorch_status_puts(&a->w, a->nreasons
                                             ? "readiness check failed\n"
                                             : "ok\n");
    }

    return ngx_http_webtorch_status_send(r, a->nreasons
                                            ? NGX_HTTP_SERVICE_UNAVAILABLE
                                            : NGX_HTTP_OK,
                                         &a->w, &type);
}
