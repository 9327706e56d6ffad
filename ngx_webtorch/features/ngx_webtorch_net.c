
/* Evaluates a net over windows. */

#include "ngx_webtorch_net.h"

#include <string.h>


#define NGX_WEBTORCH_NET_ALIGNED   64

/* greatest logit of a window, so that sums of exponentials are finite */
#define NGX_WEBTORCH_NET_LARGE     30.0f


static int ngx_webtorch_net_known(ngx_webtorch_net_t *net,
    const webtorch_net_t *from);
static void ngx_webtorch_net_lanes(ngx_webtorch_net_lanes_t *lanes,
    uint32_t nlanes, const float *from, uint32_t n);
static float ngx_webtorch_net_output(const ngx_webtorch_net_t *net,
    const ngx_webtorch_net_lanes_t *hidden, uint32_t output);


static inline size_t
ngx_webtorch_net_aligned(size_t size)
{
    return (size + NGX_WEBTORCH_NET_ALIGNED - 1)
           & ~((size_t) NGX_WEBTORCH_NET_ALIGNED - 1);
}


/* the compiler's own is a call, unless the processor is known to have it */

static inline uint32_t
ngx_webtorch_net_count(uint64_t bits)
{
    bits -= bits >> 1 & 0x5555555555555555ULL;
    bits = (bits & 0x3333333333333333ULL) + (bits >> 2 & 0x3333333333333333ULL);
    bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fULL;

    return (uint32_t) (bits * 0x0101010101010101ULL >> 56);
}


static inline uint32_t
ngx_webtorch_net_nlanes(const webtorch_net_t *from)
{
    return (from->hidden + NGX_WEBTORCH_NET_LANES - 1) / NGX_WEBTORCH_NET_LANES;
}


size_t
ngx_webtorch_net_size(const webtorch_net_t *from)
{
    if (from->hidden == 0 || from->hidden > NGX_WEBTORCH_NET_HIDDEN
        || from->outputs == 0 || from->outputs > NGX_WEBTORCH_NET_OUTPUTS
        || from->nknown > NGX_WEBTORCH_WINDOW_NUMBERS)
    {
        return 0;
    }

    return ngx_webtorch_net_aligned(sizeof(ngx_webtorch_net_t))
           + (size_t) from->nknown * ngx_webtorch_net_nlanes(from)
             * sizeof(ngx_webtorch_net_lanes_t)
           + (size_t) from->nknown * sizeof(float);
}


ngx_webtorch_net_t *
ngx_webtorch_net_init(void *memory, const webtorch_net_t *from)
{
    uint32_t             i, hidden;
    const float         *row;
    ngx_webtorch_net_t  *net;

    net = memory;
    hidden = from->hidden;

    memset(net, 0, sizeof(ngx_webtorch_net_t));

    net->nlanes = ngx_webtorch_net_nlanes(from);
    net->noutputs = from->outputs;
    net->shift = from->shift;
    net->rows = (void *) ((char *) memory
                          + ngx_webtorch_net_aligned(
                                                sizeof(ngx_webtorch_net_t)));
    net->sums = (float *) (net->rows + (size_t) from->nknown * net->nlanes);

    if (ngx_webtorch_net_known(net, from) != 0) {
        return NULL;
    }

    for (i = 0; i < from->nknown; i++) {
        row = from->table + (size_t) (i + 1) * (1 + hidden);
        net->sums[i] = row[0];
        ngx_webtorch_net_lanes(net->rows + (size_t) i * net->nlanes,
                               net->nlanes, row + 1, hidden);
    }

    ngx_webtorch_net_lanes(net->bias, net->nlanes, from->bias, hidden);

    for (i = 0; i < from->outputs; i++) {
        ngx_webtorch_net_lanes(net->weight[i], net->nlanes,
                               from->weight + (size_t) i * hidden, hidden);
        net->out_bias[i] = from->out_bias[i];
    }

    memcpy(net->kinds, from->kinds,
           (size_t) (from->outputs - 1) * WEBTORCH_KIND_LEN);

    return net;
}


