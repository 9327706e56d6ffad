
#include "ngx_webtorch_zone.h"

#include <sys/mman.h>


#define NGX_WEBTORCH_ZONE_VAR    "WEBTORCH_ZONE"

/* changes with what lies in the memory, as far as sizes do not tell */
#define NGX_WEBTORCH_ZONE_MAGIC  0x57544f5243480001

/* as torch aligns its own memory */
#define NGX_WEBTORCH_ZONE_ALIGN  64


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

static ngx_int_t ngx_webtorch_zone_trylock(ngx_webtorch_shared_zone_t *shared);
static void ngx_webtorch_zone_repair(ngx_webtorch_shared_zone_t *shared);

static ngx_webtorch_block_t *ngx_webtorch_block_find(
    ngx_webtorch_block_t *like, const char *layout);
static ngx_uint_t ngx_webtorch_block_visible(ngx_webtorch_block_t *block,
    const char *name);
static ngx_webtorch_block_t *ngx_webtorch_block_alloc(
    ngx_webtorch_block_t *blocks, ngx_webtorch_block_t *like);
static uint64_t ngx_webtorch_block_place(ngx_webtorch_block_t *blocks,
    size_t room);
static uint64_t ngx_webtorch_block_room(ngx_webtorch_block_t *block);
static ngx_uint_t ngx_webtorch_block_used(ngx_webtorch_block_t *block);
static ngx_uint_t ngx_webtorch_block_users(ngx_webtorch_block_t *block);
static void ngx_webtorch_block_use(ngx_webtorch_block_t *block);
static void ngx_webtorch_block_release(ngx_webtorch_block_t *block);
static void ngx_webtorch_block_clear(ngx_webtorch_block_t *block,
    ngx_uint_t slot);
static void ngx_webtorch_block_replace(ngx_webtorch_block_t *block,
    ngx_webtorch_block_t *old);
static void ngx_webtorch_block_get_info(ngx_webtorch_block_t *block,
    webtorch_block_t *found);
static int ngx_webtorch_block_check(ngx_webtorch_block_t *like,
    const char *layout, webtorch_block_t *found);
static char *ngx_webtorch_block_data(ngx_webtorch_block_t *block);
static void ngx_webtorch_block_put_back(ngx_webtorch_block_t *block);


/* of this process */

static struct {
    ngx_webtorch_shared_zone_t  *shared;
    size_t                       mapped;
    size_t                       size;    /* that models may take */
    uint64_t                     generation;
    ngx_fd_t                     fd;
    ngx_log_t                   *log;
    uint64_t                     swaps;   /* that were seen */

    /* of a process that checks a configuration: blocks as they would be */
    ngx_webtorch_block_t        *planned;
    size_t                       missing;
} ngx_webtorch_zone;


#define ngx_webtorch_zone_base                                                \
    ngx_align(sizeof(ngx_webtorch_shared_zone_t), 4096)


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

    mapped = ngx_webtorch_zone_base + ngx_align(conf->zone_size, 4096);
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
                          "could not make the shared memory of webtorch");
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


/* the memory of the configuration before, which has the same name */

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


/* a new binary gets the memory of the old one by its descriptor */

static ngx_fd_t
ngx_webtorch_zone_inherit(ngx_cycle_t *cycle, ngx_str_t *name)
{
    char      *value;
    ngx_fd_t   fd;

    /* magic and name */
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
        || fcntl(fd, F_GET_SEALS) == -1       /* it is no memory file */
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

    /* the old binary, or a new one, may have it larger in use */

    if (fstat(fd, &st) == 0 && st.st_size > (off_t) mapped) {
        mapped = (size_t) st.st_size;
    }

    if (ftruncate(fd, (off_t) mapped) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "could not make %uz bytes of shared memory", mapped);
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
    ngx_webtorch_robust_init(&shared->leaving);

    /* its length is checked where it is read */
    ngx_memcpy(shared->name, name->data, name->len);

    shared->magic = ngx_webtorch_zone_magic();
}


