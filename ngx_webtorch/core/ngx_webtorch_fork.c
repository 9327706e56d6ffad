
#include "ngx_webtorch_fork.h"

#include <ngx_channel.h>

#include <poll.h>
#include <pthread.h>


/* nginx has an epoll and two eventfds, with the lowest numbers */
#define NGX_WEBTORCH_FORK_MAX_EVENTS  8
#define NGX_WEBTORCH_FORK_MAX_FD      256


static void ngx_webtorch_fork_set_signals(void);
static void ngx_webtorch_fork_find_events(void);
static void ngx_webtorch_fork_set_cloexec(void);
static void ngx_webtorch_fork_child(void);
static void ngx_webtorch_fork_reset_signals(void);
static void ngx_webtorch_fork_close(void);
static void ngx_webtorch_fork_close_fd(ngx_fd_t fd);
static void ngx_webtorch_fork_follow_parent(void);


/* nginx's signal handler */
static struct sigaction  ngx_webtorch_fork_action;

/* epoll and eventfds, which no global variable of nginx has */
static ngx_fd_t          ngx_webtorch_fork_events[NGX_WEBTORCH_FORK_MAX_EVENTS];
static ngx_uint_t        ngx_webtorch_fork_nevents;

/* only the parent has the end for writing: it is closed when the parent exits */
static ngx_fd_t          ngx_webtorch_fork_pipe[2] = { -1, -1 };

static ngx_uint_t        ngx_webtorch_fork_registered;
static ngx_uint_t        ngx_webtorch_forked;


ngx_int_t
ngx_webtorch_fork_init(ngx_log_t *log)
{
    int  err;

    ngx_webtorch_fork_close_fd(ngx_webtorch_fork_pipe[0]);
    ngx_webtorch_fork_close_fd(ngx_webtorch_fork_pipe[1]);

    ngx_webtorch_forked = 0;

    if (pipe2(ngx_webtorch_fork_pipe, O_CLOEXEC) == -1) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno, "pipe2() failed");
        return NGX_ERROR;
    }

    ngx_webtorch_fork_set_signals();
    ngx_webtorch_fork_find_events();
    ngx_webtorch_fork_set_cloexec();

    if (ngx_webtorch_fork_registered) {
        return NGX_OK;
    }

    err = pthread_atfork(NULL, NULL, ngx_webtorch_fork_child);

    if (err) {
        ngx_log_error(NGX_LOG_EMERG, log, err, "pthread_atfork() failed");
        return NGX_ERROR;
    }

    ngx_webtorch_fork_registered = 1;

    return NGX_OK;
}


/*
 * nginx's handler of SIGCHLD waits for every child and so takes the exit
 * statuses that Python waits for.  nginx has no children here.  A handler that
 * another module has set stays.
 */

static void
ngx_webtorch_fork_set_signals(void)
{
    struct sigaction  sa;

    (void) sigaction(SIGTERM, NULL, &ngx_webtorch_fork_action);
    (void) sigaction(SIGCHLD, NULL, &sa);

    if (sa.sa_sigaction == ngx_webtorch_fork_action.sa_sigaction) {
        (void) signal(SIGCHLD, SIG_DFL);
    }
}


static void
ngx_webtorch_fork_find_events(void)
{
    char      path[sizeof("/proc/self/fd/") + NGX_INT_T_LEN];
    char      link[64];
    ssize_t   n;
    ngx_fd_t  fd;

    ngx_webtorch_fork_nevents = 0;

    for (fd = STDERR_FILENO + 1; fd < NGX_WEBTORCH_FORK_MAX_FD; fd++) {

        (void) ngx_sprintf((u_char *) path, "/proc/self/fd/%d%Z", fd);

        n = readlink(path, link, sizeof(link) - 1);

        if (n == -1) {
            continue;
        }

        link[n] = '\0';

        if (ngx_strcmp(link, "anon_inode:[eventpoll]") != 0
            && ngx_strcmp(link, "anon_inode:[eventfd]") != 0)
        {
            continue;
        }

        ngx_webtorch_fork_events[ngx_webtorch_fork_nevents++] = fd;

        if (ngx_webtorch_fork_nevents == NGX_WEBTORCH_FORK_MAX_EVENTS) {
            return;
        }
    }
}


/*
 * A program that Python starts without a call of fork(), as os.system() does,
 * must not keep the port.  A worker executes no new binary of nginx.
 */

static void
ngx_webtorch_fork_set_cloexec(void)
{
    ngx_uint_t        i;
    ngx_listening_t  *ls;

    ls = ngx_cycle->listening.elts;

    for (i = 0; i < ngx_cycle->listening.nelts; i++) {
        if (ls[i].fd != (ngx_socket_t) -1) {
            (void) fcntl(ls[i].fd, F_SETFD, FD_CLOEXEC);
        }
    }
}


