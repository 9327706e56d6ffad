
#include "ngx_http_webtorch_cluster_conf.h"
#include "ngx_http_webtorch_cluster_secret.h"


#define NGX_HTTP_WEBTORCH_CLUSTER_PORT      7610

/* bytes of names and ids, which are parts of keys and of messages */
#define NGX_HTTP_WEBTORCH_CLUSTER_NAME      63

/* hosts at a time, and milliseconds between them, of "rollout=" */
#define NGX_HTTP_WEBTORCH_CLUSTER_HOSTS     1000
#define NGX_HTTP_WEBTORCH_CLUSTER_PAUSE     30000


typedef char *(*ngx_http_webtorch_cluster_set_pt)(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);


typedef struct {
    ngx_str_t                          name;         /* with "=" */
    ngx_http_webtorch_cluster_set_pt   set;
} ngx_http_webtorch_cluster_param_t;


static char *ngx_http_webtorch_cluster_set_coordinator(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);
static char *ngx_http_webtorch_cluster_set_id(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);
static char *ngx_http_webtorch_cluster_set_address(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);
static char *ngx_http_webtorch_cluster_set_guest(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);
static char *ngx_http_webtorch_cluster_set_port(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);
static char *ngx_http_webtorch_cluster_set_interval(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);
static char *ngx_http_webtorch_cluster_set_timeout(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);
static char *ngx_http_webtorch_cluster_set_compress(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);
static char *ngx_http_webtorch_cluster_set_outer(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);
static char *ngx_http_webtorch_cluster_set_rollout(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);
static char *ngx_http_webtorch_cluster_check(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_uint_t off);
static ngx_int_t ngx_http_webtorch_cluster_resolve(ngx_conf_t *cf,
    webtorch_cluster_t *cluster);
static ngx_uint_t ngx_http_webtorch_cluster_is_loopback(const char *address);
static ngx_uint_t ngx_http_webtorch_cluster_is_name(ngx_str_t *name);
static ngx_int_t ngx_http_webtorch_cluster_fraction(ngx_str_t *value,
    double *number);


/* returned by a setter whose value is malformed */
static char  ngx_http_webtorch_cluster_invalid[] = "is invalid";


static ngx_http_webtorch_cluster_param_t  ngx_http_webtorch_cluster_params[] = {
    { ngx_string("coordinator="), ngx_http_webtorch_cluster_set_coordinator },
    { ngx_string("id="), ngx_http_webtorch_cluster_set_id },
    { ngx_string("address="), ngx_http_webtorch_cluster_set_address },
    { ngx_string("guest="), ngx_http_webtorch_cluster_set_guest },
    { ngx_string("port="), ngx_http_webtorch_cluster_set_port },
    { ngx_string("interval="), ngx_http_webtorch_cluster_set_interval },
    { ngx_string("timeout="), ngx_http_webtorch_cluster_set_timeout },
    { ngx_string("compress="), ngx_http_webtorch_cluster_set_compress },
    { ngx_string("outer="), ngx_http_webtorch_cluster_set_outer },
    { ngx_string("rollout="), ngx_http_webtorch_cluster_set_rollout },
    { ngx_string("secret="), ngx_http_webtorch_cluster_secret },
    { ngx_null_string, NULL }
};