/* tells the descriptor to a binary that this one will execute */

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
     * A worker that ends leaves it to the system: the user's threads may use
     * models still, and mutexes that it holds are passed on only if mapped.
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
ngx_webtorch_zone_lock(ngx_webtorch_shared_zone_t *shared)
{
    if (ngx_webtorch_robust_lock(&shared->mutex) == NGX_DECLINED) {
        ngx_webtorch_zone_repair(shared);
    }
}


static ngx_int_t
ngx_webtorch_zone_trylock(ngx_webtorch_shared_zone_t *shared)
{
    ngx_int_t  rc;

    rc = ngx_webtorch_robust_trylock(&shared->mutex);

    if (rc == NGX_DECLINED) {
        ngx_webtorch_zone_repair(shared);
    }

    return rc;
}


/* a block that was being filled by somebody who died has nobody else's data */

static void
ngx_webtorch_zone_repair(ngx_webtorch_shared_zone_t *shared)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        if (shared->blocks[i].state == NGX_WEBTORCH_BLOCK_FILLING) {
            shared->blocks[i].state = NGX_WEBTORCH_BLOCK_FREE;
        }
    }
}


void
ngx_webtorch_zone_unlock(ngx_webtorch_shared_zone_t *shared)
{
    (void) pthread_mutex_unlock(&shared->mutex);
}


ngx_int_t
ngx_webtorch_zone_use(ngx_webtorch_conf_t *conf, ngx_log_t *log,
    ngx_uint_t check)
{
    ngx_webtorch_zone.shared = conf->zone->shared;
    ngx_webtorch_zone.mapped = conf->zone->mapped;
    ngx_webtorch_zone.size = conf->zone_size;
    ngx_webtorch_zone.generation = conf->generation;
    ngx_webtorch_zone.fd = conf->zone->fd;
    ngx_webtorch_zone.log = log;
    ngx_webtorch_zone.swaps = conf->zone->shared->swaps;

    if (!check) {
        /* programs that handlers execute do not get it, a new binary does */
        (void) fcntl(conf->zone->fd, F_SETFD, FD_CLOEXEC);
        return NGX_OK;
    }

    ngx_webtorch_zone.planned = ngx_calloc(sizeof(conf->zone->shared->blocks),
                                           log);
    if (ngx_webtorch_zone.planned == NULL) {
        return NGX_ERROR;
    }

    ngx_webtorch_zone_lock(conf->zone->shared);

    ngx_memcpy(ngx_webtorch_zone.planned, conf->zone->shared->blocks,
               sizeof(conf->zone->shared->blocks));

    ngx_webtorch_zone_unlock(conf->zone->shared);

    return NGX_OK;
}


size_t
ngx_webtorch_zone_needed(void)
{
    size_t                 size;
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block;

    size = ngx_webtorch_zone.missing;

    for (i = 0; size && i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &ngx_webtorch_zone.planned[i];

        if (block->state != NGX_WEBTORCH_BLOCK_FREE) {
            size += ngx_webtorch_block_room(block);
        }
    }

    return size;
}


ngx_uint_t
ngx_webtorch_zone_models_replaced(void)
{
    uint64_t  swaps;

    if (ngx_webtorch_zone.shared == NULL) {
        return 0;
    }

    swaps = ngx_webtorch_zone.shared->swaps;

    if (swaps == ngx_webtorch_zone.swaps) {
        return 0;
    }

    ngx_webtorch_zone.swaps = swaps;

    return 1;
}


void
ngx_webtorch_zone_release_slot(ngx_webtorch_shared_zone_t *shared, ngx_uint_t slot)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        ngx_webtorch_block_clear(&shared->blocks[i], slot);
    }
}


/* what Python calls */

int
ngx_webtorch_zone_exists(void)
{
    return ngx_webtorch_zone.size != 0;
}


int
ngx_webtorch_exiting(void)
{
    return ngx_exiting || ngx_quit || ngx_terminate;
}


