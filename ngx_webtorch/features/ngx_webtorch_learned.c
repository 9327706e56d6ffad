
/* Looks up what a site's fields hold. */

#include "ngx_webtorch_learned.h"

#include <math.h>
#include <string.h>


/* slots that a key may be in */
#define NGX_WEBTORCH_LEARNED_PROBES   8
#define NGX_WEBTORCH_LEARNED_MIX      0x9e3779b97f4a7c15ULL

/* offsets in the counts of a field */
#define NGX_WEBTORCH_LEARNED_LENGTH   (1 + WEBTORCH_ALPHABET)
#define NGX_WEBTORCH_LEARNED_LOGIT    (NGX_WEBTORCH_LEARNED_LENGTH            \
                                       + WEBTORCH_LENGTHS)

/* kinds of characters that attacks need: all but letters, digits, blanks, those
   beyond ASCII, and "/#*-,@:?" */
#define NGX_WEBTORCH_LEARNED_RISKY    0x107f7fe0U

/* the first bin of a logit ends here, the last one begins 16 above */
#define NGX_WEBTORCH_LEARNED_LOWEST   (-8.0f)

/* values of a field before it is known, and requests of an address */
#define NGX_WEBTORCH_LEARNED_RARE     3.0f
#define NGX_WEBTORCH_LEARNED_USUAL    10.0f

/* values that say nothing of what a field holds */
#define NGX_WEBTORCH_LEARNED_FORGIVEN 2.0f

/* shares of values that scored as high, of what is usual there */
#define NGX_WEBTORCH_LEARNED_SHARE    0.074f
#define NGX_WEBTORCH_LEARNED_SITE     0.135f

/* logits, beside which a window of less than FAR does not count */
#define NGX_WEBTORCH_LEARNED_FAR      (-9.0f)
#define NGX_WEBTORCH_LEARNED_MARK     30.0f
#define NGX_WEBTORCH_LEARNED_KNOWN    5.0f
#define NGX_WEBTORCH_LEARNED_NEW      1.0f

/* bins of a location's scores, and bounds of thresholds */
#define NGX_WEBTORCH_LEARNED_WIDTH    0.125f
#define NGX_WEBTORCH_LEARNED_LEAST    (-0.25f)
#define NGX_WEBTORCH_LEARNED_SURE     2.25f


/* how a value compares with those that a field had before */

typedef struct {
    float  count;
    float  share;                         /* whose logit was as high */
    float  risk;                          /* of punctuation */
    float  length;
} ngx_webtorch_learned_compared_t;


static float ngx_webtorch_learned_near(const webtorch_learned_t *learned,
    const ngx_webtorch_learned_marks_t *marks,
    const ngx_webtorch_learned_window_t *window);
static uint32_t ngx_webtorch_learned_holder(
    const ngx_webtorch_learned_marks_t *marks, int64_t key);
static uint32_t ngx_webtorch_learned_level(float logit);
static const float *ngx_webtorch_learned_counts(
    const webtorch_learned_t *learned, int64_t key);
static void ngx_webtorch_learned_compare(const float *counts,
    const ngx_webtorch_learned_window_t *window,
    ngx_webtorch_learned_compared_t *compared);
static uint32_t ngx_webtorch_learned_find(const int64_t *keys, uint32_t n,
    int64_t key);


/* where a key is looked for first, modulo the size of the table */

static inline uint32_t
ngx_webtorch_learned_first(int64_t key)
{
    return (uint32_t) ((uint64_t) key * NGX_WEBTORCH_LEARNED_MIX >> 20);
}


int
ngx_webtorch_learned_read_marks(const webtorch_learned_t *learned,
    ngx_webtorch_learned_marks_t *marks)
{
    int       any;
    uint8_t   level;
    int64_t   key;
    uint32_t  i, n, place;

    memset(marks, 0, sizeof(ngx_webtorch_learned_marks_t));

    any = 0;

    for (i = 0, n = 0; i < learned->nmarks; i++) {
        any |= (learned->marks[i] != 0);

        /* another worker may write it meanwhile */

        key = learned->holders[i];

        if (key == 0 || learned->verdicts[i] >= 0
            || n == NGX_WEBTORCH_LEARNED_MARKS / 2)
        {
            continue;
        }

        place = ngx_webtorch_learned_holder(marks, key);
        level = (uint8_t) ngx_webtorch_learned_level(learned->levels[i]);

        if (marks->holders[place] == 0) {
            marks->holders[place] = key;
            marks->levels[place] = level;
            n++;

        } else if (marks->levels[place] < level) {
            marks->levels[place] = level;
        }
    }

    return any;
}


