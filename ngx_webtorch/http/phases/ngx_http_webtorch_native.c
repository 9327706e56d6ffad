
#include "ngx_http_webtorch_native.h"

#include <pthread.h>


#define NGX_HTTP_WEBTORCH_NATIVES   16
#define NGX_HTTP_WEBTORCH_HANDLERS  1024

/* how long marks are used as they were read, ms */
#define NGX_HTTP_WEBTORCH_MARKED    1000


struct ngx_http_webtorch_native_s {
    ngx_webtorch_net_t            *net;      /* mutex, as all below; NULL:
                                                none */
    ngx_webtorch_memo_t           *memo;
    webtorch_learned_t             learned;
    ngx_uint_t                     has_learned;

    ngx_webtorch_learned_marks_t   marks;
    ngx_uint_t                     has_marks;
    ngx_msec_t                     checked;  /* the marks */
};


static int ngx_http_webtorch_native_create(const webtorch_net_t *from,
    ngx_webtorch_net_t **net);
static ngx_webtorch_memo_t *ngx_http_webtorch_native_create_memo(void);


static ngx_http_webtorch_native_t  ngx_http_webtorch_natives
                                                 [NGX_HTTP_WEBTORCH_NATIVES];

/* the net of each handler, from 1; set before requests are taken */
static u_char           ngx_http_webtorch_used[NGX_HTTP_WEBTORCH_HANDLERS];

static pthread_mutex_t  ngx_http_webtorch_native_mutex =
                                                    PTHREAD_MUTEX_INITIALIZER;


/* called by Python, in any thread */

int
ngx_webtorch_native_use(uint32_t handler, uint32_t native)
{
    if (handler >= NGX_HTTP_WEBTORCH_HANDLERS
        || native >= NGX_HTTP_WEBTORCH_NATIVES)
    {
        return -1;
    }

    ngx_http_webtorch_used[handler] = (u_char) (native + 1);

    return 0;
}


int
ngx_webtorch_native_set(uint32_t number, const webtorch_net_t *from,
    const webtorch_learned_t *learned)
{
    int                          rc;
    void                        *before;
    ngx_webtorch_net_t          *net;
    ngx_http_webtorch_native_t  *native;

    native = &ngx_http_webtorch_natives[number];
    before = NULL;
    net = NULL;

    if (from) {
        rc = ngx_http_webtorch_native_create(from, &net);
        if (rc != WEBTORCH_NATIVE_SET) {
            return rc;
        }
    }

    /* stays, and only threads of Python that have a lock come here */

    if (native->memo == NULL) {
        native->memo = ngx_http_webtorch_native_create_memo();

        if (native->memo == NULL) {
            free(net);
            return WEBTORCH_NATIVE_NO_MEMORY;
        }
    }

    rc = WEBTORCH_NATIVE_SET;

    (void) pthread_mutex_lock(&ngx_http_webtorch_native_mutex);

    if (net) {
        before = native->net;
        native->net = net;

        /* the memo has results of the replaced net */

        ngx_webtorch_memo_clear(native->memo);
    }

    if (native->net == NULL) {
        rc = WEBTORCH_NATIVE_MISSING;

    } else {
        native->has_learned = (learned != NULL);
        native->checked = ngx_current_msec - NGX_HTTP_WEBTORCH_MARKED;

        if (learned) {
            native->learned = *learned;
        }
    }

    (void) pthread_mutex_unlock(&ngx_http_webtorch_native_mutex);

    free(before);

    return rc;
}


static int
ngx_http_webtorch_native_create(const webtorch_net_t *from,
    ngx_webtorch_net_t **net)
{
    void    *memory;
    size_t   size;

    size = ngx_webtorch_net_size(from);

    if (size == 0) {
        return WEBTORCH_NATIVE_REFUSED;
    }

    if (posix_memalign(&memory, 64, size) != 0) {
        return WEBTORCH_NATIVE_NO_MEMORY;
    }

    *net = ngx_webtorch_net_init(memory, from);

    if (*net == NULL) {
        free(memory);
        return WEBTORCH_NATIVE_REFUSED;
    }

    return WEBTORCH_NATIVE_SET;
}


static ngx_webtorch_memo_t *
ngx_http_webtorch_native_create_memo(void)
{
    void      *memo;
    uint64_t   seed;

    if (getentropy(&seed, sizeof(uint64_t)) != 0
        || posix_memalign(&memo, _Alignof(ngx_webtorch_memo_t),
                          sizeof(ngx_webtorch_memo_t))
           != 0)
    {
        return NULL;
    }

    ngx_webtorch_memo_init(memo, seed);

    return memo;
}


void
ngx_webtorch_native_clear(uint32_t number)
{
    void                        *before;
    ngx_http_webtorch_native_t  *native;

    native = &ngx_http_webtorch_natives[number];

    (void) pthread_mutex_lock(&ngx_http_webtorch_native_mutex);

    before = native->net;
    native->net = NULL;
    native->has_learned = 0;

    (void) pthread_mutex_unlock(&ngx_http_webtorch_native_mutex);

    free(before);
}


ngx_http_webtorch_native_t *
ngx_http_webtorch_native_get(ngx_webtorch_handler_t *handler)
{
    ngx_uint_t                   number;
    ngx_http_webtorch_native_t  *native;

    if (handler->index >= NGX_HTTP_WEBTORCH_HANDLERS) {
        return NULL;
    }

    number = ngx_http_webtorch_used[handler->index];

    if (number == 0) {
        return NULL;
    }

    native = &ngx_http_webtorch_natives[number - 1];

    (void) pthread_mutex_lock(&ngx_http_webtorch_native_mutex);

    if (native->net) {
        return native;
    }

    (void) pthread_mutex_unlock(&ngx_http_webtorch_native_mutex);

    return NULL;
}


void
ngx_http_webtorch_native_release(ngx_http_webtorch_native_t *native)
{
    (void) pthread_mutex_unlock(&ngx_http_webtorch_native_mutex);
}


const ngx_webtorch_net_t *
ngx_http_webtorch_native_net(ngx_http_webtorch_native_t *native)
{
    return native->net;
}


ngx_webtorch_memo_t *
ngx_http_webtorch_native_memo(ngx_http_webtorch_native_t *native)
{
    return native->memo;
}


void
ngx_http_webtorch_native_site(ngx_http_webtorch_native_t *native,
    ngx_webtorch_scored_site_t *site)
{
    site->learned = NULL;
    site->marks = NULL;

    if (!native->has_learned) {
        return;
    }

    if (ngx_current_msec - native->checked >= NGX_HTTP_WEBTORCH_MARKED) {
        native->checked = ngx_current_msec;
        native->has_marks = ngx_webtorch_learned_read_marks(&native->learned,
                                                            &native->marks);
    }

    site->learned = &native->learned;
    site->marks = native->has_marks ? &native->marks : NULL;
}
