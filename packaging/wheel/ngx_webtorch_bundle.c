
/*
 * nginx as a library of a Python interpreter, which calls
 * ngx_webtorch_bundle_main().  The command line is that of the interpreter: its
 * last words are nginx's.
 *
 * The words before them are joined, as if the name of the program had spaces:
 * so nginx writes the titles of processes over the whole command line.  When a
 * new binary is to be executed (SIGUSR2), that name stands for all of them.
 */

#include <errno.h>
#include <string.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>


int main(int argc, char *const *argv);
int __real_execve(const char *path, char *const argv[], char *const envp[]);


/* exported, as all that the version script names */
void ngx_webtorch_bundle_main(const char *executable, int before);
int __wrap_execve(const char *path, char *const argv[], char *const envp[]);

static void ngx_webtorch_bundle_init(int argc, char **argv, char **envp)
    __attribute__((constructor));
static int ngx_webtorch_bundle_keep_environ(void);


extern char  **environ;


/* where the kernel has put the words, with the environment after them */
static int     ngx_webtorch_bundle_argc;
static char  **ngx_webtorch_bundle_argv;

static char   *ngx_webtorch_bundle_executable;
static char  **ngx_webtorch_bundle_command;
static char   *ngx_webtorch_bundle_name;


/*
 * libcrypt makes salts with it, which nginx does not.  glibc has it since 2.36,
 * and nothing else here needs more than 2.34.
 */

void
arc4random_buf(void *buf, size_t size)
{
    char     *p;
    ssize_t   n;

    for (p = buf; size; p += n, size -= n) {
        n = getrandom(p, size, 0);

        if (n == -1) {
            if (errno != EINTR) {
                abort();
            }

            n = 0;
        }
    }
}


/* glibc passes the words of the process to constructors of libraries, too */

static void
ngx_webtorch_bundle_init(int argc, char **argv, char **envp)
{
    ngx_webtorch_bundle_argc = argc;
    ngx_webtorch_bundle_argv = argv;
}


/* before: the number of words before "nginx"; does not return */

void
ngx_webtorch_bundle_main(const char *executable, int before)
{
    int     i, argc;
    char   *p, **argv, **command;

    argc = ngx_webtorch_bundle_argc;
    argv = ngx_webtorch_bundle_argv;

    if (before < 1 || before >= argc) {
        exit(1);
    }

    command = calloc((size_t) argc + 1, sizeof(char *));

    if (command == NULL) {
        exit(1);
    }

    for (i = 0; i < argc; i++) {
        command[i] = strdup(argv[i]);

        if (command[i] == NULL) {
            exit(1);
        }
    }

    for (i = 0; i < before; i++) {
        p = argv[i] + strlen(argv[i]);

        if (p + 1 == argv[i + 1]) {
            *p = ' ';
        }
    }

    argv[before] = argv[0];

    ngx_webtorch_bundle_command = command;
    ngx_webtorch_bundle_name = strdup(argv[0]);
    ngx_webtorch_bundle_executable = strdup(executable);

    if (ngx_webtorch_bundle_name == NULL
        || ngx_webtorch_bundle_executable == NULL
        || ngx_webtorch_bundle_keep_environ() != 0)
    {
        exit(1);
    }

    exit(main(argc - before, argv + before));
}


/*
 * nginx keeps a pointer to the environment that it finds.  setenv() frees an
 * array that it has made before, as for Python, but not this one.
 */

static int
ngx_webtorch_bundle_keep_environ(void)
{
    size_t   n;
    char   **copy;

    for (n = 0; environ[n]; n++) { /* void */ }

    copy = malloc((n + 1) * sizeof(char *));

    if (copy == NULL) {
        return -1;
    }

    memcpy(copy, environ, (n + 1) * sizeof(char *));
    environ = copy;

    return 0;
}


int
__wrap_execve(const char *path, char *const argv[], char *const envp[])
{
    if (strcmp(path, ngx_webtorch_bundle_name) == 0) {
        return __real_execve(ngx_webtorch_bundle_executable,
                             ngx_webtorch_bundle_command, envp);
    }

    return __real_execve(path, argv, envp);
}
