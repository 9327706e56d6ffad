
#include "ngx_webtorch_timer.h"


void
ngx_webtorch_timer_init(ngx_webtorch_timer_t *timer,
    ngx_event_handler_pt handler, void *data, ngx_log_t *log)
{
    ngx_memzero(timer, sizeof(ngx_webtorch_timer_t));

    timer->ident.fd = (ngx_socket_t) -1;
    timer->ident.data = data;

    timer->event.handler = handler;
    timer->event.data = &timer->ident;
    timer->event.log = log;
}
