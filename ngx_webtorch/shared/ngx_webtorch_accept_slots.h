
/*
 * What workers know of the connections of others.
 */


#ifndef _NGX_WEBTORCH_ACCEPT_SLOTS_H_INCLUDED_
#define _NGX_WEBTORCH_ACCEPT_SLOTS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_accept.h"


/* written by one worker, read by the others; one cache line */

typedef struct {
    ngx_atomic_t           alive;
    ngx_atomic_t           busy;          /* requests */
    ngx_atomic_t           fresh;         /* connections without a request,
                                             since that time */
    ngx_atomic_t           since;         /* ms */
    ngx_atomic_t           naccepted;     /* connections, ever */
    ngx_atomic_t           offered;       /* time when another worker has woken
                                             it, which may write it, too; 0: it
                                             has answered */
} ngx_webtorch_accept_slot_t;

#define NGX_WEBTORCH_ACCEPT_SLOT_SIZE                                         \
    ngx_align(sizeof(ngx_webtorch_accept_slot_t), 64)


/* slots of a configuration, created by the master */

struct ngx_webtorch_accept_s {
    ngx_shm_t              shm;           /* slots */
    ngx_int_t              n;             /* workers */
    ngx_fd_t             (*pipes)[2];
};


/* in the master; NULL: an error, cleanup frees what there is */
ngx_webtorch_accept_t *ngx_webtorch_accept_create(ngx_cycle_t *cycle,
    ngx_int_t n, void (*cleanup)(void *data));


#endif /* _NGX_WEBTORCH_ACCEPT_SLOTS_H_INCLUDED_ */
