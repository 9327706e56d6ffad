
#include "ngx_webtorch_handoff.h"
#include "ngx_webtorch_robust.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>


/* bits of a slot's state below the number of the owner */
#define NGX_WEBTORCH_HANDOFF_BITS    3
#define NGX_WEBTORCH_HANDOFF_MASK    7

/* ms between polls for a live owner */
#define NGX_WEBTORCH_HANDOFF_POLL    50

/* ms after which no thread of a process that was killed runs */
#define NGX_WEBTORCH_HANDOFF_SETTLE  20

/* ms that the owner sleeps at most */
#define NGX_WEBTORCH_HANDOFF_SLEEP   1000

/* alignment of memory in a slot, bytes; as for tensors in PyTorch */
#define NGX_WEBTORCH_HANDOFF_ALIGN   64

/* bytes of a slot that stay allocated when it is free */
#define NGX_WEBTORCH_HANDOFF_KEPT    (1024 * 1024)


struct ngx_webtorch_handoff_s {
    size_t                         mapped;

    pthread_mutex_t                owner;     /* the owner holds it */
    uint32_t                       epoch;     /* atomic: number of the owner */
    uint32_t                       bell;      /* atomic, a futex */
    uint32_t                       asleep;    /* atomic: the owner sleeps */

    ngx_uint_t                     nworkers;
    ngx_uint_t                     nslots;    /* of each */
    ngx_uint_t                     nwords;
    pthread_mutex_t               *workers;   /* each holds its own */
    uint64_t                      *posted;    /* atomic: a bit for each slot
                                                 that may be posted */
    ngx_webtorch_handoff_slot_t   *slots;
};


static void ngx_webtorch_handoff_init(ngx_webtorch_handoff_t *handoff,
    const size_t *sizes);
static size_t ngx_webtorch_handoff_head(ngx_uint_t nworkers,
    ngx_uint_t nslots);
static uint32_t ngx_webtorch_handoff_taken(ngx_webtorch_handoff_t *handoff);
static ngx_uint_t ngx_webtorch_handoff_is_lost(
    ngx_webtorch_handoff_t *handoff, ngx_webtorch_handoff_slot_t *slot,
    uint32_t state);
static void ngx_webtorch_handoff_settle(void);
static void ngx_webtorch_handoff_futex_wait(uint32_t *futex, uint32_t value,
    ngx_msec_t timeout);
static void ngx_webtorch_handoff_futex_wake(uint32_t *futex);


#define ngx_webtorch_handoff_words(n)  (((n) + 63) / 64)

#define ngx_webtorch_handoff_page(size)                                       \
    ngx_align((size), (size_t) sysconf(_SC_PAGESIZE))


ngx_webtorch_handoff_t *
ngx_webtorch_handoff_create(ngx_uint_t nworkers, const size_t *sizes,
    ngx_uint_t nsizes)
{
    size_t                   size;
    ngx_uint_t               i;
    ngx_webtorch_handoff_t  *handoff;

    size = 0;

    for (i = 0; i < nsizes; i++) {
        size += ngx_webtorch_handoff_page(sizes[i]);
    }

    size = (nworkers - 1) * size + ngx_webtorch_handoff_head(nworkers, nsizes);

    handoff = mmap(NULL, size, PROT_READ|PROT_WRITE,
                   MAP_SHARED|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0);

    if (handoff == MAP_FAILED) {
        return NULL;
    }

    /* a core of a worker would have all batches of the others */
    (void) madvise(handoff, size, MADV_DONTDUMP);

    handoff->mapped = size;
    handoff->nworkers = nworkers;
    handoff->nslots = nsizes;

    ngx_webtorch_handoff_init(handoff, sizes);

    return handoff;
}


static size_t
ngx_webtorch_handoff_head(ngx_uint_t nworkers, ngx_uint_t nslots)
{
    ngx_uint_t  n;

    n = nworkers * nslots;

    return ngx_webtorch_handoff_page(
               ngx_align(sizeof(ngx_webtorch_handoff_t), 64)
               + n * ngx_align(sizeof(ngx_webtorch_handoff_slot_t), 64)
               + nworkers * sizeof(pthread_mutex_t)
               + ngx_webtorch_handoff_words(n) * sizeof(uint64_t));
}


