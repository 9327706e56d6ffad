
#include "ngx_webtorch_version_set.h"

#include <pthread.h>


typedef struct {
    uint32_t                number;       /* 0: the entry is free */
    uint32_t                hash;
    size_t                  len;
    u_char                  name[WEBTORCH_VERSION_SET_LEN];
} ngx_webtorch_version_set_t;


typedef struct {
    pthread_mutex_t             mutex;
    ngx_uint_t                  nelts;    /* entries that were ever used */
    ngx_webtorch_version_set_t  elts[NGX_WEBTORCH_MAX_VERSION_SETS];
} ngx_webtorch_version_sets_t;


static ngx_webtorch_version_set_t *ngx_webtorch_version_set_get(
    ngx_str_t *name);
static ngx_webtorch_version_set_t *ngx_webtorch_version_set_add(
    ngx_str_t *name);


/* the mutex is held for comparisons alone: the event loop may wait for it */

static ngx_webtorch_version_sets_t  ngx_webtorch_version_sets = {
    PTHREAD_MUTEX_INITIALIZER, 0, { { 0, 0, 0, { 0 } } }
};


int
ngx_webtorch_version_set_update(const char *name, uint32_t number)
{
    int                          rc;
    ngx_str_t                    key;
    ngx_webtorch_version_set_t  *set;

    key.data = (u_char *) name;
    key.len = ngx_strlen(name);

    if (key.len >= WEBTORCH_VERSION_SET_LEN) {
        return -1;
    }

    rc = 0;

    (void) pthread_mutex_lock(&ngx_webtorch_version_sets.mutex);

    set = ngx_webtorch_version_set_get(&key);

    if (set == NULL && number) {
        set = ngx_webtorch_version_set_add(&key);
        rc = set ? 0 : -1;
    }

    if (set) {
        set->number = number;
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_version_sets.mutex);

    return rc;
}


uint32_t
ngx_webtorch_version_set_find(ngx_str_t *name)
{
    uint32_t                     number;
    ngx_webtorch_version_set_t  *set;

    (void) pthread_mutex_lock(&ngx_webtorch_version_sets.mutex);

    set = ngx_webtorch_version_set_get(name);
    number = set ? set->number : 0;

    (void) pthread_mutex_unlock(&ngx_webtorch_version_sets.mutex);

    return number;
}


ngx_int_t
ngx_webtorch_version_set_name(uint32_t number, char *name)
{
    ngx_int_t                    rc;
    ngx_uint_t                   i;
    ngx_webtorch_version_set_t  *set;

    rc = NGX_DECLINED;

    (void) pthread_mutex_lock(&ngx_webtorch_version_sets.mutex);

    for (i = 0; i < ngx_webtorch_version_sets.nelts; i++) {
        set = &ngx_webtorch_version_sets.elts[i];

        if (set->number == number) {
            (void) ngx_cpystrn((u_char *) name, set->name, set->len + 1);
            rc = NGX_OK;
            break;
        }
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_version_sets.mutex);

    return rc;
}


ngx_uint_t
ngx_webtorch_version_set_versions(ngx_str_t *name,
    u_char (*versions)[WEBTORCH_VERSION_SET_LEN], ngx_uint_t n)
{
    ngx_uint_t                   i, found;
    ngx_webtorch_version_set_t  *set;

    found = 0;

    (void) pthread_mutex_lock(&ngx_webtorch_version_sets.mutex);

    for (i = 0; i < ngx_webtorch_version_sets.nelts && found < n; i++) {
        set = &ngx_webtorch_version_sets.elts[i];

        if (set->number
            && set->len > name->len
            && ngx_memcmp(set->name, name->data, name->len) == 0)
        {
            (void) ngx_cpystrn(versions[found++], set->name + name->len,
                               set->len - name->len + 1);
        }
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_version_sets.mutex);

    return found;
}


static ngx_webtorch_version_set_t *
ngx_webtorch_version_set_get(ngx_str_t *name)
{
    uint32_t                     hash;
    ngx_uint_t                   i;
    ngx_webtorch_version_set_t  *set;

    hash = ngx_crc32_short(name->data, name->len);

    for (i = 0; i < ngx_webtorch_version_sets.nelts; i++) {
        set = &ngx_webtorch_version_sets.elts[i];

        if (set->number
            && set->hash == hash
            && set->len == name->len
            && ngx_memcmp(set->name, name->data, name->len) == 0)
        {
            return set;
        }
    }

    return NULL;
}


static ngx_webtorch_version_set_t *
ngx_webtorch_version_set_add(ngx_str_t *name)
{
    ngx_uint_t                   i;
    ngx_webtorch_version_set_t  *set;

    for (i = 0; i < NGX_WEBTORCH_MAX_VERSION_SETS; i++) {
        set = &ngx_webtorch_version_sets.elts[i];

        if (set->number) {
            continue;
        }

        ngx_memcpy(set->name, name->data, name->len);
        set->len = name->len;
        set->hash = ngx_crc32_short(name->data, name->len);

        ngx_webtorch_version_sets.nelts =
                               ngx_max(ngx_webtorch_version_sets.nelts, i + 1);

        return set;
    }

    return NULL;
}
