
/*
 * The interpreter is a library of the module's build: that of "webtorch_python"
 * is never run, and only its version and its packages matter.  A virtual
 * environment has the version in pyvenv.cfg, other interpreters have it in the
 * name of their file.
 */

#include "ngx_webtorch_version.h"
#include "ngx_webtorch_python.h"


static ngx_int_t ngx_webtorch_version_of_environment(ngx_str_t *python,
    int *major, int *minor);
static ngx_int_t ngx_webtorch_version_of_file(ngx_str_t *python, int *major,
    int *minor);


ngx_int_t
ngx_webtorch_version_check(ngx_str_t *python, int major, int minor,
    char *error)
{
    int  found_major, found_minor;

    if (ngx_webtorch_version_of_environment(python, &found_major, &found_minor)
        != NGX_OK
        && ngx_webtorch_version_of_file(python, &found_major, &found_minor)
           != NGX_OK)
    {
        return NGX_OK;
    }

    if (found_major == major && found_minor == minor) {
        return NGX_OK;
    }

    (void) ngx_snprintf((u_char *) error, NGX_WEBTORCH_MESSAGE_LEN,
                        "\"webtorch_python\": \"%V\" is Python %d.%d, but the "
                        "module was built for Python %d.%d: make the virtual "
                        "environment with that one, or build the module with "
                        "the other one%Z",
                        python, found_major, found_minor, major, minor);
    error[NGX_WEBTORCH_MESSAGE_LEN - 1] = '\0';

    return NGX_ERROR;
}


/* "version = 3.11.2" of venv, or "version_info = 3.11.2.final.0" of others */

static ngx_int_t
ngx_webtorch_version_of_environment(ngx_str_t *python, int *major, int *minor)
{
    char       line[256], name[NGX_MAX_PATH];
    FILE      *file;
    u_char    *p;
    ngx_int_t  i, rc;

    p = python->data + python->len;

    /* without "/bin/python" */

    for (i = 0; i < 2; i++) {
        while (p > python->data && *--p != '/') { /* void */ }
    }

    if ((size_t) (p - python->data) + sizeof("/pyvenv.cfg") > sizeof(name)) {
        return NGX_DECLINED;
    }

    (void) ngx_sprintf((u_char *) name, "%*s/pyvenv.cfg%Z",
                       (size_t) (p - python->data), python->data);

    file = fopen(name, "re");
    if (file == NULL) {
        return NGX_DECLINED;
    }

    rc = NGX_DECLINED;

    while (rc != NGX_OK && fgets(line, sizeof(line), file) != NULL) {

        if (sscanf(line, " version = %d.%d", major, minor) == 2
            || sscanf(line, " version_info = %d.%d", major, minor) == 2)
        {
            rc = NGX_OK;
        }
    }

    (void) fclose(file);

    return rc;
}


static ngx_int_t
ngx_webtorch_version_of_file(ngx_str_t *python, int *major, int *minor)
{
    char       *path, *name;
    ngx_int_t   rc;

    path = realpath((char *) python->data, NULL);
    if (path == NULL) {
        return NGX_DECLINED;
    }

    name = strrchr(path, '/');

    rc = (name && sscanf(name, "/python%d.%d", major, minor) == 2)
         ? NGX_OK : NGX_DECLINED;

    free(path);

    return rc;
}