static void
ngx_webtorch_handoff_init(ngx_webtorch_handoff_t *handoff, const size_t *sizes)
{
    u_char                       *p, *data;
    ngx_uint_t                    i, n;
    ngx_webtorch_handoff_slot_t  *slot;

    n = handoff->nworkers * handoff->nslots;

    p = (u_char *) handoff;
    data = p + ngx_webtorch_handoff_head(handoff->nworkers, handoff->nslots);

    p += ngx_align(sizeof(ngx_webtorch_handoff_t), 64);
    handoff->slots = (ngx_webtorch_handoff_slot_t *) p;

    p += n * ngx_align(sizeof(ngx_webtorch_handoff_slot_t), 64);
    handoff->workers = (pthread_mutex_t *) p;

    p += handoff->nworkers * sizeof(pthread_mutex_t);
    handoff->posted = (uint64_t *) p;
    handoff->nwords = ngx_webtorch_handoff_words(n);

    ngx_webtorch_robust_init(&handoff->owner);

    for (i = 0; i < handoff->nworkers; i++) {
        ngx_webtorch_robust_init(&handoff->workers[i]);
    }

    for (i = 0; i < n; i++) {
        slot = &handoff->slots[i];

        slot->number = (uint32_t) i;
        slot->data = data;
        /* the owner, which is worker 0, offloads nothing */
        slot->size = (i < handoff->nslots) ? 0 : sizes[i % handoff->nslots];

        data += ngx_webtorch_handoff_page(slot->size);
    }
}


void
ngx_webtorch_handoff_free(ngx_webtorch_handoff_t *handoff)
{
    (void) munmap(handoff, handoff->mapped);
}


/* --- workers --- */


void
ngx_webtorch_handoff_join(ngx_webtorch_handoff_t *handoff, ngx_uint_t worker)
{
    ngx_uint_t  i;

    (void) ngx_webtorch_robust_lock(&handoff->workers[worker]);

    for (i = 0; i < handoff->nslots; i++) {
        (void) ngx_webtorch_handoff_withdraw(
                   ngx_webtorch_handoff_slot(handoff, worker, i));
    }
}


ngx_webtorch_handoff_slot_t *
ngx_webtorch_handoff_slot(ngx_webtorch_handoff_t *handoff, ngx_uint_t worker,
    ngx_uint_t i)
{
    return &handoff->slots[worker * handoff->nslots + i];
}


ngx_int_t
ngx_webtorch_handoff_begin(ngx_webtorch_handoff_t *handoff,
    ngx_webtorch_handoff_slot_t *slot)
{
    uint32_t  state;

    state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

    if ((state & NGX_WEBTORCH_HANDOFF_MASK) == NGX_WEBTORCH_HANDOFF_TAKEN) {

        if (!ngx_webtorch_handoff_is_lost(handoff, slot, state)) {
            return NGX_AGAIN;
        }

        ngx_webtorch_handoff_settle();
    }

    ngx_webtorch_handoff_release(slot);

    return NGX_OK;
}


/* the bit before the bell: the owner looks for bits after it has read that */

void
ngx_webtorch_handoff_post(ngx_webtorch_handoff_t *handoff,
    ngx_webtorch_handoff_slot_t *slot)
{
    __atomic_store_n(&slot->state, NGX_WEBTORCH_HANDOFF_POSTED,
                     __ATOMIC_RELEASE);

    (void) __atomic_fetch_or(&handoff->posted[slot->number / 64],
                             (uint64_t) 1 << slot->number % 64,
                             __ATOMIC_RELEASE);

    ngx_webtorch_handoff_ring(handoff);
}


ngx_webtorch_handoff_state_e
ngx_webtorch_handoff_wait(ngx_webtorch_handoff_t *handoff,
    ngx_webtorch_handoff_slot_t *slot, ngx_msec_t timeout)
{
    uint32_t                      state;
    ngx_msec_t                    pause;
    ngx_webtorch_handoff_state_e  found;

    for ( ;; ) {
        state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
        found = state & NGX_WEBTORCH_HANDOFF_MASK;

        if (found == NGX_WEBTORCH_HANDOFF_DONE) {
            return found;
        }

        if (timeout == 0) {
            return found;
        }

        pause = ngx_min(timeout, NGX_WEBTORCH_HANDOFF_POLL);
        timeout -= pause;

        ngx_webtorch_handoff_futex_wait(&slot->state, state, pause);

        if (ngx_webtorch_handoff_is_lost(handoff, slot, state)) {
            ngx_webtorch_handoff_settle();
            return NGX_WEBTORCH_HANDOFF_LOST;
        }
    }
}