int
ngx_webtorch_block_attach(const char *name, const char *layout, size_t len,
    size_t size, int undo, int how, webtorch_block_t *found)
{
    ngx_webtorch_block_t         like, *block, *other;
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    ngx_memzero(found, sizeof(webtorch_block_t));
    ngx_memzero(&like, sizeof(ngx_webtorch_block_t));

    (void) ngx_cpystrn((u_char *) like.name, (u_char *) name,
                       WEBTORCH_MODEL_LEN);
    like.layout_len = len;
    like.size = size;
    like.has_undo = (undo != 0);

    if (ngx_webtorch_zone.planned) {
        return ngx_webtorch_block_check(&like, layout, found);
    }

    /* who only looks, as the event loop does, does not wait for who fills */

    if (how != WEBTORCH_FIND) {
        ngx_webtorch_zone_lock(shared);

    } else if (ngx_webtorch_zone_trylock(shared) == NGX_BUSY) {
        return 1;
    }

    block = (how == WEBTORCH_MAKE) ? NULL
                                   : ngx_webtorch_block_find(&like, layout);

    if (block) {
        ngx_webtorch_block_use(block);
        ngx_webtorch_block_get_info(block, found);
        ngx_webtorch_zone_unlock(shared);
        return 0;
    }

    block = (how == WEBTORCH_FIND)
            ? NULL : ngx_webtorch_block_alloc(shared->blocks, &like);

    if (block == NULL) {
        ngx_webtorch_zone_unlock(shared);
        return -1;
    }

    ngx_memzero((u_char *) shared + block->offset,
                ngx_webtorch_block_room(block));
    ngx_memcpy((u_char *) shared + block->offset, layout, len);

    ngx_webtorch_block_get_info(block, found);
    found->fresh = 1;

    other = ngx_webtorch_block_find(&like, NULL);

    if (other) {
        found->old_layout = (char *) shared + other->offset;
        found->old_len = other->layout_len;
        found->old_data = ngx_webtorch_block_data(other);
        found->old_counters = &other->counters;
    }

    /* locked until it is ready */

    return 0;
}


static void
ngx_webtorch_block_get_info(ngx_webtorch_block_t *block, webtorch_block_t *found)
{
    found->id = (uint32_t) (block - ngx_webtorch_zone.shared->blocks);
    found->data = ngx_webtorch_block_data(block);
    found->size = block->size;
    found->counters = &block->counters;
}


/*
 * The check of a configuration changes nothing: a model gets memory of the
 * process's own, with what is in the zone of it, and the room that it would
 * take is planned.
 */

static int
ngx_webtorch_block_check(ngx_webtorch_block_t *like, const char *layout,
    webtorch_block_t *found)
{
    ngx_webtorch_block_t        *block, *planned;
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    found->id = NGX_WEBTORCH_MAX_BLOCKS;
    found->data = calloc(1, ngx_max(like->size, 1));
    found->size = like->size;
    found->counters = calloc(1, sizeof(webtorch_counters_t));

    if (found->data == NULL || found->counters == NULL) {
        return -1;
    }

    ngx_webtorch_zone_lock(shared);

    block = ngx_webtorch_block_find(like, layout);

    if (block) {
        ngx_memcpy(found->data, ngx_webtorch_block_data(block), like->size);
        *found->counters = block->counters;
        ngx_webtorch_zone_unlock(shared);
        return 0;
    }

    found->fresh = 1;

    planned = ngx_webtorch_block_alloc(ngx_webtorch_zone.planned, like);

    if (planned) {
        planned->state = NGX_WEBTORCH_BLOCK_READY;
        planned->pinned = 1;

    } else {
        ngx_webtorch_zone.missing += ngx_webtorch_block_room(like);
    }

    ngx_webtorch_zone_unlock(shared);

    return 0;
}


/* the youngest of a name, and of a layout unless that is NULL */

static ngx_webtorch_block_t *
ngx_webtorch_block_find(ngx_webtorch_block_t *like, const char *layout)
{
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block, *found;

    found = NULL;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &ngx_webtorch_zone.shared->blocks[i];

        if (!ngx_webtorch_block_visible(block, like->name)
            || (found && block->version < found->version))
        {
            continue;
        }

        if (layout == NULL
            || (block->layout_len == like->layout_len
                && block->size == like->size
                && block->has_undo == like->has_undo
                && ngx_memcmp((u_char *) ngx_webtorch_zone.shared
                              + block->offset,
                              layout, like->layout_len)
                   == 0))
        {
            found = block;
        }
    }

    return found;
}