static int
ngx_webtorch_net_known(ngx_webtorch_net_t *net, const webtorch_net_t *from)
{
    int32_t   before, number;
    uint32_t  i, rank;

    before = 0;

    for (i = 0; i < from->nknown; i++) {
        number = from->known[i];

        if (number <= before || number > NGX_WEBTORCH_WINDOW_NUMBERS) {
            return -1;
        }

        before = number;
        net->bits[number / 64] |= (uint64_t) 1 << number % 64;
    }

    rank = 0;

    for (i = 0; i < NGX_WEBTORCH_NET_WORDS; i++) {
        net->ranks[i] = rank;
        rank += ngx_webtorch_net_count(net->bits[i]);
    }

    return 0;
}


static void
ngx_webtorch_net_lanes(ngx_webtorch_net_lanes_t *lanes, uint32_t nlanes,
    const float *from, uint32_t n)
{
    memset(lanes, 0, nlanes * sizeof(ngx_webtorch_net_lanes_t));
    memcpy(lanes, from, n * sizeof(float));
}


void
ngx_webtorch_net_window(const ngx_webtorch_net_t *net, const int32_t *numbers,
    uint32_t n, float *logit, uint32_t *kind)
{
    float                            sum, found, best;
    uint32_t                         i, j, word, bit, row, nlanes;
    ngx_webtorch_net_lanes_t         hidden[NGX_WEBTORCH_NET_HIDDEN
                                            / NGX_WEBTORCH_NET_LANES];
    const ngx_webtorch_net_lanes_t  *lanes;

    sum = 0;
    nlanes = net->nlanes;

    memset(hidden, 0, nlanes * sizeof(ngx_webtorch_net_lanes_t));

    for (i = 0; i < n; i++) {
        word = (uint32_t) numbers[i] / 64;
        bit = (uint32_t) numbers[i] % 64;

        if (word >= NGX_WEBTORCH_NET_WORDS || !(net->bits[word] >> bit & 1)) {
            continue;
        }

        row = net->ranks[word]
              + ngx_webtorch_net_count(net->bits[word]
                                       & (((uint64_t) 1 << bit) - 1));

        sum += net->sums[row];
        lanes = net->rows + (size_t) row * nlanes;

        for (j = 0; j < nlanes; j++) {
            hidden[j] += lanes[j];
        }
    }

    for (j = 0; j < nlanes; j++) {
        hidden[j] += net->bias[j];

        for (i = 0; i < NGX_WEBTORCH_NET_LANES; i++) {
            hidden[j][i] = (hidden[j][i] < 0) ? 0 : hidden[j][i];
        }
    }

    sum += ngx_webtorch_net_output(net, hidden, 0);

    *logit = (sum > NGX_WEBTORCH_NET_LARGE) ? NGX_WEBTORCH_NET_LARGE
             : (sum < -NGX_WEBTORCH_NET_LARGE) ? -NGX_WEBTORCH_NET_LARGE : sum;
    *kind = 0;
    best = 0;

    for (i = 1; i < net->noutputs; i++) {
        found = ngx_webtorch_net_output(net, hidden, i);

        if (i == 1 || found > best) {
            best = found;
            *kind = i - 1;
        }
    }
}


static float
ngx_webtorch_net_output(const ngx_webtorch_net_t *net,
    const ngx_webtorch_net_lanes_t *hidden, uint32_t output)
{
    float                     found;
    uint32_t                  i;
    ngx_webtorch_net_lanes_t  sum;

    sum = hidden[0] * net->weight[output][0];

    for (i = 1; i < net->nlanes; i++) {
        sum += hidden[i] * net->weight[output][i];
    }

    found = net->out_bias[output];

    for (i = 0; i < NGX_WEBTORCH_NET_LANES; i++) {
        found += sum[i];
    }

    return found;
}
