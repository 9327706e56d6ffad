
/*
 * The order of calls over the processes:
 *
 *   master         start the interpreter, unless nginx is a library of it,
 *                  import, give up the GIL; never a tensor operation, whose
 *                  thread pool would not survive fork()
 *   fork()         the functions of Python around it, by pthread_atfork()
 *   its children   take the GIL, import handlers
 *   threads        a thread state each, for as long as the thread lives
 *   exit           no Py_Finalize(): torch does not survive it, and a handler
 *                  may be running still
 *
 * Only the main interpreter is used: torch does not support others.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "ngx_webtorch_python.h"
#include "ngx_webtorch_version.h"

#include <pthread.h>


#define NGX_WEBTORCH_DYNAMO  "torch._dynamo"


static ngx_int_t ngx_webtorch_python_prepare(ngx_webtorch_conf_t *conf,
    char *error);
static ngx_int_t ngx_webtorch_python_init(ngx_webtorch_conf_t *conf,
    char *error);
static ngx_int_t ngx_webtorch_python_initialize(char *path, char *error);
static ngx_int_t ngx_webtorch_python_import(const char *name, char *error);
static void ngx_webtorch_python_imported(mode_t mask);
static void ngx_webtorch_python_freeze(void);
static void ngx_webtorch_python_before_fork(void);
static void ngx_webtorch_python_after_fork_parent(void);
static void ngx_webtorch_python_after_fork_child(void);
static ngx_int_t ngx_webtorch_python_readable(char *error);
static ngx_int_t ngx_webtorch_python_set_path(ngx_array_t *path);
static ngx_int_t ngx_webtorch_python_error(const char *what, char *error);


/* survive reloads, as the module is linked with -z nodelete */

static char            *ngx_webtorch_python_path;
static char            *ngx_webtorch_python_host_path;
static PyThreadState   *ngx_webtorch_python_main;
static pthread_t        ngx_webtorch_python_main_thread;
static ngx_uint_t       ngx_webtorch_python_forking;


ngx_int_t
ngx_webtorch_python_start(ngx_webtorch_conf_t *conf, char *error)
{
    int          gc;
    mode_t       mask;
    ngx_int_t    rc;
    ngx_str_t   *name;
    ngx_uint_t   i;

    if (ngx_webtorch_python_prepare(conf, error) != NGX_OK) {
        ngx_webtorch_python_add_directive(error, &conf->python_directive);
        return NGX_ERROR;
    }

    /*
     * What these imports make stays; to walk it again and again for garbage
     * would take a third of the time that nginx needs to start.
     */

    gc = PyGC_Disable();
    mask = ngx_webtorch_python_restrict(S_IWGRP|S_IWOTH);

    rc = ngx_webtorch_python_import("webtorch", error);

    if (rc == NGX_OK) {
        rc = ngx_webtorch_python_import("webtorch._worker.preload", error);
    }

    /* models of a zone are trained; the check would import it beside this */

    if (rc == NGX_OK && conf->zone_size) {
        rc = ngx_webtorch_python_import(NGX_WEBTORCH_DYNAMO, error);
    }

    if (gc) {
        PyGC_Enable();
    }

    if (rc != NGX_OK) {
        ngx_webtorch_python_add_directive(error, &conf->python_directive);
    }

    name = conf->preload->elts;

    for (i = 0; rc == NGX_OK && i < conf->preload->nelts; i++) {
        rc = ngx_webtorch_python_import((char *) name[i].data, error);

        if (rc != NGX_OK) {
            ngx_webtorch_python_add_directive(error, &conf->preload_directive);
        }
    }

    ngx_webtorch_python_imported(mask);

    return rc;
}


ngx_uint_t
ngx_webtorch_python_has_dynamo(void)
{
    ngx_uint_t        has;
    PyGILState_STATE  gil;

    gil = PyGILState_Ensure();

    has = (PyDict_GetItemString(PyImport_GetModuleDict(), NGX_WEBTORCH_DYNAMO)
           != NULL);

    PyGILState_Release(gil);

    return has;
}


ngx_int_t
ngx_webtorch_python_import_dynamo(char *error)
{
    int        gc;
    mode_t     mask;
    ngx_int_t  rc;

    PyEval_RestoreThread(ngx_webtorch_python_main);

    gc = PyGC_Disable();
    mask = ngx_webtorch_python_restrict(S_IWGRP|S_IWOTH);

    rc = ngx_webtorch_python_import(NGX_WEBTORCH_DYNAMO, error);

    if (gc) {
        PyGC_Enable();
    }

    ngx_webtorch_python_imported(mask);

    return rc;
}


/* after imports in the master, which began with a restricted umask */

static void
ngx_webtorch_python_imported(mode_t mask)
{
    ngx_webtorch_python_freeze();

    (void) umask(mask);

    ngx_webtorch_python_main = PyEval_SaveThread();

    /* seconds may have passed */
    ngx_time_update();
}