/* not what a configuration has that made the memory larger than is mapped */

static ngx_uint_t
ngx_webtorch_block_visible(ngx_webtorch_block_t *block, const char *name)
{
    return block->state == NGX_WEBTORCH_BLOCK_READY
           && !block->superseded
           && block->offset + ngx_webtorch_block_room(block)
              <= ngx_webtorch_zone.mapped
           && ngx_strcmp(block->name, name) == 0;
}


/* its owner may die at any line: what is not filled is not seen */

static ngx_webtorch_block_t *
ngx_webtorch_block_alloc(ngx_webtorch_block_t *blocks,
    ngx_webtorch_block_t *like)
{
    uint64_t               offset;
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block;

    /* those that nobody will come back to */

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &blocks[i];

        if (block->state == NGX_WEBTORCH_BLOCK_READY
            && !ngx_webtorch_block_used(block))
        {
            block->state = NGX_WEBTORCH_BLOCK_FREE;
        }
    }

    offset = ngx_webtorch_block_place(blocks, ngx_webtorch_block_room(like));

    if (offset == 0) {
        return NULL;
    }

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &blocks[i];

        if (block->state == NGX_WEBTORCH_BLOCK_FREE) {
            *block = *like;
            block->offset = offset;
            block->state = NGX_WEBTORCH_BLOCK_FILLING;
            return block;
        }
    }

    return NULL;
}


/* the first gap that is large enough; 0: there is none */

static uint64_t
ngx_webtorch_block_place(ngx_webtorch_block_t *blocks, size_t room)
{
    uint64_t               offset, end;
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block;

    offset = ngx_webtorch_zone_base;
    end = offset + ngx_webtorch_zone.size;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {

        if (room > end - offset) {
            return 0;
        }

        block = &blocks[i];

        if (block->state != NGX_WEBTORCH_BLOCK_FREE
            && block->offset < offset + room
            && block->offset + ngx_webtorch_block_room(block) > offset)
        {
            offset = block->offset + ngx_webtorch_block_room(block);

            if (offset > end) {
                return 0;
            }

            /* those before may lie here, too */
            i = (ngx_uint_t) -1;
        }
    }

    return offset;
}


static uint64_t
ngx_webtorch_block_room(ngx_webtorch_block_t *block)
{
    return ngx_align(block->layout_len, NGX_WEBTORCH_ZONE_ALIGN)
           + ngx_align(block->size, NGX_WEBTORCH_ZONE_ALIGN)
             * (block->has_undo ? 2 : 1);
}


/* whether a worker uses it, or one that is started again will */

static ngx_uint_t
ngx_webtorch_block_used(ngx_webtorch_block_t *block)
{
    if (block->pinned) {
        return 1;
    }

    if (!block->superseded
        && block->generation >= ngx_webtorch_zone.shared->previous)
    {
        return 1;
    }

    return ngx_webtorch_block_users(block) != 0;
}


/* how many workers use it */

static ngx_uint_t
ngx_webtorch_block_users(ngx_webtorch_block_t *block)
{
    uint64_t                     bits;
    ngx_uint_t                   i, n, slot;
    ngx_webtorch_shared_zone_t  *shared;

    n = 0;
    shared = ngx_webtorch_zone.shared;

    for (i = 0; i < NGX_WEBTORCH_MAX_WORKERS / 64; i++) {

        for (bits = block->users[i]; bits; bits &= bits - 1) {
            slot = i * 64 + (ngx_uint_t) __builtin_ctzll(bits);
            n += ngx_webtorch_worker_alive(&shared->slots[slot]);
        }
    }

    return n;
}


static void
ngx_webtorch_block_use(ngx_webtorch_block_t *block)
{
    ngx_int_t  slot;

    block->generation = ngx_max(block->generation,
                                ngx_webtorch_zone.generation);

    slot = ngx_webtorch_worker_slot();

    if (slot == -1) {
        block->pinned = 1;

    } else {
        (void) __sync_fetch_and_or(&block->users[slot / 64],
                                   (uint64_t) 1 << slot % 64);
    }
}


