
/*
 * What a balancer knows of its servers, and how it picks one.  Neither nginx
 * nor Python is known here, nor HTTP, so that it can be tested and simulated
 * alone.  A balancer lies in memory that processes share, at any address and
 * without a pointer in it; calls are made under a lock of the caller's.
 *
 * Times are microseconds of a clock that all processes see (CLOCK_MONOTONIC),
 * those of keys are milliseconds of it; durations are seconds.
 */


#ifndef _NGX_WEBTORCH_BALANCE_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_H_INCLUDED_


#include "ngx_webtorch_api.h"


#define NGX_WEBTORCH_BALANCE_SERVERS   256
#define NGX_WEBTORCH_BALANCE_WORKERS   128
#define NGX_WEBTORCH_BALANCE_ALL_OTHERS                                       \
    (NGX_WEBTORCH_BALANCE_WORKERS - 1)  /* the place of those who have none */
#define NGX_WEBTORCH_BALANCE_KEYS      16384
#define NGX_WEBTORCH_BALANCE_PAIRS     131072   /* of a key and a server */
#define NGX_WEBTORCH_BALANCE_SAMPLES   4096

#define NGX_WEBTORCH_BALANCE_LEVELS    12       /* of concurrency */
#define NGX_WEBTORCH_BALANCE_RECENT    64       /* last keys of a server */
#define NGX_WEBTORCH_BALANCE_GAPS      10       /* since a key's last use */
#define NGX_WEBTORCH_BALANCE_NEVER     (NGX_WEBTORCH_BALANCE_GAPS - 1)

#define NGX_WEBTORCH_BALANCE_NONE      0xffffffff


/* how a request ended */

typedef enum {
    NGX_WEBTORCH_BALANCE_OK = 0,
    NGX_WEBTORCH_BALANCE_ERROR,         /* an answer that tells of a failure */
    NGX_WEBTORCH_BALANCE_FAILED,        /* no connection, or it broke */
    NGX_WEBTORCH_BALANCE_TIMEOUT,       /* no answer in time */
    NGX_WEBTORCH_BALANCE_ABANDONED,     /* by the client, before an answer */
    NGX_WEBTORCH_BALANCE_UNKNOWN        /* it tells nothing of the server */
} ngx_webtorch_balance_outcome_e;


/* why a server was picked */

typedef enum {
    NGX_WEBTORCH_BALANCE_COST = 0,      /* it costs least */
    NGX_WEBTORCH_BALANCE_WARM,          /* likewise, and it knows the key */
    NGX_WEBTORCH_BALANCE_COPY,          /* likewise, and it learns the key */
    NGX_WEBTORCH_BALANCE_PROBE,         /* to see whether it serves again */
    NGX_WEBTORCH_BALANCE_PEAK,          /* nothing is learned: peak EWMA */
    NGX_WEBTORCH_BALANCE_WORST,         /* the least bad of bad ones */
    NGX_WEBTORCH_BALANCE_ONLY           /* no other could be taken */
} ngx_webtorch_balance_reason_e;


/* a concurrency that servers may have: how well it explains their latencies */

typedef struct {
    float      mean;                    /* of what it does not explain, log2 */
    float      variance;
} ngx_webtorch_balance_level_t;


/* what a pick reads of a server: a cache line */

typedef struct {
    float      base;                    /* service of a request, in seconds */
    float      concurrency;             /* requests that are served at once */
    float      share;                   /* 1 / concurrency */
    float      backlog;                 /* service of all in flight, seconds */
    float      error;                   /* share of its outcomes */
    float      trust;                   /* in the base, 0 to 1 */
    float      scale;                   /* of its cost, by a user's function */
    uint32_t   inflight;
    uint32_t   limit;                   /* of them, as it comes back; 0: none */
    uint64_t   progress;                /* last answer, or first in flight */
    uint64_t   probe;                   /* when an ejected one is tried; or 0 */
    uint64_t   finished;                /* last outcome */
} __attribute__((aligned(64))) ngx_webtorch_balance_server_t;


/* what is learned of it */

typedef struct {
    uint64_t   id;                      /* of its address; 0: free */
    uint64_t   used;                    /* last time that it was found */
    uint64_t   probing;                 /* since when; or 0 */
    uint64_t   cold;                    /* it lost its keys */
    float      peak;                    /* EWMA of latency, up at once */
    float      trend;                   /* of service times, log2 */
    float      fast;                    /* means of service times, seconds */
    float      slow;
    float      count;                   /* outcomes in the means */
    float      evidence;                /* that it is broken, log of odds */
    float      backoff;                 /* between probes, seconds */
    float      level_count;             /* outcomes in the levels */

    ngx_webtorch_balance_level_t  levels[NGX_WEBTORCH_BALANCE_LEVELS];
} ngx_webtorch_balance_record_t;


/* a key on a server */

typedef struct {
    float      ratio;                   /* of its service time to the base */
    float      first;                   /* that of the first contact; or 0 */
    uint32_t   touched;                 /* 0: never */
    uint16_t   count;                   /* outcomes in the ratio */
    uint16_t   pending;                 /* since when a contact in flight makes
                                           it warm, seconds; 0: none does */
} ngx_webtorch_balance_pair_t;


typedef struct {
    uint64_t   id;                      /* hash of the key; 0: free */
    uint32_t   used;
    uint32_t   charged;                 /* when regret was */
    float      regret;                  /* seconds lost where it is warm */
    float      ratio;                   /* as a pair's, of all servers */
    float      count;
} ngx_webtorch_balance_key_t;


/* what a process has in flight, to be taken back if it dies */

