
/* What a worker does for the zone while no batch does it. */


#ifndef _NGX_WEBTORCH_UPKEEP_H_INCLUDED_
#define _NGX_WEBTORCH_UPKEEP_H_INCLUDED_


#include "ngx_webtorch_zone.h"


/* called in a worker, before its event loop */
void ngx_webtorch_upkeep_init(ngx_log_t *log);


#endif /* _NGX_WEBTORCH_UPKEEP_H_INCLUDED_ */
