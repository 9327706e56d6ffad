
/*
 * A timer that nginx can log: on a debug build ngx_event_ident() reads the
 * descriptor of a connection through the data of every event.
 */


#ifndef _NGX_WEBTORCH_TIMER_H_INCLUDED_
#define _NGX_WEBTORCH_TIMER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


typedef struct {
    ngx_event_t       event;
    ngx_connection_t  ident;              /* fd -1; its data is the owner's */
} ngx_webtorch_timer_t;


/* the owner's data, in the handler of a timer */
#define ngx_webtorch_timer_data(ev)                                           \
    (((ngx_connection_t *) (ev)->data)->data)


void ngx_webtorch_timer_init(ngx_webtorch_timer_t *timer,
    ngx_event_handler_pt handler, void *data, ngx_log_t *log);


#endif /* _NGX_WEBTORCH_TIMER_H_INCLUDED_ */
