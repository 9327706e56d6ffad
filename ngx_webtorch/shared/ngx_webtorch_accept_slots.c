
#include "ngx_webtorch_accept_slots.h"


ngx_webtorch_accept_t *
ngx_webtorch_accept_create(ngx_cycle_t *cycle, ngx_int_t n,
    void (*cleanup)(void *data))
{
    ngx_int_t               i;
    ngx_pool_cleanup_t     *cln;
    ngx_webtorch_accept_t  *accept;

    accept = ngx_pcalloc(cycle->pool, sizeof(ngx_webtorch_accept_t));
    if (accept == NULL) {
        return NULL;
    }

    accept->n = n;

    accept->pipes = ngx_palloc(cycle->pool,
                               (size_t) n * sizeof(*accept->pipes));
    if (accept->pipes == NULL) {
        return NULL;
    }

    for (i = 0; i < n; i++) {
        accept->pipes[i][0] = -1;
        accept->pipes[i][1] = -1;
    }

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    accept->shm.size = (size_t) n * NGX_WEBTORCH_ACCEPT_SLOT_SIZE;
    ngx_str_set(&accept->shm.name, "webtorch_accept");
    accept->shm.log = cycle->log;

    if (ngx_shm_alloc(&accept->shm) != NGX_OK) {
        return NULL;
    }

    cln->handler = cleanup;
    cln->data = accept;

    for (i = 0; i < n; i++) {
        if (pipe2(accept->pipes[i], O_NONBLOCK|O_CLOEXEC) == -1) {
            ngx_log_error(NGX_LOG_ERR, cycle->log, ngx_errno,
                          "pipe2() failed");
            return NULL;
        }
    }

    return accept;
}