/*
 * The mutex of a process that is killed is passed on when its main thread is
 * gone, and another thread of it may run a few microseconds longer.
 */

static void
ngx_webtorch_handoff_settle(void)
{
    (void) usleep(NGX_WEBTORCH_HANDOFF_SETTLE * 1000);
}


/* a change since the state was read is not overlooked: it may be done */

static ngx_uint_t
ngx_webtorch_handoff_is_lost(ngx_webtorch_handoff_t *handoff,
    ngx_webtorch_handoff_slot_t *slot, uint32_t state)
{
    if ((state & NGX_WEBTORCH_HANDOFF_MASK) != NGX_WEBTORCH_HANDOFF_TAKEN) {
        return 0;
    }

    if (state >> NGX_WEBTORCH_HANDOFF_BITS
            == __atomic_load_n(&handoff->epoch, __ATOMIC_ACQUIRE)
        && ngx_webtorch_handoff_owned(handoff))
    {
        return 0;
    }

    return __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == state;
}


ngx_int_t
ngx_webtorch_handoff_withdraw(ngx_webtorch_handoff_slot_t *slot)
{
    uint32_t  posted;

    posted = NGX_WEBTORCH_HANDOFF_POSTED;

    return __atomic_compare_exchange_n(&slot->state, &posted,
                                       NGX_WEBTORCH_HANDOFF_FREE, 0,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)
               ? NGX_OK : NGX_DECLINED;
}


void
ngx_webtorch_handoff_release(ngx_webtorch_handoff_slot_t *slot)
{
    if (slot->used > NGX_WEBTORCH_HANDOFF_KEPT) {
        (void) madvise(slot->data + NGX_WEBTORCH_HANDOFF_KEPT,
                       slot->used - NGX_WEBTORCH_HANDOFF_KEPT, MADV_REMOVE);
    }

    slot->used = 0;

    __atomic_store_n(&slot->state, NGX_WEBTORCH_HANDOFF_FREE,
                     __ATOMIC_RELEASE);
}


ngx_uint_t
ngx_webtorch_handoff_owned(ngx_webtorch_handoff_t *handoff)
{
    return ngx_webtorch_robust_held(&handoff->owner);
}


ngx_uint_t
ngx_webtorch_handoff_served(ngx_webtorch_handoff_t *handoff, ngx_uint_t i)
{
    ngx_webtorch_handoff_slot_t  *slot;

    slot = ngx_webtorch_handoff_slot(handoff, 0, i);

    return __atomic_load_n(&slot->serves, __ATOMIC_RELAXED)
           && ngx_webtorch_handoff_owned(handoff);
}


/* --- the owner --- */


void
ngx_webtorch_handoff_own(ngx_webtorch_handoff_t *handoff)
{
    ngx_uint_t  i;

    (void) ngx_webtorch_robust_lock(&handoff->owner);

    (void) __atomic_add_fetch(&handoff->epoch, 1, __ATOMIC_SEQ_CST);

    for (i = 0; i < handoff->nslots; i++) {
        ngx_webtorch_handoff_serve(handoff, i, 0);
    }

    /* the owner before may have taken a bit and not the slot */

    for (i = 0; i < handoff->nwords; i++) {
        __atomic_store_n(&handoff->posted[i], UINT64_MAX, __ATOMIC_SEQ_CST);
    }

    for (i = 0; i < handoff->nworkers * handoff->nslots; i++) {
        ngx_webtorch_handoff_futex_wake(&handoff->slots[i].state);
    }
}


void
ngx_webtorch_handoff_serve(ngx_webtorch_handoff_t *handoff, ngx_uint_t i,
    ngx_uint_t serves)
{
    ngx_webtorch_handoff_slot_t  *slot;

    slot = ngx_webtorch_handoff_slot(handoff, 0, i);

    __atomic_store_n(&slot->serves, (uint32_t) serves, __ATOMIC_RELAXED);
}


/* the state of what the owner that calls it has taken */

