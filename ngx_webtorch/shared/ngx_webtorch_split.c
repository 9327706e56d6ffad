
#include "ngx_webtorch_split.h"
#include "ngx_webtorch_balance_draw.h"
#include "ngx_webtorch_balance_math.h"
#include "ngx_webtorch_metrics.h"
#include "ngx_webtorch_metrics_custom.h"

#include <math.h>


/* choices that are remembered, those of configurations before among them */
#define NGX_WEBTORCH_SPLIT_PLACES   64

/* ms in which nothing is forgotten */
#define NGX_WEBTORCH_SPLIT_FORGET   1000

/* upper bounds of the histogram of rewards */
#define NGX_WEBTORCH_SPLIT_BOUNDS   5

/* bytes of a metric's labels; longer ones are not counted */
#define NGX_WEBTORCH_SPLIT_LABELS   256


typedef struct {
    u_char                       name[NGX_WEBTORCH_SPLIT_NAME];
    size_t                       len;

    /* 0: free; another number when another choice gets the place */
    uint32_t                     number;

    uint64_t                     used;       /* ms: a configuration had it */

    double                       good;       /* sum of rewards */
    double                       bad;        /* sum of what they were below 1 */
} ngx_webtorch_split_place_t;


struct ngx_webtorch_split_shared_s {
    uint32_t                     numbers;    /* that were given away */
    uint64_t                     forgotten;  /* ms, monotonic */
    ngx_webtorch_split_place_t   places[NGX_WEBTORCH_SPLIT_PLACES];
};


static void ngx_webtorch_split_remember(ngx_webtorch_split_t *split,
    ngx_webtorch_split_choice_t *choice);
static void ngx_webtorch_split_take(ngx_webtorch_split_t *split,
    ngx_webtorch_split_choice_t *choice);
static ngx_uint_t ngx_webtorch_split_has(ngx_webtorch_split_t *split,
    uint32_t number);
static void ngx_webtorch_split_forget(ngx_webtorch_split_t *split);
static void ngx_webtorch_split_open(ngx_webtorch_split_t *split);
static void ngx_webtorch_split_observe(
    ngx_webtorch_split_choice_t *choice, double value);


static const double  ngx_webtorch_split_bounds[NGX_WEBTORCH_SPLIT_BOUNDS] = {
    0.0, 0.25, 0.5, 0.75, 1.0
};


/* called in the master, while workers of the configuration before may run */

ngx_int_t
ngx_webtorch_split_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_webtorch_split_t *before = data;

    ngx_uint_t             i;
    ngx_webtorch_split_t  *split;

    split = zone->data;
    split->shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (before) {
        split->shared = before->shared;

    } else if (zone->shm.exists) {
        split->shared = split->shpool->data;

    } else {
        split->shared = ngx_slab_calloc(split->shpool,
                                        sizeof(ngx_webtorch_split_shared_t));
        if (split->shared == NULL) {
            return NGX_ERROR;
        }

        split->shpool->data = split->shared;
        split->shared->forgotten = ngx_current_msec;
    }

    ngx_shmtx_lock(&split->shpool->mutex);

    for (i = 0; i < split->nchoices; i++) {
        ngx_webtorch_split_remember(split, &split->choices[i]);
    }

    for (i = 0; i < split->nchoices; i++) {

        if (split->choices[i].number == 0) {
            ngx_webtorch_split_take(split, &split->choices[i]);
        }
    }

    ngx_shmtx_unlock(&split->shpool->mutex);

    return NGX_OK;
}


static void
ngx_webtorch_split_remember(ngx_webtorch_split_t *split,
    ngx_webtorch_split_choice_t *choice)
{
    ngx_uint_t                   i;
    ngx_webtorch_split_place_t  *place;

    place = split->shared->places;

    for (i = 0; i < NGX_WEBTORCH_SPLIT_PLACES; i++) {

        if (place[i].number && place[i].len == choice->name.len
            && ngx_memcmp(place[i].name, choice->name.data, place[i].len) == 0)
        {
            choice->place = i;
            choice->number = place[i].number;
            place[i].used = ngx_current_msec;
            return;
        }
    }
}


