
/*
 * This folder decides which server gets a request: the state of a balancer,
 * the costs of servers, and how these are learned from finished requests.  It
 * may include headers of api/ alone, and none of nginx and Python, so that it
 * is tested and simulated without them.
 *
 * The state is in memory that processes share, at any address and without
 * pointers.  The caller holds a lock during each call.
 *
 * Times are microseconds of a clock that all processes share (CLOCK_MONOTONIC),
 * times of keys are milliseconds of it; durations are seconds.
 */


#ifndef _NGX_WEBTORCH_BALANCE_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_H_INCLUDED_


#include "ngx_webtorch_api.h"


#define NGX_WEBTORCH_BALANCE_SERVERS   256
#define NGX_WEBTORCH_BALANCE_WORKERS   128
#define NGX_WEBTORCH_BALANCE_ALL_OTHERS                                       \
    (NGX_WEBTORCH_BALANCE_WORKERS - 1)  /* shared by workers without a place */
#define NGX_WEBTORCH_BALANCE_KEYS      16384
#define NGX_WEBTORCH_BALANCE_PAIRS     131072   /* pairs of key and server */
#define NGX_WEBTORCH_BALANCE_SAMPLES   4096

#define NGX_WEBTORCH_BALANCE_LEVELS    12       /* candidate concurrencies */
#define NGX_WEBTORCH_BALANCE_RECENT    64       /* last keys of a server */
#define NGX_WEBTORCH_BALANCE_GAPS      10       /* classes of gaps in use */
#define NGX_WEBTORCH_BALANCE_NEVER     (NGX_WEBTORCH_BALANCE_GAPS - 1)

#define NGX_WEBTORCH_BALANCE_NONE      0xffffffff


/* the reason why a server was picked */

typedef enum {
    NGX_WEBTORCH_BALANCE_COST = 0,      /* least cost, request without a key */
    NGX_WEBTORCH_BALANCE_WARM,          /* least cost, the key is warm */
    NGX_WEBTORCH_BALANCE_COPY,          /* least cost, the key is cold */
    NGX_WEBTORCH_BALANCE_PROBE,         /* tests an ejected server */
    NGX_WEBTORCH_BALANCE_PEAK,          /* peak EWMA, costs are not learned */
    NGX_WEBTORCH_BALANCE_WORST,         /* all are unavailable, or too many */
    NGX_WEBTORCH_BALANCE_ONLY           /* no other candidate */
} ngx_webtorch_balance_reason_e;


/* errors of predicted latencies for a candidate concurrency */

typedef struct {
    float      mean;                    /* log2 of actual to predicted */
    float      variance;
} ngx_webtorch_balance_level_t;


/* the part of a server that each pick reads: one cache line */

typedef struct {
    float      base;                    /* service of a request, seconds */
    float      concurrency;             /* requests served at once */
    float      share;                   /* 1 / concurrency */
    float      backlog;                 /* service of all in flight, seconds */
    float      error;                   /* share of failures, 0 to 1 */
    float      trust;                   /* confidence in the base, 0 to 1 */
    float      scale;                   /* factor of costs from user's score */
    float      suspicion;               /* refusals that peers do not have */
    uint32_t   inflight;                /* requests */
    uint32_t   limit;                   /* of inflight after return; 0: none */
    uint64_t   progress;                /* last answer, or first in flight */
    uint64_t   probe;                   /* ejected until this time; 0: not */
    uint64_t   finished;                /* last outcome */
} __attribute__((aligned(64))) ngx_webtorch_balance_server_t;


/* the rest of a server */

typedef struct {
    uint64_t   id;                      /* hash of the address; 0: free */
    uint64_t   used;                    /* last lookup */
    uint64_t   probing;                 /* start of the probe in flight; or 0 */
    uint64_t   tried;                   /* last probe because of silence */
    uint64_t   cold;                    /* last time that it lost its keys */
    uint64_t   picks;                   /* for metrics, as are ejections */
    uint64_t   ejections;
    uint32_t   out;                     /* ejected by an operator */
    float      peak;                    /* peak EWMA of latency, seconds */
    float      trend;                   /* log2 of fast to slow mean */
    float      fast;                    /* means of service times, seconds */
    float      slow;
    float      count;                   /* outcomes in the means */
    float      evidence;                /* log of odds that it is broken */
    float      backoff;                 /* seconds to the next probe */
    float      level_count;             /* outcomes in the levels */
    float      refused;                 /* share beyond that of the keys */
    float      noise;                   /* variance of a refusal */
    float      others;                  /* requests that wait there, by its last
                                           report, beyond those of ours */
    uint64_t   reported;                /* when it was */

    ngx_webtorch_balance_level_t  levels[NGX_WEBTORCH_BALANCE_LEVELS];
} ngx_webtorch_balance_record_t;


/* a key on a server */

typedef struct {
    float      ratio;                   /* service time to the server's base */
    float      first;                   /* ratio of the first request; or 0 */
    uint32_t   touched;                 /* last request; 0: never */
    uint16_t   count;                   /* outcomes in the ratio */
    uint16_t   pending;                 /* start of a cold request in flight,
                                           seconds; 0: none */
} ngx_webtorch_balance_pair_t;