typedef struct {
    uint32_t   process;                 /* 0: free */
    uint32_t   inflight[NGX_WEBTORCH_BALANCE_SERVERS];
    float      backlog[NGX_WEBTORCH_BALANCE_SERVERS];
} ngx_webtorch_balance_worker_t;


typedef struct {
    uint32_t   nservers;
    uint32_t   generation;              /* changes with the servers' numbers */
    uint32_t   columns;                 /* servers that keys have room for */
    uint32_t   random;
    uint64_t   refreshed;
    float      fleet;                   /* median of the bases; 0: unknown */
    float      best;                    /* least of them */
    float      error;                   /* mean of the servers' */

    /* keys, see ngx_webtorch_balance_key.c */
    float      budget;                  /* for copies, seconds of service */
    float      gaps[NGX_WEBTORCH_BALANCE_GAPS];         /* log2 */
    float      gap_counts[NGX_WEBTORCH_BALANCE_GAPS];
    float      prices[NGX_WEBTORCH_BALANCE_GAPS];       /* factors */
    float      seen;                    /* mean of ratios, log2 */
    float      known;                   /* mean of those foretold */
    float      variance;
    float      covariance;
    float      key_count;
    float      scatter;                 /* outcomes until a ratio counts half */

    ngx_webtorch_balance_level_t   levels[NGX_WEBTORCH_BALANCE_LEVELS];
    float                          level_count;

    /* the newest is params[version & 1] */
    uint64_t                       version;
    uint64_t                       published;
    webtorch_params_t              params[2];

    uint64_t                       nsamples;            /* ever */
    webtorch_sample_t              samples[NGX_WEBTORCH_BALANCE_SAMPLES];

    ngx_webtorch_balance_server_t  servers[NGX_WEBTORCH_BALANCE_SERVERS];
    ngx_webtorch_balance_record_t  records[NGX_WEBTORCH_BALANCE_SERVERS];
    uint16_t                       recent[NGX_WEBTORCH_BALANCE_SERVERS]
                                         [NGX_WEBTORCH_BALANCE_RECENT];
    ngx_webtorch_balance_worker_t  workers[NGX_WEBTORCH_BALANCE_WORKERS];
    ngx_webtorch_balance_key_t     keys[NGX_WEBTORCH_BALANCE_KEYS];
    ngx_webtorch_balance_pair_t    pairs[NGX_WEBTORCH_BALANCE_PAIRS];
} ngx_webtorch_balance_t;


/* a server that a request may be sent to */

typedef struct {
    uint32_t   server;                  /* its number */
    float      scale;                   /* of its cost: 1 / weight */
    uint32_t   max_fails;               /* 0: it is never ejected */
    float      fail_timeout;            /* between probes at most, seconds */
} ngx_webtorch_balance_candidate_t;


/* a request to a server, from the pick until it is over */

typedef struct {
    uint64_t   key;                     /* hash of it; 0: none */
    uint32_t   retry;                   /* it was sent elsewhere before */

    /* by the pick */

    uint32_t   server;
    uint64_t   id;
    uint64_t   start;
    uint32_t   max_fails;
    float      fail_timeout;
    uint32_t   row;                     /* of the key; NONE */
    uint32_t   gap;                     /* since its last use there */
    uint32_t   contact;                 /* it makes the key warm */
    uint32_t   ahead;                   /* requests that were in flight */
    float      mean;                    /* service of those, in seconds */
    float      own;                     /* service that it will take */
    float      expected;                /* with the wait, uncorrected */
    float      ratio;                   /* of the key to the base */
    float      sure;                    /* of the ratio, 0 to 1 */
    uint32_t   ejected;                 /* all candidates were */
    float      cost;
    float      features[WEBTORCH_FEATURES];
    ngx_webtorch_balance_reason_e  reason;
} ngx_webtorch_balance_request_t;


/* of zeros, aligned to 64 bytes; columns: servers that keys need room for */
void ngx_webtorch_balance_init(ngx_webtorch_balance_t *b, uint32_t columns);

/* room for more servers; keys are forgotten when there is not enough */
void ngx_webtorch_balance_reserve(ngx_webtorch_balance_t *b, uint32_t columns);

/* of an address or a key; never 0 */
uint64_t ngx_webtorch_balance_hash(const void *data, size_t len);

/* the number of a server, which may be new; NONE: there is no room */
uint32_t ngx_webtorch_balance_find(ngx_webtorch_balance_t *b, uint64_t id,
    uint64_t now);

/* an index of the candidates, of which there is one at least */
uint32_t ngx_webtorch_balance_pick(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_candidate_t *candidates, uint32_t n,
    ngx_webtorch_balance_request_t *req, uint64_t now);

/* a worker has sent the request to the server that was picked */
void ngx_webtorch_balance_begin(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req, uint64_t now);

/* it is over */
void ngx_webtorch_balance_end(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, uint64_t now);

/* takes back what a worker had in flight, and frees its place */
void ngx_webtorch_balance_reap(ngx_webtorch_balance_t *b, uint32_t worker);

/* what was learned; parameters that are not finite are refused: -1 */
int ngx_webtorch_balance_publish(ngx_webtorch_balance_t *b,
    const webtorch_params_t *params, uint64_t now);

/* whether that is recent enough to be used */
int ngx_webtorch_balance_learned(const ngx_webtorch_balance_t *b,
    uint64_t now);

/* copies samples from number *next on, sets that; how many there are */
uint32_t ngx_webtorch_balance_samples(const ngx_webtorch_balance_t *b,
    uint64_t *next, webtorch_sample_t *samples, uint32_t n);

/* the features of a server for a request without a key */
void ngx_webtorch_balance_features(const ngx_webtorch_balance_t *b,
    uint32_t server, float *features, uint64_t now);


#endif /* _NGX_WEBTORCH_BALANCE_H_INCLUDED_ */
