
/*
 * Workers and owners are processes here, which are killed at the moments that
 * a case is about.  Usage: test_handoff [CASE]; without one it lists them.
 */

#include "ngx_webtorch_handoff.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>


#define WORKERS  4
#define SLOTS    2
#define SIZE     (4 * 1024 * 1024)


static ngx_webtorch_handoff_t  *handoff;

static const size_t  sizes[SLOTS] = { SIZE, SIZE / 4 };


static void
owner_run(ngx_uint_t limit)
{
    uint32_t                      bell, i;
    int32_t                      *input, *output;
    ngx_webtorch_handoff_slot_t  *slot;

    ngx_webtorch_handoff_own(handoff);

    while (limit) {
        bell = ngx_webtorch_handoff_bell(handoff);
        slot = ngx_webtorch_handoff_take(handoff);

        if (slot == NULL) {
            ngx_webtorch_handoff_sleep(handoff, bell);
            continue;
        }

        input = slot->inputs[0];
        output = ngx_webtorch_handoff_alloc(slot, slot->rows * 4);
        assert(output);

        for (i = 0; i < slot->rows; i++) {
            output[i] = 2 * input[i];
        }

        slot->outputs[0] = output;
        ngx_webtorch_handoff_finish(handoff, slot);
        limit--;
    }
}


/* takes batches and does nothing with them */

static void
owner_hang(void)
{
    uint32_t  bell;

    ngx_webtorch_handoff_own(handoff);

    for ( ;; ) {
        bell = ngx_webtorch_handoff_bell(handoff);

        if (ngx_webtorch_handoff_take(handoff) == NULL) {
            ngx_webtorch_handoff_sleep(handoff, bell);
        }
    }
}


static pid_t
start(void (*run)(ngx_uint_t n), ngx_uint_t n)
{
    pid_t  pid;

    pid = fork();
    assert(pid != -1);

    if (pid == 0) {
        run(n);
        _exit(0);
    }

    return pid;
}


static void
hang(ngx_uint_t n)
{
    (void) n;
    owner_hang();
}


static void
end(pid_t pid, int sig)
{
    int  status;

    if (sig) {
        (void) kill(pid, sig);
    }

    assert(waitpid(pid, &status, 0) == pid);
    assert(sig || status == 0);
}


static void
fill(ngx_webtorch_handoff_slot_t *slot, uint32_t rows, int32_t first)
{
    uint32_t  i;
    int32_t  *input;

    while (ngx_webtorch_handoff_begin(handoff, slot) != NGX_OK) {
        usleep(1000);
    }

    input = ngx_webtorch_handoff_alloc(slot, rows * 4);
    assert(input && ((uintptr_t) input & 63) == 0);

    for (i = 0; i < rows; i++) {
        input[i] = first + (int32_t) i;
    }

    slot->inputs[0] = input;
    slot->rows = rows;
}


static void
check(ngx_webtorch_handoff_slot_t *slot, uint32_t rows, int32_t first)
{
    uint32_t  i;

    assert(ngx_webtorch_handoff_wait(handoff, slot, 20000)
           == NGX_WEBTORCH_HANDOFF_DONE);

    for (i = 0; i < rows; i++) {
        assert(((int32_t *) slot->outputs[0])[i] == 2 * (first + (int32_t) i));
    }

    ngx_webtorch_handoff_release(slot);
}


static ngx_webtorch_handoff_state_e
wait_for(ngx_webtorch_handoff_slot_t *slot, ngx_webtorch_handoff_state_e wanted)
{
    ngx_uint_t                    i;
    ngx_webtorch_handoff_state_e  state;

    for (i = 0; i < 2000; i++) {
        state = ngx_webtorch_handoff_wait(handoff, slot, 5);

        if (state == wanted || state == NGX_WEBTORCH_HANDOFF_LOST) {
            return state;
        }
    }

    return NGX_WEBTORCH_HANDOFF_FREE;
}


/* --- cases --- */


#define BATCHES  3000

static void
work(ngx_uint_t worker)
{
    int32_t                       i;
    uint32_t                      rows;
    ngx_webtorch_handoff_slot_t  *slot;

    ngx_webtorch_handoff_join(handoff, worker);

    for (i = 0; i < BATCHES; i++) {
        slot = ngx_webtorch_handoff_slot(handoff, worker, i % SLOTS);
        rows = 1 + (uint32_t) i % 100;

        fill(slot, rows, i * 7);
        ngx_webtorch_handoff_post(handoff, slot);
        check(slot, rows, i * 7);
    }
}


