
/* Training in strict order, as other files of the module use it. */


#ifndef _NGX_WEBTORCH_TRAINING_H_INCLUDED_
#define _NGX_WEBTORCH_TRAINING_H_INCLUDED_


#include "ngx_webtorch_zone.h"


/*
 * Undoes the step that a worker was making when it exited, if there is one.
 * Does not wait for the lock of training.
 */
void ngx_webtorch_training_recover(void);

/* last value set by ngx_webtorch_rounds_join() in this zone */
ngx_uint_t ngx_webtorch_rounds_joined(void);


#endif /* _NGX_WEBTORCH_TRAINING_H_INCLUDED_ */
