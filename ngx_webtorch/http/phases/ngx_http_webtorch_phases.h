
/*
 * Models in the phases of a request: what webtorch_access, webtorch_set and
 * webtorch_log share.
 */


#ifndef _NGX_HTTP_WEBTORCH_PHASES_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_PHASES_H_INCLUDED_


#include "ngx_http_webtorch.h"
#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_features.h"


/* of features, those that there are before a request is over */
#define NGX_HTTP_WEBTORCH_FEATURES                                            \
    ((1U << NGX_WEBTORCH_NFEATURES) - 1 - (1U << NGX_WEBTORCH_FEATURE_OUTCOME))

#define NGX_HTTP_WEBTORCH_ALL_FEATURES  ((1U << NGX_WEBTORCH_NFEATURES) - 1)

/* those that need a client, which is in the request's context */
#define NGX_HTTP_WEBTORCH_CLIENTS                                             \
    (1U << NGX_WEBTORCH_FEATURE_CLIENT | 1U << NGX_WEBTORCH_FEATURE_SITE      \
     | 1U << NGX_WEBTORCH_FEATURE_KEY)


typedef struct ngx_http_webtorch_phases_ctx_s  ngx_http_webtorch_phases_ctx_t;


/* what is told at most once in a second, in a worker */

typedef struct {
    time_t                           sec;
    ngx_uint_t                       count;   /* untold since then */
} ngx_http_webtorch_notice_t;


/* a function that gets rows of features */

typedef struct {
    ngx_webtorch_handler_t          *handler;
    uint32_t                         allowed; /* features, a bit for each */
    uint32_t                         used;
    ngx_webtorch_feature_e           inputs[WEBTORCH_MAX_TENSORS];
    size_t                           body;    /* bytes of it to be seen */
    ngx_uint_t                       any_output;  /* nobody reads it */
    ngx_http_webtorch_notice_t       notice;
} ngx_http_webtorch_feature_handler_t;


typedef struct {
    ngx_http_webtorch_feature_handler_t       scorer;
    ngx_uint_t                       status;
    double                           threshold;
    ngx_flag_t                       dry_run;
    ngx_flag_t                       deny_on_error;
} ngx_http_webtorch_access_t;


typedef struct {
    ngx_http_webtorch_feature_handler_t       scorer;
    ngx_str_t                        name;
    ngx_int_t                        index;   /* of the variable */
    ngx_flag_t                       lazy;
} ngx_http_webtorch_set_t;


typedef struct {
    ngx_http_webtorch_access_t      *access;  /* NULL: off */
    ngx_array_t                     *sets;    /* of set_t *; NULL: none */
    ngx_http_webtorch_feature_handler_t      *log;     /* NULL: off */
} ngx_http_webtorch_phases_loc_conf_t;


typedef struct {
    ngx_shm_zone_t                  *clients;
    ngx_int_t                        request_id;  /* index of the variable */

    unsigned                         used:1;      /* by any directive */
    unsigned                         access:1;
    unsigned                         set:1;
} ngx_http_webtorch_phases_main_conf_t;


typedef enum {
    NGX_HTTP_WEBTORCH_NO_VERDICT = 0,
    NGX_HTTP_WEBTORCH_ALLOW,
    NGX_HTTP_WEBTORCH_DENY,
    NGX_HTTP_WEBTORCH_DRY_RUN,
    NGX_HTTP_WEBTORCH_FAILED,
    NGX_HTTP_WEBTORCH_TIMED_OUT
} ngx_http_webtorch_verdict_e;


/* a variable that is being computed */

typedef struct ngx_http_webtorch_value_s  ngx_http_webtorch_value_t;

struct ngx_http_webtorch_value_s {
    ngx_webtorch_waiter_t            waiter;
    ngx_http_request_t              *request;
    ngx_http_webtorch_set_t         *set;
    ngx_http_webtorch_value_t       *next;
    ngx_http_variable_value_t        value;
};


/* of a main request, over internal redirects */

struct ngx_http_webtorch_phases_ctx_s {
    /* webtorch_access */
    ngx_http_webtorch_access_t      *access;  /* that the verdict is of */
    ngx_http_webtorch_verdict_e      verdict;
    double                           score;
    ngx_webtorch_waiter_t            waiter;

    /* webtorch_set */
    ngx_array_t                     *sets;    /* those that were computed */
    ngx_http_webtorch_value_t       *values;
    ngx_uint_t                       pending;

    /* the client, as it was when it was counted */
    ngx_str_t                        key;
    ngx_webtorch_client_t            client;
    ngx_webtorch_site_t              site;

    unsigned                         scored:1;
    unsigned                         body_read:1;
    unsigned                         keyed:1;   /* the key is known */
    unsigned                         counted:1;
};


/* names the function, with the defaults of its options */
char *ngx_http_webtorch_scorer(ngx_conf_t *cf,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_str_t *name);

/* of the main request; NULL: no memory, or none without create */
ngx_http_webtorch_phases_ctx_t *ngx_http_webtorch_phases_ctx(
    ngx_http_request_t *r, ngx_uint_t create);

/*
 * Adds a row of the request to the function's batch; NGX_OK, NGX_BUSY: the
 * queue is full, NGX_DECLINED: not loaded, NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_webtorch_score(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_webtorch_waiter_t *waiter);

/*
 * Looks at a request, and tells the layout of its row; what was seen is there
 * until another one is looked at.
 */
void ngx_http_webtorch_row_measure(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_webtorch_layout_t *layout);

/* writes the row of the request that was looked at last */
void ngx_http_webtorch_row_write(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_webtorch_sink_t *sink);

/* the first number of a job's first output */
double ngx_http_webtorch_output(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);

/* the request waits in its phase for done(), which lets it go on */
void ngx_http_webtorch_suspend(ngx_http_request_t *r);
void ngx_http_webtorch_resume(ngx_http_request_t *r);

/* tells why a function has not scored a request */
void ngx_http_webtorch_log_score_error(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_uint_t level, const char *why);

/* why: by what ngx_http_webtorch_score() has returned */
const char *ngx_http_webtorch_score_strerror(ngx_int_t rc);

/* webtorch_access */
ngx_int_t ngx_http_webtorch_access_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_webtorch_access_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

/* whether the request was denied, or would have been */
ngx_uint_t ngx_http_webtorch_access_denied(
    ngx_http_webtorch_phases_ctx_t *ctx);

/* webtorch_set */
ngx_int_t ngx_http_webtorch_set_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_webtorch_set_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

/* webtorch_log, and what is learned of requests that are over */
ngx_int_t ngx_http_webtorch_log_handler(ngx_http_request_t *r);
void ngx_http_webtorch_outcome(ngx_http_request_t *r,
    ngx_webtorch_outcome_t *outcome);

/* webtorch_clients_zone */
char *ngx_http_webtorch_clients_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_webtorch_clients_default(ngx_conf_t *cf,
    ngx_http_webtorch_phases_main_conf_t *pmcf);

/* sets the context's key, once; len 0: there is none */
void ngx_http_webtorch_clients_key(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx);

/* counts a request with a key, once, the context has the client then */
void ngx_http_webtorch_clients_arrive(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx,
    const ngx_webtorch_text_features_t *text);
void ngx_http_webtorch_clients_finish(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx,
    const ngx_webtorch_outcome_t *outcome);


extern ngx_module_t  ngx_http_webtorch_phases_module;


#endif /* _NGX_HTTP_WEBTORCH_PHASES_H_INCLUDED_ */