mode_t
ngx_webtorch_python_restrict(mode_t bits)
{
    mode_t  mask;

    mask = umask(bits);
    (void) umask(mask | bits);

    return mask;
}


/* the main thread has the GIL afterwards, unless this fails */

static ngx_int_t
ngx_webtorch_python_prepare(ngx_webtorch_conf_t *conf, char *error)
{
    if (ngx_webtorch_python_path == NULL) {
        if (ngx_webtorch_version_check(&conf->python, PY_MAJOR_VERSION,
                                       PY_MINOR_VERSION, error)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        return ngx_webtorch_python_init(conf, error);
    }

    if (ngx_strcmp(ngx_webtorch_python_path, conf->python.data) != 0) {
        (void) ngx_snprintf((u_char *) error, NGX_WEBTORCH_MESSAGE_LEN,
                            "\"webtorch_python\" is %V, but %s is running "
                            "already: restart nginx to change it%Z",
                            &conf->python, ngx_webtorch_python_path);
        return NGX_ERROR;
    }

    PyEval_RestoreThread(ngx_webtorch_python_main);

    return NGX_OK;
}


void
ngx_webtorch_python_add_directive(char *error,
    const ngx_webtorch_directive_t *directive)
{
    u_char  *p, *last;

    if (directive->line == 0) {
        return;
    }

    p = (u_char *) error + ngx_strlen(error);
    last = (u_char *) error + NGX_WEBTORCH_MESSAGE_LEN - 1;

    p = ngx_slprintf(p, last, " in %s:%ui", directive->file, directive->line);
    *p = '\0';
}


char *
ngx_webtorch_python_host(void)
{
    PyObject    *executable;
    const char  *path;

    if (ngx_webtorch_python_host_path || ngx_webtorch_python_path
        || !Py_IsInitialized() || !PyGILState_Check())
    {
        return ngx_webtorch_python_host_path;
    }

    executable = PySys_GetObject("executable");     /* borrowed */

    path = executable ? PyUnicode_AsUTF8(executable) : NULL;

    if (path == NULL) {
        PyErr_Clear();
        path = "python";
    }

    ngx_webtorch_python_host_path = strdup(path);

    return ngx_webtorch_python_host_path;
}


static ngx_int_t
ngx_webtorch_python_init(ngx_webtorch_conf_t *conf, char *error)
{
    char  *path;

    path = (char *) conf->python.data;

    if (ngx_webtorch_python_host() == NULL
        && ngx_webtorch_python_initialize(path, error) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_webtorch_python_main_thread = pthread_self();
    ngx_webtorch_python_path = strdup(path);

    if (ngx_webtorch_python_path == NULL
        || pthread_atfork(ngx_webtorch_python_before_fork,
                          ngx_webtorch_python_after_fork_parent,
                          ngx_webtorch_python_after_fork_child)
           != 0)
    {
        ngx_memcpy(error, "no memory", sizeof("no memory"));
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_python_initialize(char *path, char *error)
{
    PyConfig  config;
    PyStatus  status;

    PyConfig_InitPythonConfig(&config);

    config.install_signal_handlers = 0;
    config.parse_argv = 0;
    config.user_site_directory = 0;
    config.safe_path = 1;
    config.buffered_stdio = 0;

    /* as if this interpreter ran, so that a virtual environment is found */

    status = PyConfig_SetBytesString(&config, &config.program_name, path);

    if (!PyStatus_Exception(status)) {
        status = PyConfig_SetBytesString(&config, &config.executable, path);
    }

    if (!PyStatus_Exception(status)) {
        status = Py_InitializeFromConfig(&config);
    }

    PyConfig_Clear(&config);

    if (PyStatus_Exception(status)) {
        (void) ngx_snprintf((u_char *) error, NGX_WEBTORCH_MESSAGE_LEN,
                            "could not start Python %s as %s: %s%Z",
                            PY_VERSION, path,
                            status.err_msg ? status.err_msg : "it exited");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_python_import(const char *name, char *error)
{
    char       what[256];
    PyObject  *module;

    module = PyImport_ImportModule(name);

    if (module == NULL) {
        (void) ngx_snprintf((u_char *) what, sizeof(what),
                            "could not import \"%s\" with %s (Python %s)%Z",
                            name, ngx_webtorch_python_path, PY_VERSION);
        what[sizeof(what) - 1] = '\0';

        return ngx_webtorch_python_error(what, error);
    }

    Py_DECREF(module);

    return NGX_OK;
}


/* keeps the collector off what is shared with the workers, copy-on-write */

static void
ngx_webtorch_python_freeze(void)
{
    PyObject  *gc, *rc;

    gc = PyImport_ImportModule("gc");
    rc = gc ? PyObject_CallMethod(gc, "freeze", NULL) : NULL;

    if (rc == NULL) {
        PyErr_Clear();
    }

    Py_XDECREF(rc);
    Py_XDECREF(gc);
}


/*
 * nginx forks in the main thread, which does not hold the GIL then: for a
 * daemon, the check, workers and a new binary.  A thread that holds the GIL
 * runs os.fork(), which calls Python's functions itself, or starts a program.
 */

static void
ngx_webtorch_python_before_fork(void)
{
    if (ngx_webtorch_python_main == NULL
        || !pthread_equal(pthread_self(), ngx_webtorch_python_main_thread)
        || PyGILState_Check())
    {
        return;
    }

    PyEval_RestoreThread(ngx_webtorch_python_main);
    PyOS_BeforeFork();

    ngx_webtorch_python_forking = 1;
}


static void
ngx_webtorch_python_after_fork_parent(void)
{
    if (ngx_webtorch_python_forking) {
        ngx_webtorch_python_forking = 0;

        PyOS_AfterFork_Parent();
        ngx_webtorch_python_main = PyEval_SaveThread();
    }
}


static void
ngx_webtorch_python_after_fork_child(void)
{
    if (ngx_webtorch_python_forking) {
        ngx_webtorch_python_forking = 0;

        PyOS_AfterFork_Child();
        ngx_webtorch_python_main = PyEval_SaveThread();
    }
}


ngx_int_t
ngx_webtorch_python_child(ngx_webtorch_conf_t *conf, char *error)
{
    ngx_int_t  rc;

    /*
     * Directories that other modules create for a group, for example by
     * "dav_access", keep its rights.
     */

    (void) ngx_webtorch_python_restrict(S_IWOTH);

    PyEval_RestoreThread(ngx_webtorch_python_main);

    /*
     * cffi's embedding takes PyCapsule_Type.tp_version_tag for a lock, once and
     * up to Python 3.11, and waits for it to be 0, which it is no more after
     * torch has been imported.
     */

    PyType_Modified(&PyCapsule_Type);

    rc = ngx_webtorch_python_set_path(conf->path);

    if (rc != NGX_OK) {
        (void) ngx_webtorch_python_error("could not set sys.path", error);

    } else {
        rc = ngx_webtorch_python_readable(error);
    }

    if (rc == NGX_OK) {
        /* calls in the event loop are too short for PyTorch's thread pool */
        ngx_webtorch_py_thread(1);
    }

    ngx_webtorch_python_main = PyEval_SaveThread();

    return rc;
}


/* cffi would only print that it cannot import the bridge */

static ngx_int_t
ngx_webtorch_python_readable(char *error)
{
    PyObject    *module, *text;
    const char  *message;

    module = PyImport_ImportModule("webtorch._worker.process.permissions");
    text = module ? PyObject_CallMethod(module, "package", NULL) : NULL;

    Py_XDECREF(module);

    if (text == NULL) {
        return ngx_webtorch_python_error("could not find out what can be read",
                                         error);
    }

    message = (text == Py_None) ? NULL : PyUnicode_AsUTF8(text);

    if (message != NULL) {
        (void) ngx_snprintf((u_char *) error, NGX_WEBTORCH_MESSAGE_LEN, "%s%Z",
                            message);
        error[NGX_WEBTORCH_MESSAGE_LEN - 1] = '\0';
    }

    Py_DECREF(text);

    return (message == NULL) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_webtorch_python_set_path(ngx_array_t *path)
{
    int         rc;
    PyObject   *list, *dir;
    ngx_str_t  *name;
    ngx_uint_t  i;

    list = PySys_GetObject("path");                 /* borrowed */

    if (list == NULL) {
        return NGX_ERROR;
    }

    name = path->elts;

    for (i = 0; i < path->nelts; i++) {
        dir = PyUnicode_DecodeFSDefaultAndSize((char *) name[i].data,
                                               (Py_ssize_t) name[i].len);
        if (dir == NULL) {
            return NGX_ERROR;
        }

        rc = PyList_Insert(list, (Py_ssize_t) i, dir);

        Py_DECREF(dir);

        if (rc != 0) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* "what: ModuleNotFoundError: No module named 'torch'"; clears the error */

static ngx_int_t
ngx_webtorch_python_error(const char *what, char *error)
{
    u_char      *last;
    PyObject    *type, *value, *traceback, *text;
    const char  *message;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);

    text = value ? PyObject_Str(value) : NULL;
    message = text ? PyUnicode_AsUTF8(text) : NULL;

    last = ngx_snprintf((u_char *) error, NGX_WEBTORCH_MESSAGE_LEN - 1,
                        "%s: %s: %s", what,
                        type ? ((PyTypeObject *) type)->tp_name : "error",
                        message ? message : "");
    *last = '\0';

    PyErr_Clear();

    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);

    return NGX_ERROR;
}
