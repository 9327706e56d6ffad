
#include "ngx_webtorch_zone.h"
#include "ngx_webtorch_robust.h"

#include <sys/mman.h>


#define NGX_WEBTORCH_ZONE_VAR    "WEBTORCH_ZONE"

/* to be changed with the layout if no size in it changes */
#define NGX_WEBTORCH_ZONE_MAGIC  0x57544f5243480004


static ngx_webtorch_zone_t *ngx_webtorch_zone_old(ngx_cycle_t *cycle,
    ngx_str_t *name);
static ngx_fd_t ngx_webtorch_zone_inherit(ngx_cycle_t *cycle, ngx_str_t *name);
static ngx_webtorch_zone_t *ngx_webtorch_zone_map(ngx_cycle_t *cycle,
    ngx_fd_t fd, size_t mapped);
static void ngx_webtorch_zone_format(ngx_webtorch_shared_zone_t *shared,
    ngx_str_t *name);
static ngx_int_t ngx_webtorch_zone_export_fd(ngx_cycle_t *cycle,
    ngx_webtorch_zone_t *zone);
static void ngx_webtorch_zone_cleanup(void *data);
static uint64_t ngx_webtorch_zone_magic(void);
static void ngx_webtorch_zone_repair(void);


ngx_webtorch_zone_view_t  ngx_webtorch_zone;


ngx_int_t
ngx_webtorch_zone_init(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    size_t                mapped;
    ngx_fd_t              fd;
    ngx_uint_t            fresh;
    ngx_pool_cleanup_t   *cln;
    ngx_webtorch_zone_t  *zone;

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    mapped = NGX_WEBTORCH_ZONE_BASE + ngx_align(conf->zone_size, 4096);
    zone = ngx_webtorch_zone_old(cycle, &conf->zone_name);

    if (zone && zone->mapped >= mapped) {
        zone->refs++;

    } else {
        fresh = 0;

        if (zone) {
            fd = dup(zone->fd);

        } else {
            fd = ngx_webtorch_zone_inherit(cycle, &conf->zone_name);

            if (fd == NGX_INVALID_FILE) {
                fd = memfd_create("webtorch", 0);
                fresh = 1;
            }
        }

        if (fd == NGX_INVALID_FILE) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                          "could not create the shared memory of webtorch");
            return NGX_ERROR;
        }

        zone = ngx_webtorch_zone_map(cycle, fd, mapped);
        if (zone == NULL) {
            return NGX_ERROR;
        }

        if (fresh) {
            ngx_webtorch_zone_format(zone->shared, &conf->zone_name);
        }
    }

    cln->handler = ngx_webtorch_zone_cleanup;
    cln->data = zone;

    conf->zone = zone;
    conf->generation = ++zone->shared->generation;

    return ngx_webtorch_zone_export_fd(cycle, zone);
}


/* NULL: the configuration before had no zone of this name */

static ngx_webtorch_zone_t *
ngx_webtorch_zone_old(ngx_cycle_t *cycle, ngx_str_t *name)
{
    ngx_webtorch_conf_t  *old;

    if (cycle->old_cycle == NULL || cycle->old_cycle->conf_ctx == NULL) {
        return NULL;
    }

    old = (ngx_webtorch_conf_t *) ngx_get_conf(cycle->old_cycle->conf_ctx,
                                               ngx_webtorch_module);

    if (old == NULL
        || old->zone == NULL
        || old->zone_name.len != name->len
        || ngx_memcmp(old->zone_name.data, name->data, name->len) != 0)
    {
        return NULL;
    }

    return old->zone;
}


/*
 * A new binary inherits the descriptor of the old one's memory.  Returns
 * NGX_INVALID_FILE if there is none, or if its memory cannot be used.
 */

static ngx_fd_t
ngx_webtorch_zone_inherit(ngx_cycle_t *cycle, ngx_str_t *name)
{
    char      *value;
    ngx_fd_t   fd;

    /* the start of ngx_webtorch_shared_zone_t */
    struct {
        uint64_t  magic;
        u_char    name[NGX_WEBTORCH_ZONE_NAME];
    } head;

    value = getenv(NGX_WEBTORCH_ZONE_VAR);

    if (value == NULL || !ngx_is_init_cycle(cycle->old_cycle)) {
        return NGX_INVALID_FILE;
    }

    fd = ngx_atoi((u_char *) value, ngx_strlen(value));

    if (fd == NGX_ERROR
        || fcntl(fd, F_GET_SEALS) == -1       /* not a memory file */
        || pread(fd, &head, sizeof(head), 0) != sizeof(head))
    {
        return NGX_INVALID_FILE;
    }

    if (head.magic != ngx_webtorch_zone_magic()
        || ngx_strncmp(head.name, name->data, name->len) != 0
        || head.name[name->len] != '\0')
    {
        ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                      "the shared memory of the old binary has another name or "
                      "layout, models start from their checkpoints");
        (void) close(fd);
        return NGX_INVALID_FILE;
    }

    return fd;
}