static void
ngx_webtorch_block_release(ngx_webtorch_block_t *block)
{
    ngx_int_t  slot;

    slot = ngx_webtorch_worker_slot();

    if (slot != -1) {
        ngx_webtorch_block_clear(block, (ngx_uint_t) slot);
    }
}


/* atomically: who gives a block up, as the event loop does, does not lock */

static void
ngx_webtorch_block_clear(ngx_webtorch_block_t *block, ngx_uint_t slot)
{
    (void) __sync_fetch_and_and(&block->users[slot / 64],
                                ~((uint64_t) 1 << slot % 64));
}


static char *
ngx_webtorch_block_data(ngx_webtorch_block_t *block)
{
    return (char *) ngx_webtorch_zone.shared + block->offset
           + ngx_align(block->layout_len, NGX_WEBTORCH_ZONE_ALIGN);
}


void
ngx_webtorch_block_ready(uint32_t id)
{
    ngx_webtorch_block_t        *block, *old;
    ngx_webtorch_shared_zone_t  *shared;

    if (id == NGX_WEBTORCH_MAX_BLOCKS) {
        return;
    }

    shared = ngx_webtorch_zone.shared;
    block = &shared->blocks[id];

    old = ngx_webtorch_block_find(block, (char *) shared + block->offset);

    block->version = ++shared->version;
    block->state = NGX_WEBTORCH_BLOCK_READY;

    ngx_webtorch_block_use(block);

    if (old) {
        ngx_webtorch_block_replace(block, old);
    }

    ngx_webtorch_zone_unlock(shared);
}


/*
 * Takes the place of another one with the same layout.  Steps that are made on
 * that one until workers have noticed are counted in both.
 */

static void
ngx_webtorch_block_replace(ngx_webtorch_block_t *block,
    ngx_webtorch_block_t *old)
{
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    old->successor = (uint32_t) (block - shared->blocks) + 1;
    old->superseded = 1;

    ngx_memory_barrier();

    if (block->counters.steps == WEBTORCH_SAME_STEPS) {
        block->counters.steps = old->counters.steps;
    }

    /* workers look for it when this changes */
    ngx_memory_barrier();
    shared->swaps++;
}


void
ngx_webtorch_block_discard(uint32_t id)
{
    ngx_webtorch_block_t        *block;
    ngx_webtorch_shared_zone_t  *shared;

    if (id == NGX_WEBTORCH_MAX_BLOCKS) {
        return;
    }

    shared = ngx_webtorch_zone.shared;
    block = &shared->blocks[id];

    /* a fresh one is locked already, the lock may be nested */

    ngx_webtorch_zone_lock(shared);

    if (block->state == NGX_WEBTORCH_BLOCK_FILLING) {
        block->state = NGX_WEBTORCH_BLOCK_FREE;
        ngx_webtorch_zone_unlock(shared);

    } else {
        ngx_webtorch_block_release(block);

        if (ngx_webtorch_block_users(block) == 0) {
            block->state = NGX_WEBTORCH_BLOCK_FREE;
        }
    }

    ngx_webtorch_zone_unlock(shared);
}


void
ngx_webtorch_block_detach(uint32_t id)
{
    if (id != NGX_WEBTORCH_MAX_BLOCKS) {
        ngx_webtorch_block_release(&ngx_webtorch_zone.shared->blocks[id]);
    }
}


/* they are kept for as long as workers use them, but are found by nobody */

void
ngx_webtorch_block_supersede(uint32_t id)
{
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block, *other;

    if (id == NGX_WEBTORCH_MAX_BLOCKS) {
        return;
    }

    ngx_webtorch_zone_lock(ngx_webtorch_zone.shared);

    block = &ngx_webtorch_zone.shared->blocks[id];

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        other = &ngx_webtorch_zone.shared->blocks[i];

        if (other->state == NGX_WEBTORCH_BLOCK_READY
            && other->version < block->version
            && other->generation <= block->generation
            && ngx_strcmp(other->name, block->name) == 0)
        {
            other->superseded = 1;
        }
    }

    ngx_webtorch_zone_unlock(ngx_webtorch_zone.shared);
}