static void
all_batches_are_answered(void)
{
    pid_t       owner, workers[WORKERS];
    ngx_uint_t  i;

    owner = start(owner_run, (WORKERS - 1) * BATCHES);

    for (i = 1; i < WORKERS; i++) {
        workers[i] = start(work, i);
    }

    for (i = 1; i < WORKERS; i++) {
        end(workers[i], 0);
    }

    end(owner, 0);
    assert(!ngx_webtorch_handoff_joined(handoff));
}


static void
owner_killed_loses_what_it_has(void)
{
    pid_t                         owner;
    ngx_webtorch_handoff_slot_t  *taken, *posted;

    ngx_webtorch_handoff_join(handoff, 1);

    taken = ngx_webtorch_handoff_slot(handoff, 1, 0);
    posted = ngx_webtorch_handoff_slot(handoff, 1, 1);

    owner = start(hang, 0);

    fill(taken, 3, 1);
    ngx_webtorch_handoff_post(handoff, taken);
    assert(wait_for(taken, NGX_WEBTORCH_HANDOFF_TAKEN)
           == NGX_WEBTORCH_HANDOFF_TAKEN);

    end(owner, SIGKILL);

    assert(ngx_webtorch_handoff_wait(handoff, taken, 5000)
           == NGX_WEBTORCH_HANDOFF_LOST);

    /* what is posted without an owner waits for the next one */

    fill(posted, 5, 40);
    ngx_webtorch_handoff_post(handoff, posted);
    assert(ngx_webtorch_handoff_wait(handoff, posted, 200)
           == NGX_WEBTORCH_HANDOFF_POSTED);
    assert(!ngx_webtorch_handoff_owned(handoff));

    owner = start(owner_run, 2);
    check(posted, 5, 40);

    /* the slot of the lost batch is used again */

    fill(taken, 2, 9);
    ngx_webtorch_handoff_post(handoff, taken);
    check(taken, 2, 9);
    end(owner, 0);
}


static void
owner_replaced_loses_what_the_one_before_has(void)
{
    pid_t                         owner;
    ngx_webtorch_handoff_slot_t  *slot;

    ngx_webtorch_handoff_join(handoff, 1);
    slot = ngx_webtorch_handoff_slot(handoff, 1, 0);

    owner = start(hang, 0);
    fill(slot, 3, 1);
    ngx_webtorch_handoff_post(handoff, slot);
    assert(wait_for(slot, NGX_WEBTORCH_HANDOFF_TAKEN)
           == NGX_WEBTORCH_HANDOFF_TAKEN);

    end(owner, SIGKILL);

    /* another one is there before this worker looks */

    owner = start(hang, 0);

    while (!ngx_webtorch_handoff_owned(handoff)) {
        usleep(1000);
    }

    assert(ngx_webtorch_handoff_wait(handoff, slot, 5000)
           == NGX_WEBTORCH_HANDOFF_LOST);
    end(owner, SIGKILL);
}


static void
post_and_hang(ngx_uint_t worker)
{
    ngx_uint_t  i;

    ngx_webtorch_handoff_join(handoff, worker);

    for (i = 0; i < SLOTS; i++) {
        fill(ngx_webtorch_handoff_slot(handoff, worker, i), 1, 5);
        ngx_webtorch_handoff_post(handoff, ngx_webtorch_handoff_slot(handoff,
                                                                  worker, i));
    }

    for ( ;; ) {
        pause();
    }
}


static void
worker_killed_leaves_its_slots_to_the_next(void)
{
    pid_t                         worker;
    ngx_webtorch_handoff_slot_t  *slot, *other;

    ngx_webtorch_handoff_own(handoff);

    worker = start(post_and_hang, 2);

    while ((slot = ngx_webtorch_handoff_take(handoff)) == NULL) {
        usleep(1000);
    }

    other = ngx_webtorch_handoff_slot(handoff, 2, 1);

    while (ngx_webtorch_handoff_wait(handoff, other, 1)
           != NGX_WEBTORCH_HANDOFF_POSTED)
    {
        usleep(1000);
    }

    assert(ngx_webtorch_handoff_joined(handoff));
    end(worker, SIGKILL);
    assert(!ngx_webtorch_handoff_joined(handoff));

    /* this process is the next worker, too */

    ngx_webtorch_handoff_join(handoff, 2);

    assert(ngx_webtorch_handoff_take(handoff) == NULL);
    assert(ngx_webtorch_handoff_begin(handoff, other) == NGX_OK);

    ngx_webtorch_handoff_finish(handoff, slot);
    assert(ngx_webtorch_handoff_begin(handoff, slot) == NGX_OK);
}