/*
 * There are more places than choices of a configuration.  A free one comes
 * first, then the one that no configuration has had for the longest time.
 */

static void
ngx_webtorch_split_take(ngx_webtorch_split_t *split,
    ngx_webtorch_split_choice_t *choice)
{
    ngx_uint_t                   i;
    ngx_webtorch_split_place_t  *place, *oldest;

    oldest = NULL;

    for (i = 0; i < NGX_WEBTORCH_SPLIT_PLACES; i++) {
        place = &split->shared->places[i];

        if (place->number && ngx_webtorch_split_has(split, place->number)) {
            continue;
        }

        if (oldest == NULL || place->used < oldest->used) {
            oldest = place;
        }
    }

    ngx_memzero(oldest, sizeof(ngx_webtorch_split_place_t));
    ngx_memcpy(oldest->name, choice->name.data, choice->name.len);

    oldest->len = choice->name.len;
    oldest->number = ++split->shared->numbers;
    oldest->used = ngx_current_msec;

    choice->place = oldest - split->shared->places;
    choice->number = oldest->number;
}


static ngx_uint_t
ngx_webtorch_split_has(ngx_webtorch_split_t *split, uint32_t number)
{
    ngx_uint_t  i;

    for (i = 0; i < split->nchoices; i++) {

        if (split->choices[i].number == number) {
            return 1;
        }
    }

    return 0;
}


ngx_webtorch_split_choice_t *
ngx_webtorch_split_pick(ngx_webtorch_split_t *split, uint64_t number)
{
    double                        share, best;
    double                        good[NGX_WEBTORCH_SPLIT_CHOICES];
    double                        bad[NGX_WEBTORCH_SPLIT_CHOICES];
    ngx_uint_t                    i, known;
    ngx_webtorch_split_choice_t  *choice;
    ngx_webtorch_split_place_t   *place;
    ngx_webtorch_balance_draw_t   state, own;

    state = ngx_webtorch_balance_mix(number);
    share = ngx_webtorch_balance_draw(&state);

    ngx_shmtx_lock(&split->shpool->mutex);

    ngx_webtorch_split_forget(split);

    for (i = 0; i < split->nchoices; i++) {
        place = &split->shared->places[split->choices[i].place];

        /* a later configuration may have given the place to another choice */

        known = (place->number == split->choices[i].number);

        good[i] = known ? place->good : 0;
        bad[i] = known ? place->bad : 0;
    }

    ngx_shmtx_unlock(&split->shpool->mutex);

    if (share < split->minimum * (double) split->nchoices) {
        choice = &split->choices[(ngx_uint_t) (share / split->minimum)];

    } else {
        choice = split->choices;

        for (best = -1, i = 0; i < split->nchoices; i++) {

            /* a state of its own, so that a new choice changes no other draw */

            own = state ^ ngx_crc32_short(split->choices[i].name.data,
                                          split->choices[i].name.len);

            share = ngx_webtorch_balance_draw_share(&own, good[i], bad[i]);

            if (share > best) {
                best = share;
                choice = &split->choices[i];
            }
        }
    }

    if (choice->requests) {
        ngx_webtorch_metrics_add_double(choice->requests, 1);
    }

    return choice;
}


void
ngx_webtorch_split_add(ngx_webtorch_split_t *split,
    ngx_webtorch_split_choice_t *choice, double value)
{
    ngx_webtorch_split_place_t  *place;

    place = &split->shared->places[choice->place];

    ngx_shmtx_lock(&split->shpool->mutex);

    ngx_webtorch_split_forget(split);

    if (place->number == choice->number) {
        place->good += value;
        place->bad += 1 - value;
    }

    /* under the lock, as several threads may add */

    if (choice->rewards) {
        ngx_webtorch_split_observe(choice, value);
    }

    ngx_shmtx_unlock(&split->shpool->mutex);
}


/* decays old rewards; called under the lock */