static uint32_t
ngx_webtorch_handoff_taken(ngx_webtorch_handoff_t *handoff)
{
    return (handoff->epoch << NGX_WEBTORCH_HANDOFF_BITS)
           | NGX_WEBTORCH_HANDOFF_TAKEN;
}


ngx_webtorch_handoff_slot_t *
ngx_webtorch_handoff_take(ngx_webtorch_handoff_t *handoff)
{
    uint32_t                      posted, taken;
    uint64_t                      word, bit;
    ngx_uint_t                    i, n;
    ngx_webtorch_handoff_slot_t  *slot;

    taken = ngx_webtorch_handoff_taken(handoff);

    for (i = 0; i < handoff->nwords; i++) {

        while ((word = __atomic_load_n(&handoff->posted[i],
                                       __ATOMIC_ACQUIRE))
               != 0)
        {
            bit = word & -word;
            n = i * 64 + (ngx_uint_t) __builtin_ctzll(word);

            (void) __atomic_fetch_and(&handoff->posted[i], ~bit,
                                      __ATOMIC_ACQ_REL);

            if (n >= handoff->nworkers * handoff->nslots) {
                continue;
            }

            slot = &handoff->slots[n];
            posted = NGX_WEBTORCH_HANDOFF_POSTED;

            if (__atomic_compare_exchange_n(&slot->state, &posted, taken, 0,
                                            __ATOMIC_ACQ_REL,
                                            __ATOMIC_RELAXED))
            {
                return slot;
            }
        }
    }

    return NULL;
}


uint32_t
ngx_webtorch_handoff_bell(ngx_webtorch_handoff_t *handoff)
{
    return __atomic_load_n(&handoff->bell, __ATOMIC_SEQ_CST);
}


void
ngx_webtorch_handoff_sleep(ngx_webtorch_handoff_t *handoff, uint32_t bell)
{
    __atomic_store_n(&handoff->asleep, 1, __ATOMIC_SEQ_CST);

    ngx_webtorch_handoff_futex_wait(&handoff->bell, bell,
                                    NGX_WEBTORCH_HANDOFF_SLEEP);

    __atomic_store_n(&handoff->asleep, 0, __ATOMIC_SEQ_CST);
}


void
ngx_webtorch_handoff_ring(ngx_webtorch_handoff_t *handoff)
{
    (void) __atomic_add_fetch(&handoff->bell, 1, __ATOMIC_SEQ_CST);

    if (__atomic_load_n(&handoff->asleep, __ATOMIC_SEQ_CST)) {
        ngx_webtorch_handoff_futex_wake(&handoff->bell);
    }
}


void
ngx_webtorch_handoff_finish(ngx_webtorch_handoff_t *handoff,
    ngx_webtorch_handoff_slot_t *slot)
{
    uint32_t  taken;

    taken = ngx_webtorch_handoff_taken(handoff);

    if (__atomic_compare_exchange_n(&slot->state, &taken,
                                    NGX_WEBTORCH_HANDOFF_DONE, 0,
                                    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
    {
        ngx_webtorch_handoff_futex_wake(&slot->state);
    }
}


ngx_uint_t
ngx_webtorch_handoff_joined(ngx_webtorch_handoff_t *handoff)
{
    ngx_uint_t  i;

    for (i = 0; i < handoff->nworkers; i++) {
        if (ngx_webtorch_robust_held(&handoff->workers[i])) {
            return 1;
        }
    }

    return 0;
}


void *
ngx_webtorch_handoff_alloc(ngx_webtorch_handoff_slot_t *slot, size_t size)
{
    u_char  *p;
    size_t   used;

    used = ngx_align(slot->used, NGX_WEBTORCH_HANDOFF_ALIGN);

    if (used > slot->size || size > slot->size - used) {
        return NULL;
    }

    p = slot->data + used;
    slot->used = used + size;

    return p;
}


static void
ngx_webtorch_handoff_futex_wait(uint32_t *futex, uint32_t value,
    ngx_msec_t timeout)
{
    struct timespec  ts;

    ts.tv_sec = (time_t) (timeout / 1000);
    ts.tv_nsec = (long) (timeout % 1000) * 1000000;

    (void) syscall(SYS_futex, futex, FUTEX_WAIT, value, &ts, NULL, 0);
}


static void
ngx_webtorch_handoff_futex_wake(uint32_t *futex)
{
    (void) syscall(SYS_futex, futex, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
