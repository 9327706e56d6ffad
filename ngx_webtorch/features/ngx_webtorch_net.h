
/*
 * A net over windows: sums of rows of numbers, and one hidden layer.  It is
 * evaluated here so that a request is scored without a call of Python.
 */


#ifndef _NGX_WEBTORCH_NET_H_INCLUDED_
#define _NGX_WEBTORCH_NET_H_INCLUDED_


#include "ngx_webtorch_api.h"
#include "ngx_webtorch_window.h"


/* units of the hidden layer, a multiple of those that are added at once */
#define NGX_WEBTORCH_NET_HIDDEN   64
#define NGX_WEBTORCH_NET_LANES    4

#define NGX_WEBTORCH_NET_OUTPUTS  33

/* words of a bit for each number */
#define NGX_WEBTORCH_NET_WORDS    ((NGX_WEBTORCH_WINDOW_NUMBERS + 1) / 64)


typedef float  ngx_webtorch_net_lanes_t
    __attribute__((vector_size(NGX_WEBTORCH_NET_LANES * sizeof(float))));


typedef struct {
    uint32_t                   nlanes;    /* of a row */
    uint32_t                   noutputs;
    float                      shift;

    /* numbers that are known, and the row of the first one of each word */
    uint64_t                   bits[NGX_WEBTORCH_NET_WORDS];
    uint32_t                   ranks[NGX_WEBTORCH_NET_WORDS];

    ngx_webtorch_net_lanes_t   bias[NGX_WEBTORCH_NET_HIDDEN
                                    / NGX_WEBTORCH_NET_LANES];
    ngx_webtorch_net_lanes_t   weight[NGX_WEBTORCH_NET_OUTPUTS]
                                     [NGX_WEBTORCH_NET_HIDDEN
                                      / NGX_WEBTORCH_NET_LANES];
    float                      out_bias[NGX_WEBTORCH_NET_OUTPUTS];
    char                       kinds[NGX_WEBTORCH_NET_OUTPUTS]
                                    [WEBTORCH_KIND_LEN];

    float                     *sums;      /* the first column of rows */
    ngx_webtorch_net_lanes_t  *rows;
} ngx_webtorch_net_t;


/* bytes of a net with its rows; 0: it cannot be used */
size_t ngx_webtorch_net_size(const webtorch_net_t *from);

/* memory of so many bytes, at a multiple of 64; NULL: it cannot be used */
ngx_webtorch_net_t *ngx_webtorch_net_init(void *memory,
    const webtorch_net_t *from);

/* sets the logit of a window, and its likeliest kind, from 0 */
void ngx_webtorch_net_window(const ngx_webtorch_net_t *net,
    const int32_t *numbers, uint32_t n, float *logit, uint32_t *kind);


#endif /* _NGX_WEBTORCH_NET_H_INCLUDED_ */