char *
ngx_http_webtorch_conf_cluster(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_webtorch_conf_t *wcf = conf;

    char                               *rc;
    ngx_str_t                          *args, value;
    ngx_uint_t                          i, off;
    webtorch_cluster_t                 *cluster;
    ngx_http_webtorch_cluster_param_t  *param;

    if (wcf->cluster) {
        return "is duplicate";
    }

    cluster = ngx_pcalloc(cf->pool, sizeof(webtorch_cluster_t));
    if (cluster == NULL) {
        return NGX_CONF_ERROR;
    }

    args = cf->args->elts;

    if (!ngx_http_webtorch_cluster_is_name(&args[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name of a cluster \"%V\"", &args[1]);
        return NGX_CONF_ERROR;
    }

    cluster->name = (char *) args[1].data;
    cluster->port = NGX_HTTP_WEBTORCH_CLUSTER_PORT;
    cluster->interval = 1000;
    cluster->timeout = 5000;
    cluster->file = (char *) cf->conf_file->file.name.data;
    cluster->line = (uint32_t) cf->conf_file->line;

    off = 0;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strcmp(args[i].data, "secret=off") == 0) {
            off = 1;
            continue;
        }

        for (param = ngx_http_webtorch_cluster_params; param->set; param++) {

            if (args[i].len > param->name.len
                && ngx_strncmp(args[i].data, param->name.data, param->name.len)
                   == 0)
            {
                break;
            }
        }

        rc = ngx_http_webtorch_cluster_invalid;

        if (param->set) {
            value.data = args[i].data + param->name.len;
            value.len = args[i].len - param->name.len;

            rc = param->set(cf, cluster, &value);
        }

        if (rc == ngx_http_webtorch_cluster_invalid) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &args[i]);
            return NGX_CONF_ERROR;
        }

        if (rc != NGX_CONF_OK) {
            return rc;
        }
    }

    rc = ngx_http_webtorch_cluster_check(cf, cluster, off);

    if (rc == NGX_CONF_OK) {
        wcf->cluster = cluster;
    }

    return rc;
}


/* "host:port"; the name is resolved again at each attempt */