static void
ngx_webtorch_split_forget(ngx_webtorch_split_t *split)
{
    double       left;
    uint64_t     now;
    ngx_uint_t   i;

    now = ngx_current_msec;

    if (now < split->shared->forgotten + NGX_WEBTORCH_SPLIT_FORGET) {
        return;
    }

    /* a later configuration may have a half-life */

    if (split->half_life == 0) {
        split->shared->forgotten = now;
        return;
    }

    left = exp2(-(double) (now - split->shared->forgotten)
                / (double) split->half_life);

    for (i = 0; i < NGX_WEBTORCH_SPLIT_PLACES; i++) {
        split->shared->places[i].good *= left;
        split->shared->places[i].bad *= left;
    }

    split->shared->forgotten = now;
}


ngx_webtorch_split_choice_t *
ngx_webtorch_split_find(ngx_webtorch_split_t *split, const u_char *name,
    size_t len)
{
    ngx_uint_t  i;

    for (i = 0; i < split->nchoices; i++) {

        if (split->choices[i].name.len == len
            && ngx_memcmp(split->choices[i].name.data, name, len) == 0)
        {
            return &split->choices[i];
        }
    }

    return NULL;
}


void
ngx_webtorch_splits_init_process(ngx_webtorch_conf_t *conf)
{
    ngx_uint_t              i;
    ngx_webtorch_split_t  **split;

    split = conf->splits.elts;

    for (i = 0; i < conf->splits.nelts; i++) {
        ngx_webtorch_split_open(split[i]);
    }
}


static void
ngx_webtorch_split_open(ngx_webtorch_split_t *split)
{
    u_char                        labels[NGX_WEBTORCH_SPLIT_LABELS], *last;
    ngx_uint_t                    i;
    ngx_webtorch_split_choice_t  *choice;

    for (i = 0; i < split->nchoices; i++) {
        choice = &split->choices[i];

        last = ngx_snprintf(labels, NGX_WEBTORCH_SPLIT_LABELS - 1,
                            "split=\"%V\",choice=\"%V\"", &split->name,
                            &choice->name);
        *last = '\0';

        choice->requests = ngx_webtorch_metrics_open(WEBTORCH_METRIC_COUNTER,
                                "webtorch_split_requests_total",
                                (char *) labels,
                                "Requests that got a choice of a split.",
                                NULL, 0);

        choice->rewards = ngx_webtorch_metrics_open(WEBTORCH_METRIC_HISTOGRAM,
                                "webtorch_split_reward", (char *) labels,
                                "Rewards that a choice has earned.",
                                ngx_webtorch_split_bounds,
                                NGX_WEBTORCH_SPLIT_BOUNDS);
    }
}


static void
ngx_webtorch_split_observe(ngx_webtorch_split_choice_t *choice, double value)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_WEBTORCH_SPLIT_BOUNDS; i++) {

        if (value <= ngx_webtorch_split_bounds[i]) {
            break;
        }
    }

    choice->rewards[i]++;
    ngx_webtorch_metrics_add_double(
                         &choice->rewards[NGX_WEBTORCH_SPLIT_BOUNDS + 1],
                         value);
}


/* called by Python, in any thread: the configuration of a worker stays */

int
ngx_webtorch_split_reward(const char *name, size_t name_len, const char *choice,
    size_t choice_len, double value)
{
    ngx_uint_t                    i;
    ngx_webtorch_conf_t          *conf;
    ngx_webtorch_split_t        **split;
    ngx_webtorch_split_choice_t  *found;

    conf = ngx_webtorch_get_conf(ngx_cycle);
    split = conf->splits.elts;

    for (i = 0; i < conf->splits.nelts; i++) {

        if (split[i]->name.len != name_len
            || ngx_strncasecmp(split[i]->name.data, (u_char *) name, name_len)
               != 0)
        {
            continue;
        }

        found = ngx_webtorch_split_find(split[i], (const u_char *) choice,
                                        choice_len);
        if (found == NULL) {
            return 1;
        }

        ngx_webtorch_split_add(split[i], found, value);

        return 0;
    }

    return -1;
}
