
/*
 * The settings of ngx_webtorch_api.h.  Between the two "cdef" marks the text is
 * also cffi's cdef.
 */


#ifndef _NGX_WEBTORCH_API_SETTINGS_H_INCLUDED_
#define _NGX_WEBTORCH_API_SETTINGS_H_INCLUDED_


#include "ngx_webtorch_api_numbers.h"

#include <stdint.h>


/* cdef: begin */

/* the parameters of webtorch_cluster */

typedef struct {
    const char      *name;
    const char      *id;                  /* of this host */
    const char      *coordinator;         /* a host name or an address */
    const char      *address;             /* of this host; NULL: that of the
                                             route to the coordinator */
    uint32_t         coordinator_port;
    uint32_t         port;
    uint64_t         interval;            /* milliseconds between rounds */
    uint64_t         timeout;             /* milliseconds */
    int32_t          guest;               /* WEBTORCH_GUEST_AUTO and so on */
    int32_t          compress;            /* WEBTORCH_COMPRESS_NONE and so on */
    int32_t          outer;               /* WEBTORCH_OUTER_AVERAGE and so on */
    double           rate;                /* of WEBTORCH_OUTER_NESTEROV */
    double           momentum;
    uint32_t         rollout;             /* hosts at a time; 0: all */
    uint64_t         pause;               /* milliseconds between them */
    uint32_t         nsecrets;            /* the first one seals */
    uint32_t         secret_len[WEBTORCH_MAX_SECRETS];
    const char      *secret[WEBTORCH_MAX_SECRETS];
    const char      *file;                /* where the directive is */
    uint32_t         line;
} webtorch_cluster_t;


/* settings of what Python does beside calls of handlers */

typedef struct {
    int32_t          check;               /* a check: it serves nothing */
    uint32_t         worker;              /* from 0, less than their number */
    uint64_t         generation;          /* of the configuration */
    char           **environment;         /* the last one is NULL */
    int32_t          reload;              /* changed modules are imported */
    int32_t          stack_signal;        /* writes stacks to stderr, or 0 */
    int32_t          slow_signal;         /* writes that of the thread, or 0 */
    int32_t          threads;             /* of an operator of torch */
    int32_t          owner;               /* it runs the functions that workers
                                             offload to one of them */
    uint32_t         npath;               /* entries of webtorch_path, which
                                             are first in sys.path */
    const char      *checkpoint;          /* directory; NULL: none */
    uint64_t         interval;            /* milliseconds */
    uint32_t         keep;                /* files of a model */
    uint32_t         store_keep;          /* the same of object storage */
    uint64_t         store_interval;
    const char      *store;               /* s3://bucket/path; NULL: none */
    const char      *endpoint;            /* its URL; NULL: that of AWS */
    uint32_t         watch;               /* of all batches */
    const webtorch_cluster_t  *cluster;   /* NULL: none */
} webtorch_settings_t;

/* cdef: end */


#endif /* _NGX_WEBTORCH_API_SETTINGS_H_INCLUDED_ */
