
/* Processes that Python code of handlers forks, for example a pool of them. */


#ifndef _NGX_WEBTORCH_FORK_H_INCLUDED_
#define _NGX_WEBTORCH_FORK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * In a process that will load handlers, before it does.  From then on its
 * children are processes of their own: they have no signal handlers, sockets
 * and events of nginx, and are killed when this process exits.  Python has
 * SIGCHLD.
 */
ngx_int_t ngx_webtorch_fork_init(ngx_log_t *log);

/* exits if this process is such a child: it must not run nginx's code */
void ngx_webtorch_fork_exit_child(void);


#endif /* _NGX_WEBTORCH_FORK_H_INCLUDED_ */
