
#include "ngx_webtorch_exit.h"


static void ngx_webtorch_exit_handler(void);
static void ngx_webtorch_exit_tools(void);


/* destructor hooks of coverage and leak tools; NULL without the tool */

void __gcov_dump(void) __attribute__((weak));
int __llvm_profile_write_file(void) __attribute__((weak));
void __lsan_do_leak_check(void) __attribute__((weak));


ngx_int_t
ngx_webtorch_exit_without_destructors(ngx_log_t *log)
{
    /*
     * The last one that is registered runs first.  Destructors are registered
     * in the same list, when their library is loaded.
     */

    if (atexit(ngx_webtorch_exit_handler) != 0) {
        ngx_log_error(NGX_LOG_ALERT, log, 0, "atexit() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_webtorch_exit_handler(void)
{
    (void) fflush(NULL);

    ngx_webtorch_exit_tools();

    _exit(0);
}


static void
ngx_webtorch_exit_tools(void)
{
    if (__gcov_dump) {
        __gcov_dump();
    }

    if (__llvm_profile_write_file) {
        (void) __llvm_profile_write_file();
    }

    if (__lsan_do_leak_check) {
        __lsan_do_leak_check();
    }
}


void
ngx_webtorch_exit_now(ngx_cycle_t *cycle)
{
    if (ngx_process == NGX_PROCESS_SINGLE) {
        ngx_delete_pidfile(cycle);
    }

    ngx_webtorch_exit_tools();

    _exit(0);
}