static ngx_webtorch_zone_t *
ngx_webtorch_zone_map(ngx_cycle_t *cycle, ngx_fd_t fd, size_t mapped)
{
    struct stat                  st;
    ngx_webtorch_zone_t         *zone;
    ngx_webtorch_shared_zone_t  *shared;

    zone = ngx_calloc(sizeof(ngx_webtorch_zone_t), cycle->log);
    if (zone == NULL) {
        (void) close(fd);
        return NULL;
    }

    /* another binary may have made it larger */

    if (fstat(fd, &st) == 0 && st.st_size > (off_t) mapped) {
        mapped = (size_t) st.st_size;
    }

    if (ftruncate(fd, (off_t) mapped) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "could not allocate %uz bytes of shared memory", mapped);
        goto failed;
    }

    shared = mmap(NULL, mapped, PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);

    if (shared == MAP_FAILED) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "could not map %uz bytes of shared memory", mapped);
        goto failed;
    }

    zone->shared = shared;
    zone->mapped = mapped;
    zone->fd = fd;
    zone->refs = 1;

    return zone;

failed:

    (void) close(fd);
    ngx_free(zone);

    return NULL;
}


static void
ngx_webtorch_zone_format(ngx_webtorch_shared_zone_t *shared, ngx_str_t *name)
{
    ngx_webtorch_robust_init(&shared->mutex);
    ngx_webtorch_robust_init(&shared->training);
    ngx_webtorch_robust_init(&shared->saver);
    ngx_webtorch_robust_init(&shared->uploader);
    ngx_webtorch_robust_init(&shared->rounds);
    ngx_webtorch_robust_init(&shared->leaving);
    ngx_webtorch_robust_init(&shared->streams);

    /* the directive has checked its length, the rest is zero */
    ngx_memcpy(shared->name, name->data, name->len);

    shared->magic = ngx_webtorch_zone_magic();
}


/* a new binary finds the descriptor in its environment */

static ngx_int_t
ngx_webtorch_zone_export_fd(ngx_cycle_t *cycle, ngx_webtorch_zone_t *zone)
{
    u_char           *p;
    ngx_str_t        *var;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    p = ngx_pnalloc(cycle->pool, sizeof(NGX_WEBTORCH_ZONE_VAR "=")
                                 + NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    var = ngx_array_push(&ccf->env);
    if (var == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf(p, NGX_WEBTORCH_ZONE_VAR "=%d%Z", zone->fd);

    var->data = p;
    var->len = sizeof(NGX_WEBTORCH_ZONE_VAR) - 1;

    return NGX_OK;
}


static void
ngx_webtorch_zone_cleanup(void *data)
{
    ngx_webtorch_zone_t *zone = data;

    /*
     * A worker that exits leaves this to the system: the user's threads may
     * still use models, and the kernel passes on only mutexes that are mapped.
     */

    if (ngx_process != NGX_PROCESS_MASTER || --zone->refs) {
        return;
    }

    (void) munmap(zone->shared, zone->mapped);
    (void) close(zone->fd);
    ngx_free(zone);
}


static uint64_t
ngx_webtorch_zone_magic(void)
{
    return NGX_WEBTORCH_ZONE_MAGIC
           + ((uint64_t) sizeof(ngx_webtorch_shared_zone_t) << 8);
}


void
ngx_webtorch_zone_use(ngx_webtorch_conf_t *conf, ngx_log_t *log)
{
    ngx_webtorch_zone.shared = conf->zone->shared;
    ngx_webtorch_zone.mapped = conf->zone->mapped;
    ngx_webtorch_zone.size = conf->zone_size;
    ngx_webtorch_zone.generation = conf->generation;
    ngx_webtorch_zone.fd = conf->zone->fd;
    ngx_webtorch_zone.log = log;

    /*
     * Programs that handlers execute do not inherit it.  A new binary does: the
     * master executes it, and its own descriptor does not have the flag.
     */
    (void) fcntl(conf->zone->fd, F_SETFD, FD_CLOEXEC);
}


int
ngx_webtorch_zone_exists(void)
{
    return ngx_webtorch_zone.size != 0;
}


void
ngx_webtorch_zone_lock(void)
{
    if (ngx_webtorch_robust_lock(&ngx_webtorch_zone.shared->mutex)
        == NGX_DECLINED)
    {
        ngx_webtorch_zone_repair();
    }
}


ngx_int_t
ngx_webtorch_zone_trylock(void)
{
    ngx_int_t  rc;

    rc = ngx_webtorch_robust_trylock(&ngx_webtorch_zone.shared->mutex);

    if (rc == NGX_DECLINED) {
        ngx_webtorch_zone_repair();
        return NGX_OK;
    }

    return rc;
}


void
ngx_webtorch_zone_unlock(void)
{
    (void) pthread_mutex_unlock(&ngx_webtorch_zone.shared->mutex);
}


/* only the owner that exited used a block that it was filling */

static void
ngx_webtorch_zone_repair(void)
{
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &ngx_webtorch_zone.shared->blocks[i];

        if (block->state == NGX_WEBTORCH_BLOCK_FILLING) {
            block->state = NGX_WEBTORCH_BLOCK_FREE;
        }
    }
}