void
ngx_webtorch_block_step(uint32_t id)
{
    uint32_t               successor;
    ngx_webtorch_block_t  *block;

    if (id == NGX_WEBTORCH_MAX_BLOCKS) {
        return;
    }

    block = &ngx_webtorch_zone.shared->blocks[id];

    (void) __sync_fetch_and_add(&block->counters.steps, 1);

    successor = block->successor;

    if (successor) {
        ngx_webtorch_block_step(successor - 1);
    }
}


/*
 * Training in strict order.  Before a step a block's data is copied, and while
 * counters.undo is set, the copy counts: the next one to lock puts it back if
 * the owner of the lock died.  Others may read the data meanwhile; as memcpy()
 * writes whole words, they see numbers of before or after, never halves.
 */

void
ngx_webtorch_training_lock(void)
{
    ngx_uint_t                   i;
    ngx_webtorch_block_t        *block;
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    if (ngx_webtorch_robust_lock(&shared->training) != NGX_DECLINED) {
        return;
    }

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &shared->blocks[i];

        if (block->state == NGX_WEBTORCH_BLOCK_READY && block->counters.undo) {
            ngx_webtorch_block_put_back(block);

            ngx_log_error(NGX_LOG_NOTICE, ngx_webtorch_zone.log, 0,
                          "webtorch model \"%s\" is as before the step in "
                          "which a worker died", block->name);
        }
    }
}


void
ngx_webtorch_training_unlock(void)
{
    (void) pthread_mutex_unlock(&ngx_webtorch_zone.shared->training);
}


void
ngx_webtorch_block_snapshot(uint32_t id)
{
    char                  *data;
    ngx_webtorch_block_t  *block;

    if (id == NGX_WEBTORCH_MAX_BLOCKS) {
        return;
    }

    block = &ngx_webtorch_zone.shared->blocks[id];
    data = ngx_webtorch_block_data(block);

    ngx_memcpy(data + ngx_align(block->size, NGX_WEBTORCH_ZONE_ALIGN), data,
               block->size);

    block->undo = block->counters;

    ngx_memory_barrier();
    block->counters.undo = 1;
    ngx_memory_barrier();
}


void
ngx_webtorch_block_commit(uint32_t id)
{
    if (id != NGX_WEBTORCH_MAX_BLOCKS) {
        ngx_memory_barrier();
        ngx_webtorch_zone.shared->blocks[id].counters.undo = 0;
    }
}


void
ngx_webtorch_block_restore(uint32_t id)
{
    if (id != NGX_WEBTORCH_MAX_BLOCKS) {
        ngx_webtorch_block_put_back(&ngx_webtorch_zone.shared->blocks[id]);
    }
}


static void
ngx_webtorch_block_put_back(ngx_webtorch_block_t *block)
{
    char    *data, *all;
    size_t   end;

    all = NULL;
    end = block->offset + ngx_webtorch_block_room(block);
    data = ngx_webtorch_block_data(block);

    if (end > ngx_webtorch_zone.mapped) {
        /* of a later configuration, which has made the memory larger */

        all = mmap(NULL, end, PROT_READ|PROT_WRITE, MAP_SHARED,
                   ngx_webtorch_zone.fd, 0);

        if (all == MAP_FAILED) {
            ngx_log_error(NGX_LOG_ALERT, ngx_webtorch_zone.log, ngx_errno,
                          "could not map %uz bytes of shared memory", end);
            return;
        }

        data = all + (data - (char *) ngx_webtorch_zone.shared);
    }

    ngx_memcpy(data, data + ngx_align(block->size, NGX_WEBTORCH_ZONE_ALIGN),
               block->size);

    block->counters.steps = block->undo.steps;

    ngx_memory_barrier();
    block->counters.undo = 0;

    if (all) {
        (void) munmap(all, end);
    }
}


int
ngx_webtorch_saver_elect(void)
{
    return ngx_webtorch_robust_trylock(&ngx_webtorch_zone.shared->saver)
           != NGX_BUSY;
}


void
ngx_webtorch_saver_resign(void)
{
    (void) pthread_mutex_unlock(&ngx_webtorch_zone.shared->saver);
}