/* the place of a field, or the free one where it would be */

static uint32_t
ngx_webtorch_learned_holder(const ngx_webtorch_learned_marks_t *marks,
    int64_t key)
{
    uint32_t  place;

    place = ngx_webtorch_learned_first(key);

    for ( ;; ) {
        place &= NGX_WEBTORCH_LEARNED_MARKS - 1;

        if (marks->holders[place] == key || marks->holders[place] == 0) {
            return place;
        }

        place++;
    }
}


int
ngx_webtorch_learned_has(const webtorch_learned_t *learned, int64_t key)
{
    return ngx_webtorch_learned_find(learned->fields, learned->nfields, key)
           < learned->nfields;
}


float
ngx_webtorch_learned_logit(const webtorch_learned_t *learned,
    const ngx_webtorch_learned_marks_t *marks,
    const ngx_webtorch_learned_window_t *window)
{
    uint32_t  slot;

    if (marks) {
        slot = ngx_webtorch_learned_find(learned->marks, learned->nmarks,
                                         window->print);

        if (slot < learned->nmarks && learned->verdicts[slot]) {
            return NGX_WEBTORCH_LEARNED_MARK * (float) learned->verdicts[slot];
        }
    }

    /* most windows are far below all thresholds, whatever is added */

    return (window->logit > NGX_WEBTORCH_LEARNED_FAR)
           ? ngx_webtorch_learned_near(learned, marks, window)
           : window->logit;
}


static float
ngx_webtorch_learned_near(const webtorch_learned_t *learned,
    const ngx_webtorch_learned_marks_t *marks,
    const ngx_webtorch_learned_window_t *window)
{
    int                               known;
    float                             logit;
    uint32_t                          place;
    const float                      *visits;
    ngx_webtorch_learned_compared_t   own, site;

    ngx_webtorch_learned_compare(ngx_webtorch_learned_counts(learned,
                                                             window->key),
                                 window, &own);

    if (own.count >= NGX_WEBTORCH_LEARNED_RARE) {
        known = own.share > NGX_WEBTORCH_LEARNED_SHARE;
        logit = 0.6f * fminf(own.risk, 8.0f) + 0.3f * fminf(own.length, 5.0f);

    } else {
        ngx_webtorch_learned_compare(ngx_webtorch_learned_counts(learned,
                                                            -window->field),
                                     window, &site);

        if (site.count >= NGX_WEBTORCH_LEARNED_RARE) {
            known = site.share > NGX_WEBTORCH_LEARNED_SITE;
            logit = 0.3f * fminf(site.risk, 8.0f);

        } else {
            known = 0;
            visits = ngx_webtorch_learned_counts(learned, window->address);
            logit = (visits && visits[0] >= NGX_WEBTORCH_LEARNED_USUAL)
                    ? NGX_WEBTORCH_LEARNED_NEW : 0;
        }
    }

    /* operators may let the field hold what scores as high */

    if (marks && window->key) {
        place = ngx_webtorch_learned_holder(marks, window->key);

        known |= marks->holders[place]
                 && ngx_webtorch_learned_level(window->logit)
                    <= marks->levels[place];
    }

    logit = window->logit + (known ? -NGX_WEBTORCH_LEARNED_KNOWN : logit);

    return fmaxf(fminf(logit, NGX_WEBTORCH_LEARNED_MARK),
                 -NGX_WEBTORCH_LEARNED_MARK);
}


/* the bin of a logit */