/*
 * Runs in the child within fork(), in the only thread that it has, and calls
 * functions that are safe there.
 */

static void
ngx_webtorch_fork_child(void)
{
    ngx_webtorch_forked = 1;
    ngx_pid = ngx_getpid();

    ngx_webtorch_fork_reset_signals();
    ngx_webtorch_fork_close();
    ngx_webtorch_fork_follow_parent();
}


/* handlers that Python code has set, and ignored SIGPIPE, stay */

static void
ngx_webtorch_fork_reset_signals(void)
{
    int               signo;
    sigset_t          set;
    struct sigaction  sa;

    for (signo = 1; signo < NSIG; signo++) {
        if (sigaction(signo, NULL, &sa) == -1) {
            continue;
        }

        if (signo == SIGSYS
            || sa.sa_sigaction == ngx_webtorch_fork_action.sa_sigaction)
        {
            (void) signal(signo, SIG_DFL);
        }
    }

    /* threads of the parent have them blocked */

    sigemptyset(&set);
    (void) pthread_sigmask(SIG_SETMASK, &set, NULL);
}


/*
 * What stays open in a child would stay open for a client when the worker
 * closes it, and the port could not be bound again.  A connection that the
 * event loop accepts in this moment, while another thread forks, may be missed.
 */

static void
ngx_webtorch_fork_close(void)
{
    ngx_int_t          n;
    ngx_uint_t         i;
    ngx_listening_t   *ls;
    ngx_connection_t  *c;

    ls = ngx_cycle->listening.elts;

    for (i = 0; i < ngx_cycle->listening.nelts; i++) {
        ngx_webtorch_fork_close_fd(ls[i].fd);
        ls[i].fd = (ngx_socket_t) -1;
    }

    c = ngx_cycle->connections;

    for (i = 0; c && i < ngx_cycle->connection_n; i++) {
        ngx_webtorch_fork_close_fd(c[i].fd);
        c[i].fd = (ngx_socket_t) -1;
    }

    for (i = 0; i < ngx_webtorch_fork_nevents; i++) {
        ngx_webtorch_fork_close_fd(ngx_webtorch_fork_events[i]);
    }

    ngx_webtorch_fork_nevents = 0;

    if (ngx_process != NGX_PROCESS_WORKER) {
        return;
    }

    /* the worker's own channel is a connection */

    for (n = 0; n < ngx_last_process; n++) {
        if (n != ngx_process_slot && ngx_processes[n].pid != -1) {
            ngx_webtorch_fork_close_fd(ngx_processes[n].channel[0]);
            ngx_processes[n].channel[0] = -1;
        }
    }
}


static void
ngx_webtorch_fork_close_fd(ngx_fd_t fd)
{
    if (fd != -1) {
        (void) close(fd);
    }
}


/*
 * The kernel sends SIGKILL when the parent's end of the pipe is closed.  Unlike
 * prctl(PR_SET_PDEATHSIG), this does not depend on the thread that forked,
 * which may exit long before the process.  The owner and the signal belong to
 * the open file, so each child opens the pipe again.  Without /proc a child
 * lives on.
 */

static void
ngx_webtorch_fork_follow_parent(void)
{
    char           path[sizeof("/proc/self/fd/") + NGX_INT_T_LEN];
    ngx_fd_t       fd;
    struct pollfd  pfd;

    ngx_webtorch_fork_close_fd(ngx_webtorch_fork_pipe[1]);
    ngx_webtorch_fork_pipe[1] = -1;

    (void) ngx_sprintf((u_char *) path, "/proc/self/fd/%d%Z",
                       ngx_webtorch_fork_pipe[0]);

    fd = open(path, O_RDONLY|O_NONBLOCK|O_CLOEXEC);

    if (fd == -1) {
        return;
    }

    ngx_webtorch_fork_close_fd(ngx_webtorch_fork_pipe[0]);
    ngx_webtorch_fork_pipe[0] = fd;

    (void) fcntl(fd, F_SETOWN, ngx_pid);
    (void) fcntl(fd, F_SETSIG, SIGKILL);
    (void) fcntl(fd, F_SETFL, O_NONBLOCK|O_ASYNC);

    /* the parent may have exited before that */

    pfd.fd = fd;
    pfd.events = POLLIN;

    if (poll(&pfd, 1, 0) == 1 && pfd.revents & POLLHUP) {
        _exit(1);
    }
}


void
ngx_webtorch_fork_exit_child(void)
{
    if (ngx_webtorch_forked) {
        _exit(0);
    }
}