static char *
ngx_http_webtorch_cluster_set_coordinator(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value)
{
    u_char     *colon, *last;
    ngx_int_t   port;
    ngx_str_t   host;

    last = value->data + value->len;

    for (colon = last - 1; colon > value->data && *colon != ':'; colon--) {
        /* void */
    }

    if (colon == value->data) {
        return "needs \"coordinator=host:port\"";
    }

    port = ngx_atoi(colon + 1, last - colon - 1);

    if (port < 1 || port > 65535) {
        return ngx_http_webtorch_cluster_invalid;
    }

    host.data = value->data;
    host.len = colon - value->data;

    if (host.data[0] == '[' && host.data[host.len - 1] == ']') {
        host.data++;
        host.len -= 2;
    }

    host.data = ngx_pstrdup(cf->pool, &host);
    colon = ngx_pnalloc(cf->pool, host.len + 1);

    if (host.data == NULL || colon == NULL) {
        return "has no memory";
    }

    (void) ngx_cpystrn(colon, host.data, host.len + 1);

    cluster->coordinator = (char *) colon;
    cluster->coordinator_port = (uint32_t) port;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_cluster_set_id(ngx_conf_t *cf, webtorch_cluster_t *cluster,
    ngx_str_t *value)
{
    if (ngx_strcmp(value->data, "$hostname") == 0) {
        return NGX_CONF_OK;
    }

    if (!ngx_http_webtorch_cluster_is_name(value)) {
        return ngx_http_webtorch_cluster_invalid;
    }

    cluster->id = (char *) value->data;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_cluster_set_address(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value)
{
    u_char           any[16];
    struct in_addr   in;
    struct in6_addr  in6;

    ngx_memzero(any, sizeof(any));

    if (inet_pton(AF_INET, (char *) value->data, &in) == 1) {

        if (in.s_addr == INADDR_ANY) {
            return "cannot have all addresses in \"address=\"";
        }

    } else if (inet_pton(AF_INET6, (char *) value->data, &in6) == 1) {

        if (ngx_memcmp(&in6, any, sizeof(any)) == 0) {
            return "cannot have all addresses in \"address=\"";
        }

    } else {
        return ngx_http_webtorch_cluster_invalid;
    }

    cluster->address = (char *) value->data;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_cluster_set_guest(ngx_conf_t *cf, webtorch_cluster_t *cluster,
    ngx_str_t *value)
{
    if (ngx_strcmp(value->data, "auto") == 0) {
        cluster->guest = WEBTORCH_GUEST_AUTO;

    } else if (ngx_strcmp(value->data, "always") == 0) {
        cluster->guest = WEBTORCH_GUEST_ALWAYS;

    } else if (ngx_strcmp(value->data, "off") == 0) {
        cluster->guest = WEBTORCH_GUEST_OFF;

    } else {
        return ngx_http_webtorch_cluster_invalid;
    }

    return NGX_CONF_OK;
}


/* the next two are those of the store and of guests */

static char *
ngx_http_webtorch_cluster_set_port(ngx_conf_t *cf, webtorch_cluster_t *cluster,
    ngx_str_t *value)
{
    ngx_int_t  port;

    port = ngx_atoi(value->data, value->len);

    if (port < 1 || port > 65533) {
        return ngx_http_webtorch_cluster_invalid;
    }

    cluster->port = (uint32_t) port;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_cluster_set_interval(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_parse_time(value, 0);

    if (n == NGX_ERROR || n < 10) {
        return ngx_http_webtorch_cluster_invalid;
    }

    cluster->interval = (uint64_t) n;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_cluster_set_timeout(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_parse_time(value, 0);

    /* heartbeats come each 250 ms, and are forgotten after a second */
    if (n == NGX_ERROR || n < 1000) {
        return ngx_http_webtorch_cluster_invalid;
    }

    cluster->timeout = (uint64_t) n;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_cluster_set_compress(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value)
{
    if (ngx_strcmp(value->data, "none") == 0) {
        cluster->compress = WEBTORCH_COMPRESS_NONE;

    } else if (ngx_strcmp(value->data, "bf16") == 0) {
        cluster->compress = WEBTORCH_COMPRESS_BF16;

    } else if (ngx_strcmp(value->data, "int8") == 0) {
        cluster->compress = WEBTORCH_COMPRESS_INT8;

    } else {
        return ngx_http_webtorch_cluster_invalid;
    }

    return NGX_CONF_OK;
}


/* "average", or "nesterov:" with a learning rate and a momentum */

static char *
ngx_http_webtorch_cluster_set_outer(ngx_conf_t *cf, webtorch_cluster_t *cluster,
    ngx_str_t *value)
{
    u_char     *comma, *last;
    ngx_str_t   rate, momentum;

    if (ngx_strcmp(value->data, "average") == 0) {
        cluster->outer = WEBTORCH_OUTER_AVERAGE;
        return NGX_CONF_OK;
    }

    last = value->data + value->len;
    comma = ngx_strlchr(value->data, last, ',');

    if (comma == NULL
        || ngx_strncmp(value->data, "nesterov:", 9) != 0)
    {
        return ngx_http_webtorch_cluster_invalid;
    }

    rate.data = value->data + 9;
    rate.len = comma - rate.data;
    momentum.data = comma + 1;
    momentum.len = last - momentum.data;

    if (ngx_http_webtorch_cluster_fraction(&rate, &cluster->rate) != NGX_OK
        || ngx_http_webtorch_cluster_fraction(&momentum, &cluster->momentum)
           != NGX_OK
        || cluster->rate == 0
        || cluster->momentum >= 1)
    {
        return ngx_http_webtorch_cluster_invalid;
    }

    cluster->outer = WEBTORCH_OUTER_NESTEROV;

    return NGX_CONF_OK;
}


/* "off", or "hosts:" with a number and perhaps ",pause=" with a time */

static char *
ngx_http_webtorch_cluster_set_rollout(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value)
{
    u_char     *comma, *last;
    ngx_int_t   hosts, pause;
    ngx_str_t   time;

    if (ngx_strcmp(value->data, "off") == 0) {
        cluster->rollout = 0;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "hosts:", 6) != 0) {
        return ngx_http_webtorch_cluster_invalid;
    }

    last = value->data + value->len;
    comma = ngx_strlchr(value->data, last, ',');
    pause = NGX_HTTP_WEBTORCH_CLUSTER_PAUSE;

    if (comma) {

        if (ngx_strncmp(comma, ",pause=", 7) != 0) {
            return ngx_http_webtorch_cluster_invalid;
        }

        time.data = comma + 7;
        time.len = last - time.data;

        pause = ngx_parse_time(&time, 0);
        last = comma;
    }

    hosts = ngx_atoi(value->data + 6, last - value->data - 6);

    if (hosts < 1 || hosts > NGX_HTTP_WEBTORCH_CLUSTER_HOSTS || pause < 1) {
        return ngx_http_webtorch_cluster_invalid;
    }

    cluster->rollout = (uint32_t) hosts;
    cluster->pause = (uint64_t) pause;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_cluster_check(ngx_conf_t *cf, webtorch_cluster_t *cluster,
    ngx_uint_t off)
{
    u_char  *p;

    if (cluster->coordinator == NULL) {
        return "needs \"coordinator=host:port\"";
    }

    if (cluster->id == NULL) {

        if (!ngx_http_webtorch_cluster_is_name(&cf->cycle->hostname)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "the host's name \"%V\" cannot be its id, set "
                               "\"id=\"", &cf->cycle->hostname);
            return NGX_CONF_ERROR;
        }

        p = ngx_pnalloc(cf->pool, cf->cycle->hostname.len + 1);
        if (p == NULL) {
            return NGX_CONF_ERROR;
        }

        (void) ngx_cpystrn(p, cf->cycle->hostname.data,
                           cf->cycle->hostname.len + 1);
        cluster->id = (char *) p;
    }

    /* a host may have the membership service beside the other two */
    if (cluster->coordinator_port == cluster->port + 1
        || cluster->coordinator_port == cluster->port + 2)
    {
        return "cannot have \"port=\" + 1 or + 2, those of the store and of "
               "guests, in \"coordinator=\"";
    }

    if (off && cluster->nsecrets) {
        return "has \"secret=off\" and a secret";
    }

    if (cluster->nsecrets == 0) {

        if (!off) {
            return "needs \"secret=file\"";
        }

        if (!ngx_http_webtorch_cluster_is_loopback(cluster->coordinator)
            || (cluster->address
                && !ngx_http_webtorch_cluster_is_loopback(cluster->address)))
        {
            return "can have \"secret=off\" with loopback addresses only";
        }
    }

    return ngx_http_webtorch_cluster_resolve(cf, cluster) == NGX_OK
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/*
 * A name may have no address before the hosts are up, so this is a warning.
 */

static ngx_int_t
ngx_http_webtorch_cluster_resolve(ngx_conf_t *cf, webtorch_cluster_t *cluster)
{
    int               rc;
    struct addrinfo   hints, *res;

    ngx_memzero(&hints, sizeof(struct addrinfo));
    hints.ai_socktype = SOCK_STREAM;

    rc = getaddrinfo(cluster->coordinator, NULL, &hints, &res);

    if (rc != 0) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "the coordinator \"%s\" has no address: %s; the "
                           "host is alone until it has one",
                           cluster->coordinator, gai_strerror(rc));
        return NGX_OK;
    }

    freeaddrinfo(res);

    return NGX_OK;
}


static ngx_uint_t
ngx_http_webtorch_cluster_is_loopback(const char *address)
{
    struct in_addr   in;
    struct in6_addr  in6;

    if (inet_pton(AF_INET, address, &in) == 1) {
        return (ntohl(in.s_addr) >> 24) == 127;
    }

    if (inet_pton(AF_INET6, address, &in6) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&in6);
    }

    return ngx_strcmp(address, "localhost") == 0;
}


static ngx_uint_t
ngx_http_webtorch_cluster_is_name(ngx_str_t *name)
{
    u_char      c;
    ngx_uint_t  i;

    if (name->len == 0 || name->len > NGX_HTTP_WEBTORCH_CLUSTER_NAME) {
        return 0;
    }

    for (i = 0; i < name->len; i++) {
        c = name->data[i];

        if ((c < '0' || c > '9')
            && (c < 'A' || c > 'Z')
            && (c < 'a' || c > 'z')
            && c != '.' && c != '-' && c != '_')
        {
            return 0;
        }
    }

    return 1;
}


/* a number from 0 to 10, with at most three digits after the point */

static ngx_int_t
ngx_http_webtorch_cluster_fraction(ngx_str_t *value, double *number)
{
    ngx_int_t  n;

    n = ngx_atofp(value->data, value->len, 3);

    if (n == NGX_ERROR || n > 10000) {
        return NGX_ERROR;
    }

    *number = (double) n / 1000;

    return NGX_OK;
}
