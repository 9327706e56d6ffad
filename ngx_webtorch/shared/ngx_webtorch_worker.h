
/* Which workers run, and what each of them does. */


#ifndef _NGX_WEBTORCH_WORKER_H_INCLUDED_
#define _NGX_WEBTORCH_WORKER_H_INCLUDED_


#include "ngx_webtorch_zone.h"


/* takes a slot for this worker; logs what workers that crashed were running */
void ngx_webtorch_worker_init(ngx_webtorch_conf_t *conf, ngx_log_t *log);

/* this worker is in its event loop */
void ngx_webtorch_worker_ready(void);

/* frees the slot; this worker uses no blocks from now on */
void ngx_webtorch_worker_exit(void);

/* returns where a handler of this worker records its batches, never NULL */
ngx_webtorch_run_t *ngx_webtorch_worker_run(ngx_str_t *name);


/*
 * The users of a block: a bit for each slot.  This worker is added and removed
 * atomically, as the event loop removes it without the zone's lock.
 */

/* NGX_DECLINED: this process has no slot */
ngx_int_t ngx_webtorch_worker_add_user(uint64_t *users);
void ngx_webtorch_worker_remove_user(uint64_t *users);

/* counts users that still run; called with the zone's lock */
ngx_uint_t ngx_webtorch_worker_count_users(uint64_t *users);

/* identifies this worker for as long as the zone exists; 0: it has no slot */
uint64_t ngx_webtorch_worker_serial(void);

/* whether a worker still runs; called with the zone's lock */
ngx_uint_t ngx_webtorch_worker_runs(uint64_t serial);


#endif /* _NGX_WEBTORCH_WORKER_H_INCLUDED_ */
