
#include "ngx_http_webtorch_status_balancers.h"


static void ngx_http_webtorch_text_servers(ngx_http_webtorch_family_t *f,
    ngx_http_webtorch_status_balancer_t *sb,
    double (*get)(ngx_http_webtorch_status_server_t *server));
static double ngx_http_webtorch_server_picks(
    ngx_http_webtorch_status_server_t *server);
static double ngx_http_webtorch_server_inflight(
    ngx_http_webtorch_status_server_t *server);
static double ngx_http_webtorch_server_service(
    ngx_http_webtorch_status_server_t *server);
static double ngx_http_webtorch_server_concurrency(
    ngx_http_webtorch_status_server_t *server);
static double ngx_http_webtorch_server_error(
    ngx_http_webtorch_status_server_t *server);
static double ngx_http_webtorch_server_ejected(
    ngx_http_webtorch_status_server_t *server);
static double ngx_http_webtorch_server_out(
    ngx_http_webtorch_status_server_t *server);
static double ngx_http_webtorch_server_ejections(
    ngx_http_webtorch_status_server_t *server);


void
ngx_http_webtorch_status_balancers(ngx_http_webtorch_family_t *f)
{
    u_char                                buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                             labels;
    ngx_uint_t                            i, k, n;
    ngx_http_webtorch_status_balancer_t  *sb;

    static struct {
        const char   *name;
        const char   *type;
        const char   *unit;
        const char   *help;
        double      (*get)(ngx_http_webtorch_status_server_t *server);
    } fields[] = {
        { "webtorch_balancer_picks_total", "counter", NULL,
          "Requests that were sent to the server.",
          ngx_http_webtorch_server_picks },
        { "webtorch_balancer_ejections_total", "counter", NULL,
          "How often the server was ejected.",
          ngx_http_webtorch_server_ejections },
        { "webtorch_balancer_ejected", "gauge", NULL,
          "1: the server is ejected.", ngx_http_webtorch_server_ejected },
        { "webtorch_balancer_ejected_by_order", "gauge", NULL,
          "1: an operator has ejected the server.",
          ngx_http_webtorch_server_out },
        { "webtorch_balancer_in_flight", "gauge", NULL,
          "Requests without an answer yet.",
          ngx_http_webtorch_server_inflight },
        { "webtorch_balancer_service_seconds", "gauge", "seconds",
          "Estimated time of a single request.",
          ngx_http_webtorch_server_service },
        { "webtorch_balancer_concurrency", "gauge", NULL,
          "Estimated requests that the server works on at once.",
          ngx_http_webtorch_server_concurrency },
        { "webtorch_balancer_error_ratio", "gauge", NULL,
          "Share of failures.", ngx_http_webtorch_server_error }
    };

    sb = f->snapshot->balancers.elts;
    n = f->snapshot->balancers.nelts;

    for (k = 0; n && k < sizeof(fields) / sizeof(fields[0]); k++) {

        if (!ngx_http_webtorch_family(f, fields[k].name, fields[k].type,
                                      fields[k].unit, fields[k].help))
        {
            continue;
        }

        for (i = 0; i < n; i++) {
            ngx_http_webtorch_text_servers(f, &sb[i], fields[k].get);
        }
    }

    for (k = 0; n && k < 2; k++) {

        if (!ngx_http_webtorch_family(f, k ? "webtorch_balancer_baseline_loss"
                                           : "webtorch_balancer_loss",
                                      "gauge", NULL,
                                      k ? "Loss with a constant correction."
                                        : "Loss of the learner."))
        {
            continue;
        }

        for (i = 0; i < n; i++) {
            if (!sb[i].learned) {
                continue;
            }

            ngx_http_webtorch_label(&labels, buf, "upstream",
                                         &sb[i].balancer->name);
            ngx_http_webtorch_sample_number(f, &labels,
                                            k ? sb[i].baseline : sb[i].loss);
        }
    }
}


static void
ngx_http_webtorch_text_servers(ngx_http_webtorch_family_t *f,
    ngx_http_webtorch_status_balancer_t *sb,
    double (*get)(ngx_http_webtorch_status_server_t *server))
{
    u_char                             *p, buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                           labels;
    ngx_uint_t                          i;
    ngx_http_webtorch_status_server_t  *server;

    server = sb->servers.elts;

    ngx_http_webtorch_label(&labels, buf, "upstream",
                                 &sb->balancer->name);

    p = labels.data + labels.len;

    for (i = 0; i < sb->servers.nelts; i++) {
        labels.len = ngx_sprintf(p, ",server=\"%V\"", &server[i].name) - buf;

        ngx_http_webtorch_sample_number(f, &labels, get(&server[i]));
    }
}


static double
ngx_http_webtorch_server_picks(ngx_http_webtorch_status_server_t *server)
{
    return (double) server->picks;
}


static double
ngx_http_webtorch_server_inflight(ngx_http_webtorch_status_server_t *server)
{
    return server->server.inflight;
}


static double
ngx_http_webtorch_server_service(ngx_http_webtorch_status_server_t *server)
{
    return server->server.service;
}


static double
ngx_http_webtorch_server_concurrency(ngx_http_webtorch_status_server_t *server)
{
    return server->server.concurrency;
}


static double
ngx_http_webtorch_server_error(ngx_http_webtorch_status_server_t *server)
{
    return server->server.error;
}


static double
ngx_http_webtorch_server_ejected(ngx_http_webtorch_status_server_t *server)
{
    return server->server.ejected;
}


static double
ngx_http_webtorch_server_out(ngx_http_webtorch_status_server_t *server)
{
    return (double) server->out;
}


static double
ngx_http_webtorch_server_ejections(ngx_http_webtorch_status_server_t *server)
{
    return (double) server->ejections;
}