typedef struct {
    uint64_t   id;                      /* hash of the key; 0: free */
    uint32_t   used;
    uint32_t   charged;                 /* last change of the lost time */
    float      lost_time;               /* by waiting where warm, seconds */
    float      ratio;                   /* mean over all servers */
    float      count;                   /* outcomes in the ratio */
    float      refused;                 /* share of refusals */
} ngx_webtorch_balance_key_t;


/* requests of a process that are in flight, released if it crashes */

typedef struct {
    uint32_t   process;                 /* 0: free */
    uint32_t   inflight[NGX_WEBTORCH_BALANCE_SERVERS];
    float      backlog[NGX_WEBTORCH_BALANCE_SERVERS];
} ngx_webtorch_balance_worker_t;


typedef struct {
    uint32_t   nservers;
    uint32_t   generation;              /* changes if a server gets a number */
    uint32_t   columns;                 /* pairs of each key */
    uint32_t   random;
    uint64_t   refreshed;
    float      fleet;                   /* median of the bases; 0: unknown */
    float      best;                    /* least base */
    float      error;                   /* mean of the servers' */
    float      refused;                 /* lower median of the servers' */
    uint32_t   reports;                 /* servers have reported their loads */

    /* for ngx_webtorch_balance_key.c */
    float      budget;                  /* for copies, seconds of service */
    float      gaps[NGX_WEBTORCH_BALANCE_GAPS];         /* log2 */
    float      gap_counts[NGX_WEBTORCH_BALANCE_GAPS];
    float      cold_costs[NGX_WEBTORCH_BALANCE_GAPS];   /* factors */
    float      seen;                    /* mean of ratios, log2 */
    float      known;                   /* mean of predicted ratios, log2 */
    float      variance;
    float      covariance;
    float      key_count;
    float      scatter;                 /* outcomes until a ratio counts half */

    ngx_webtorch_balance_level_t   levels[NGX_WEBTORCH_BALANCE_LEVELS];
    float                          level_count;

    /* for ngx_webtorch_balance_policy.c, current: params[version & 1] */
    uint64_t                       version;
    uint64_t                       published;
    webtorch_params_t              params[2];

    uint64_t                       nsamples;            /* ever added */
    webtorch_sample_t              samples[NGX_WEBTORCH_BALANCE_SAMPLES];

    ngx_webtorch_balance_server_t  servers[NGX_WEBTORCH_BALANCE_SERVERS];
    ngx_webtorch_balance_record_t  records[NGX_WEBTORCH_BALANCE_SERVERS];
    uint16_t                       recent[NGX_WEBTORCH_BALANCE_SERVERS]
                                         [NGX_WEBTORCH_BALANCE_RECENT];
    ngx_webtorch_balance_worker_t  workers[NGX_WEBTORCH_BALANCE_WORKERS];
    ngx_webtorch_balance_key_t     keys[NGX_WEBTORCH_BALANCE_KEYS];
    ngx_webtorch_balance_pair_t    pairs[NGX_WEBTORCH_BALANCE_PAIRS];
} ngx_webtorch_balance_t;


/* a request to a server, from the pick to the end */

typedef struct {
    uint64_t   key;                     /* hash of it; 0: none */
    uint32_t   retry;                   /* another server has failed before */

    /* set by the pick */

    uint32_t   server;
    uint64_t   id;
    uint32_t   max_fails;
    float      fail_timeout;
    uint32_t   row;                     /* of the key; NONE */
    uint32_t   gap;                     /* class of the gap in the key's use */
    uint32_t   cold;                    /* the request makes the key warm */
    uint32_t   ahead;                   /* requests that were in flight */
    float      mean;                    /* mean service of those, seconds */
    float      own;                     /* predicted service, seconds */
    float      expected;                /* predicted latency, uncorrected */
    float      ratio;                   /* of the key to the base */
    float      sure;                    /* confidence in the ratio, 0 to 1 */
    uint32_t   ejected;                 /* all candidates are unavailable */
    float      cost;
    float      features[WEBTORCH_FEATURES];
    ngx_webtorch_balance_reason_e  reason;

    /* set after the pick */

    uint64_t   start;
    uint64_t   answered;                /* end of the server's part; 0: not
                                           known, the end of the request */
    uint32_t   paused;                  /* not counted as in flight */
    uint32_t   judged;                  /* the outcome was added */
    uint32_t   refused;                 /* an answer that is no success */
} ngx_webtorch_balance_request_t;


/* b: zeros, aligned to 64 bytes; columns: servers that keys need room for */
void ngx_webtorch_balance_init(ngx_webtorch_balance_t *b, uint32_t columns);

/* room for more servers; all keys are removed if there is not enough */
void ngx_webtorch_balance_reserve(ngx_webtorch_balance_t *b, uint32_t columns);

/* the id of an address or a key; never 0 */
uint64_t ngx_webtorch_balance_hash(const void *data, size_t len);

/* returns the number of a server, which is added if needed; NONE: no room */
uint32_t ngx_webtorch_balance_find(ngx_webtorch_balance_t *b, uint64_t id,
    uint64_t now);

#endif /* _NGX_WEBTORCH_BALANCE_H_INCLUDED_ */