static uint32_t
ngx_webtorch_learned_level(float logit)
{
    uint32_t  level;

    for (level = 0; level < WEBTORCH_LOGITS - 1; level++) {
        if (logit <= NGX_WEBTORCH_LEARNED_LOWEST + (float) level) {
            break;
        }
    }

    return level;
}


static const float *
ngx_webtorch_learned_counts(const webtorch_learned_t *learned, int64_t key)
{
    uint32_t  slot;

    slot = ngx_webtorch_learned_find(learned->fields, learned->nfields, key);

    return (slot < learned->nfields)
           ? learned->counts + (size_t) slot * WEBTORCH_COUNTS : NULL;
}


static void
ngx_webtorch_learned_compare(const float *counts,
    const ngx_webtorch_learned_window_t *window,
    ngx_webtorch_learned_compared_t *compared)
{
    float     more, risk, sum;
    uint32_t  i, first, bits;

    compared->count = counts ? counts[0] : 0;

    if (compared->count < NGX_WEBTORCH_LEARNED_RARE) {
        return;
    }

    more = compared->count + 1;
    risk = 0;

    for (bits = window->alphabet & NGX_WEBTORCH_LEARNED_RISKY; bits;
         bits &= bits - 1)
    {
        i = (uint32_t) __builtin_ctz(bits);
        risk -= logf((counts[1 + i] + 0.5f) / more);
    }

    compared->risk = risk;

    /* the bin of a length is the number of its bits */

    first = (window->len > 0)
            ? 32 - (uint32_t) __builtin_clz((uint32_t) window->len) : 0;
    first = (first < WEBTORCH_LENGTHS) ? first : WEBTORCH_LENGTHS - 1;
    sum = 0;

    for (i = first; i < WEBTORCH_LENGTHS; i++) {
        sum += counts[NGX_WEBTORCH_LEARNED_LENGTH + i];
    }

    compared->length = -logf((sum + 0.5f) / more);

    first = ngx_webtorch_learned_level(window->logit);
    sum = 0;

    for (i = first; i < WEBTORCH_LOGITS; i++) {
        sum += counts[NGX_WEBTORCH_LEARNED_LOGIT + i];
    }

    compared->share = (sum > NGX_WEBTORCH_LEARNED_FORGIVEN)
                      ? (sum - NGX_WEBTORCH_LEARNED_FORGIVEN + 0.5f) / more
                      : 0;
}


/* n: it is not there */

static uint32_t
ngx_webtorch_learned_find(const int64_t *keys, uint32_t n, int64_t key)
{
    uint32_t  i, slot, first;

    if (key == 0) {
        return n;
    }

    first = ngx_webtorch_learned_first(key);

    for (i = 0; i < NGX_WEBTORCH_LEARNED_PROBES; i++) {
        slot = (first + i) & (n - 1);

        if (keys[slot] == key) {
            return slot;
        }
    }

    return n;
}


float
ngx_webtorch_learned_threshold(const webtorch_learned_t *learned,
    int64_t location, float target)
{
    float         rank, above, found;
    uint32_t      i, slot;
    const float  *scores;

    if (!(target > 0)) {
        return 0;
    }

    slot = ngx_webtorch_learned_find(learned->locations, learned->nlocations,
                                     location);

    if (slot == learned->nlocations) {
        return NGX_WEBTORCH_LEARNED_SURE;
    }

    scores = learned->scores + (size_t) slot * (1 + WEBTORCH_BINS);

    if (!(scores[0] > 0)) {
        return NGX_WEBTORCH_LEARNED_SURE;
    }

    rank = target * (scores[0] + 1);
    above = 0;

    /* the greatest logit that as many requests have reached */

    for (i = WEBTORCH_BINS; i > 0; i--) {
        above += scores[i];

        if (above >= fmaxf(rank, 1.0f)) {
            break;
        }
    }

    found = NGX_WEBTORCH_LEARNED_LOWEST
            + NGX_WEBTORCH_LEARNED_WIDTH * (float) i
            - logf(fmaxf(fminf(rank, 1.0f), 1e-9f));

    return fmaxf(fminf(found, NGX_WEBTORCH_LEARNED_SURE),
                 NGX_WEBTORCH_LEARNED_LEAST);
}