static void
withdrawn_is_not_taken(void)
{
    ngx_webtorch_handoff_slot_t  *slot;

    ngx_webtorch_handoff_own(handoff);
    ngx_webtorch_handoff_join(handoff, 1);
    slot = ngx_webtorch_handoff_slot(handoff, 1, 0);

    fill(slot, 1, 0);
    ngx_webtorch_handoff_post(handoff, slot);
    assert(ngx_webtorch_handoff_withdraw(slot) == NGX_OK);
    assert(ngx_webtorch_handoff_take(handoff) == NULL);

    fill(slot, 1, 0);
    ngx_webtorch_handoff_post(handoff, slot);
    assert(ngx_webtorch_handoff_take(handoff) == slot);
    assert(ngx_webtorch_handoff_withdraw(slot) == NGX_DECLINED);
}


/* by a thread of an owner that was killed */

static void
finish_of_a_lost_batch_changes_nothing(void)
{
    ngx_webtorch_handoff_slot_t  *slot;

    ngx_webtorch_handoff_own(handoff);
    ngx_webtorch_handoff_join(handoff, 1);
    slot = ngx_webtorch_handoff_slot(handoff, 1, 0);

    fill(slot, 1, 0);
    ngx_webtorch_handoff_post(handoff, slot);
    assert(ngx_webtorch_handoff_take(handoff) == slot);

    ngx_webtorch_handoff_release(slot);
    fill(slot, 1, 0);
    ngx_webtorch_handoff_post(handoff, slot);

    ngx_webtorch_handoff_finish(handoff, slot);
    assert(ngx_webtorch_handoff_wait(handoff, slot, 0)
           == NGX_WEBTORCH_HANDOFF_POSTED);
}


static void
memory_has_a_limit_and_is_returned(void)
{
    u_char                       *p;
    unsigned char                 resident;
    ngx_webtorch_handoff_slot_t  *slot;

    ngx_webtorch_handoff_join(handoff, 1);
    slot = ngx_webtorch_handoff_slot(handoff, 1, 0);

    assert(ngx_webtorch_handoff_begin(handoff, slot) == NGX_OK);

    assert(ngx_webtorch_handoff_alloc(slot, SIZE + 1) == NULL);
    assert(ngx_webtorch_handoff_alloc(slot, (size_t) -1) == NULL);

    p = ngx_webtorch_handoff_alloc(slot, SIZE);
    assert(p);
    memset(p, 7, SIZE);

    assert(ngx_webtorch_handoff_alloc(slot, 1) == NULL);

    assert(mincore(p + SIZE - 4096, 4096, &resident) == 0 && (resident & 1));
    ngx_webtorch_handoff_release(slot);
    assert(mincore(p + SIZE - 4096, 4096, &resident) == 0 && !(resident & 1));
    assert(p[0] == 7);
}


#define CASE(name)  { #name, name }

static const struct {
    const char   *name;
    void        (*run)(void);
} cases[] = {
    CASE(all_batches_are_answered),
    CASE(owner_killed_loses_what_it_has),
    CASE(owner_replaced_loses_what_the_one_before_has),
    CASE(worker_killed_leaves_its_slots_to_the_next),
    CASE(withdrawn_is_not_taken),
    CASE(finish_of_a_lost_batch_changes_nothing),
    CASE(memory_has_a_limit_and_is_returned),
};


int
main(int argc, char **argv)
{
    size_t  i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {

        if (argc < 2) {
            puts(cases[i].name);
            continue;
        }

        if (strcmp(argv[1], cases[i].name) == 0) {
            handoff = ngx_webtorch_handoff_create(WORKERS, sizes, SLOTS);
            assert(handoff);
            cases[i].run();
            ngx_webtorch_handoff_free(handoff);
            return 0;
        }
    }

    return argc < 2 ? 0 : 2;
}
