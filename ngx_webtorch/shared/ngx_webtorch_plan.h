
/*
 * The check of a configuration changes nothing in the zone.  The space that its
 * models would take is planned in a copy of the table of blocks.
 */


#ifndef _NGX_WEBTORCH_PLAN_H_INCLUDED_
#define _NGX_WEBTORCH_PLAN_H_INCLUDED_


#include "ngx_webtorch_zone.h"


/* from now on this process plans; an error is logged */
ngx_int_t ngx_webtorch_plan_init(ngx_log_t *log);

/* whether this process only plans */
ngx_uint_t ngx_webtorch_plan_active(void);

/*
 * A block that the zone has is used, or another one is made; undo: with its
 * copy.  Called with the zone's lock.
 */
void ngx_webtorch_plan_use(ngx_webtorch_block_t *block, ngx_uint_t undo);
void ngx_webtorch_plan_add(ngx_webtorch_block_t *like, ngx_uint_t undo);

/* bytes that the zone must have at least; 0: all models have space */
size_t ngx_webtorch_plan_needed(void);


#endif /* _NGX_WEBTORCH_PLAN_H_INCLUDED_ */
