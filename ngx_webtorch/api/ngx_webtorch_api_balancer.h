
/*
 * What balancers and their learners have of each other, of ngx_webtorch_api.h.
 * Between the two "cdef" marks the text is also cffi's cdef.
 */


#ifndef _NGX_WEBTORCH_API_BALANCER_H_INCLUDED_
#define _NGX_WEBTORCH_API_BALANCER_H_INCLUDED_


#include "ngx_webtorch_api_numbers.h"

#include <stdint.h>


/* cdef: begin */

/* the current state of a balancer's server */

typedef struct {
    uint32_t  server;                     /* its number */
    uint32_t  inflight;                   /* requests */
    uint32_t  ejected;
    float     service;                    /* time of a single request, s */
    float     concurrency;                /* requests served at once */
    float     error;                      /* share of failed outcomes */
    float     features[WEBTORCH_FEATURES];
} webtorch_server_t;


/* a server of a balancer as operators see it */

typedef struct {
    char      name[WEBTORCH_NAME_LEN];    /* the beginning of its address */
    int32_t   state;                      /* WEBTORCH_PEER_UP and so on */
    uint32_t  backup;
    uint32_t  inflight;                   /* requests */
    float     error;                      /* share of failed outcomes */
    uint64_t  picks;                      /* requests that were sent to it */
    uint64_t  ejections;
} webtorch_peer_t;


/* a finished request of a balancer */

typedef struct {
    uint32_t  server;                     /* its number */
    int32_t   outcome;                    /* 0, 1: error, 2: no answer,
                                             3: no answer in time */
    float     latency;                    /* seconds */
    float     expected;                   /* uncorrected, when it was sent */
    float     features[WEBTORCH_FEATURES];
} webtorch_sample_t;


/*
 * Parameters of the model that corrects a balancer's costs, in log2:
 * linear x features + bias + output x relu(weights x features + biases)
 */

typedef struct {
    uint32_t  used;                       /* 0: costs are not corrected */
    uint32_t  hidden;                     /* neurons */
    float     loss;                       /* of the corrected costs */
    float     baseline;                   /* with a constant correction */
    float     bias;
    float     linear[WEBTORCH_FEATURES];
    float     biases[WEBTORCH_HIDDEN];
    float     output[WEBTORCH_HIDDEN];
    float     weights[WEBTORCH_HIDDEN][WEBTORCH_FEATURES];
} webtorch_params_t;

/* cdef: end */


#endif /* _NGX_WEBTORCH_API_BALANCER_H_INCLUDED_ */
