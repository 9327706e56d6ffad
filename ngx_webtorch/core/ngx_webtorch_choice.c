
#include "ngx_webtorch_choice.h"

#include <pthread.h>


typedef struct {
    uint32_t                number;       /* 0: the entry is free */
    uint32_t                hash;
    size_t                  len;
    u_char                  name[WEBTORCH_CHOICE_LEN];
} ngx_webtorch_choice_t;


typedef struct {
    pthread_mutex_t         mutex;
    ngx_uint_t              nelts;        /* entries that were ever used */
    ngx_webtorch_choice_t   elts[NGX_WEBTORCH_MAX_CHOICES];
} ngx_webtorch_choices_t;


static ngx_webtorch_choice_t *ngx_webtorch_choice_get(ngx_str_t *name);
static ngx_webtorch_choice_t *ngx_webtorch_choice_add(ngx_str_t *name);


/* the mutex is held for comparisons alone: the event loop may wait for it */

static ngx_webtorch_choices_t  ngx_webtorch_choices = {
    PTHREAD_MUTEX_INITIALIZER, 0, { { 0, 0, 0, { 0 } } }
};


int
ngx_webtorch_choice_set(const char *name, uint32_t number)
{
    int                     rc;
    ngx_str_t               key;
    ngx_webtorch_choice_t  *choice;

    key.data = (u_char *) name;
    key.len = ngx_strlen(name);

    if (key.len >= WEBTORCH_CHOICE_LEN) {
        return -1;
    }

    rc = 0;

    (void) pthread_mutex_lock(&ngx_webtorch_choices.mutex);

    choice = ngx_webtorch_choice_get(&key);

    if (choice == NULL && number) {
        choice = ngx_webtorch_choice_add(&key);
        rc = choice ? 0 : -1;
    }

    if (choice) {
        choice->number = number;
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_choices.mutex);

    return rc;
}


uint32_t
ngx_webtorch_choice_find(ngx_str_t *name)
{
    uint32_t                number;
    ngx_webtorch_choice_t  *choice;

    (void) pthread_mutex_lock(&ngx_webtorch_choices.mutex);

    choice = ngx_webtorch_choice_get(name);
    number = choice ? choice->number : 0;

    (void) pthread_mutex_unlock(&ngx_webtorch_choices.mutex);

    return number;
}


ngx_int_t
ngx_webtorch_choice_name(uint32_t number, char *name)
{
    ngx_int_t               rc;
    ngx_uint_t              i;
    ngx_webtorch_choice_t  *choice;

    rc = NGX_DECLINED;

    (void) pthread_mutex_lock(&ngx_webtorch_choices.mutex);

    for (i = 0; i < ngx_webtorch_choices.nelts; i++) {
        choice = &ngx_webtorch_choices.elts[i];

        if (choice->number == number) {
            (void) ngx_cpystrn((u_char *) name, choice->name, choice->len + 1);
            rc = NGX_OK;
            break;
        }
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_choices.mutex);

    return rc;
}


ngx_uint_t
ngx_webtorch_choice_versions(ngx_str_t *name,
    u_char (*versions)[WEBTORCH_CHOICE_LEN], ngx_uint_t n)
{
    ngx_uint_t              i, found;
    ngx_webtorch_choice_t  *choice;

    found = 0;

    (void) pthread_mutex_lock(&ngx_webtorch_choices.mutex);

    for (i = 0; i < ngx_webtorch_choices.nelts && found < n; i++) {
        choice = &ngx_webtorch_choices.elts[i];

        if (choice->number
            && choice->len > name->len
            && ngx_memcmp(choice->name, name->data, name->len) == 0)
        {
            (void) ngx_cpystrn(versions[found++], choice->name + name->len,
                               choice->len - name->len + 1);
        }
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_choices.mutex);

    return found;
}


static ngx_webtorch_choice_t *
ngx_webtorch_choice_get(ngx_str_t *name)
{
    uint32_t                hash;
    ngx_uint_t              i;
    ngx_webtorch_choice_t  *choice;

    hash = ngx_crc32_short(name->data, name->len);

    for (i = 0; i < ngx_webtorch_choices.nelts; i++) {
        choice = &ngx_webtorch_choices.elts[i];

        if (choice->number
            && choice->hash == hash
            && choice->len == name->len
            && ngx_memcmp(choice->name, name->data, name->len) == 0)
        {
            return choice;
        }
    }

    return NULL;
}


static ngx_webtorch_choice_t *
ngx_webtorch_choice_add(ngx_str_t *name)
{
    ngx_uint_t              i;
    ngx_webtorch_choice_t  *choice;

    for (i = 0; i < NGX_WEBTORCH_MAX_CHOICES; i++) {
        choice = &ngx_webtorch_choices.elts[i];

        if (choice->number) {
            continue;
        }

        ngx_memcpy(choice->name, name->data, name->len);
        choice->len = name->len;
        choice->hash = ngx_crc32_short(name->data, name->len);

        ngx_webtorch_choices.nelts = ngx_max(ngx_webtorch_choices.nelts, i + 1);

        return choice;
    }

    return NULL;
}
