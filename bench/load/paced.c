/*
 * WebSockets that send a message in each period, as microphones do.
 *
 * paced PORT PATH STREAMS BYTES PERIOD SECONDS STOPPED FILE
 *
 * PERIOD is in us.  Messages are pieces of FILE, raw audio.  After half of the
 * time the first STOPPED clients read nothing any more, and send on.  Times are
 * from when a message was due to its answer, of the clients that read to the
 * end: in the first half without its first second, and in the second half.
 * Answers that have not come count as if they had at the end.  Prints JSON.
 */

#define _GNU_SOURCE
#include "client.h"


#define PACED_WAITING    1024
#define PACED_MAX_TIMES  8000000


typedef struct {
    int       fd;
    uint64_t  due;
    uint64_t  waiting[PACED_WAITING];     /* when each was due, a ring */
    size_t    first;
    size_t    n;
    size_t    at;                         /* in the file */
    uint8_t   in[512];                    /* the head of a frame */
    size_t    nin;
    size_t    skip;                       /* bytes of a payload to come */
    uint8_t  *out;                        /* that could not be sent yet */
    size_t    nout;
    unsigned  stops:1;                    /* after half of the time */
} paced_t;


typedef struct {
    uint32_t *times;
    size_t    n;
} paced_times_t;


static uint8_t       *paced_audio;
static size_t         paced_naudio;
static size_t         paced_bytes;
static paced_times_t  paced_halves[2];
static uint64_t       paced_begin;
static uint64_t       paced_middle;
static size_t         paced_sent;
static size_t         paced_blocked;
static size_t         paced_missing;


static void
paced_load(const char *name)
{
    FILE  *file;

    file = fopen(name, "rb");

    if (file == NULL) {
        client_die("%s: %s", name, strerror(errno));
    }

    paced_audio = malloc(16 << 20);
    paced_naudio = fread(paced_audio, 1, 16 << 20, file);
    fclose(file);

    if (paced_naudio < 2 * paced_bytes) {
        client_die("%s is too short", name);
    }
}


static void
paced_write(paced_t *client)
{
    ssize_t  n;

    n = send(client->fd, client->out, client->nout, MSG_NOSIGNAL);

    if (n == -1 && errno != EAGAIN) {
        client_die("send(): %s", strerror(errno));
    }

    if (n > 0) {
        client->nout -= (size_t) n;
        memmove(client->out, client->out + n, client->nout);
    }
}


static void
paced_send(paced_t *client)
{
    if (client->nout) {
        paced_write(client);
    }

    if (client->nout || client->n == PACED_WAITING) {
        paced_blocked++;
        return;
    }

    if (client->at + paced_bytes > paced_naudio) {
        client->at = 0;
    }

    client->nout = client_frame(client->out, 2, paced_audio + client->at,
                                paced_bytes);
    client->at += paced_bytes;

    client->waiting[(client->first + client->n++) % PACED_WAITING]
        = client->due;
    paced_sent++;

    paced_write(client);
}


static void
paced_answered(paced_t *client, uint64_t now)
{
    uint64_t        due;
    paced_times_t  *half;

    if (client->n == 0) {
        client_die("an answer too many");
    }

    due = client->waiting[client->first++ % PACED_WAITING];
    client->n--;

    if (client->stops || due < paced_begin + 1000000000) {
        return;
    }

    half = &paced_halves[due >= paced_middle];

    if (half->n < PACED_MAX_TIMES) {
        half->times[half->n++] = (uint32_t) ((now - due) / 1000);
    }
}


static void
paced_read(paced_t *client)
{
    size_t    take, header, payload;
    ssize_t   n;
    uint8_t   buf[16384], *p, *last;
    uint64_t  now;

    n = recv(client->fd, buf, sizeof(buf), 0);

    if (n == 0 || (n == -1 && errno != EAGAIN)) {
        client_die("the connection was closed");
    }

    now = client_now();
    p = buf;
    last = buf + (n > 0 ? n : 0);

    while (p < last) {

        if (client->skip == 0) {
            client->in[client->nin++] = *p++;
            header = client_frame_size(client->in, client->nin, &payload);

            if (header == 0) {
                continue;
            }

            if ((client->in[0] & 0xf) == 8 || (client->in[0] & 0xf) == 1) {
                client_die("the server closes, or an error");
            }

            client->nin = 0;
            client->skip = payload;

            if (payload == 0) {
                continue;
            }
        }

        take = (size_t) (last - p);
        take = (take < client->skip) ? take : client->skip;
        p += take;
        client->skip -= take;

        if (client->skip == 0) {
            paced_answered(client, now);
        }
    }
}


static void
paced_unanswered(paced_t *clients, size_t n, uint64_t now)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        while (clients[i].n) {
            paced_missing += !clients[i].stops;
            paced_answered(&clients[i], now);
        }
    }
}


static void
paced_print(void)
{
    int             i;
    paced_times_t  *half;

    printf("{\"sent\": %zu, \"blocked\": %zu, \"missing\": %zu, "
           "\"halves\": [", paced_sent, paced_blocked, paced_missing);

    for (i = 0; i < 2; i++) {
        half = &paced_halves[i];
        qsort(half->times, half->n, sizeof(uint32_t), client_compare);

        printf("%s{\"answers\": %zu, \"p50\": %u, \"p99\": %u, \"max\": %u}",
               i ? ", " : "", half->n,
               client_percentile(half->times, half->n, 0.5),
               client_percentile(half->times, half->n, 0.99),
               client_percentile(half->times, half->n, 1));
    }

    printf("]}\n");
}


static int
paced_run(paced_t *clients, size_t n, uint64_t period, uint64_t end, int ep,
    size_t nstopped)
{
    int                 i, ready, stopped;
    size_t              next;
    uint64_t            now;
    struct timespec     wait;
    struct epoll_event  events[256];

    stopped = 0;
    next = 0;

    for ( ;; ) {
        now = client_now();

        if (now >= end) {
            return 0;
        }

        if (!stopped && now >= paced_middle) {
            stopped = 1;

            for (i = 0; (size_t) i < nstopped; i++) {
                epoll_ctl(ep, EPOLL_CTL_DEL, clients[i].fd, NULL);
            }
        }

        /* all have the same period, so the order stays */

        while (clients[next].due <= now) {
            paced_send(&clients[next]);
            clients[next].due += period;
            next = (next + 1) % n;
        }

        now = client_now();
        wait.tv_sec = 0;
        wait.tv_nsec = (clients[next].due > now)
                           ? (long) (clients[next].due - now) : 0;

        ready = epoll_pwait2(ep, events, 256, &wait, NULL);

        for (i = 0; i < ready; i++) {
            paced_read(events[i].data.ptr);
        }
    }
}


int
main(int argc, char **argv)
{
    int                 ep;
    size_t              i, n, nstopped;
    double              seconds;
    paced_t            *clients;
    uint64_t            period;
    struct epoll_event  event;

    if (argc != 9) {
        client_die("usage: paced PORT PATH STREAMS BYTES PERIOD SECONDS "
                   "STOPPED FILE");
    }

    n = (size_t) atol(argv[3]);
    paced_bytes = (size_t) atol(argv[4]);
    period = (uint64_t) atol(argv[5]) * 1000;
    seconds = atof(argv[6]);
    nstopped = (size_t) atol(argv[7]);

    paced_load(argv[8]);

    clients = calloc(n, sizeof(paced_t));
    ep = epoll_create1(0);
    srandom(1);

    for (i = 0; i < n; i++) {
        clients[i].fd = client_connect(atoi(argv[1]),
                                       (i < nstopped) ? 4096 : 0);
        clients[i].stops = (i < nstopped);
        clients[i].out = malloc(paced_bytes + 14);
        clients[i].at = (size_t) random() % (paced_naudio - paced_bytes) & ~1ul;

        client_open_websocket(clients[i].fd, argv[2]);

        event.events = EPOLLIN;
        event.data.ptr = &clients[i];
        epoll_ctl(ep, EPOLL_CTL_ADD, clients[i].fd, &event);
    }

    for (i = 0; i < 2; i++) {
        paced_halves[i].times = malloc(PACED_MAX_TIMES * sizeof(uint32_t));
    }

    paced_begin = client_now() + 10000000;
    paced_middle = paced_begin + (uint64_t) (seconds * 0.5e9);

    for (i = 0; i < n; i++) {
        clients[i].due = paced_begin + period * i / n;
    }

    paced_run(clients, n, period, paced_begin + (uint64_t) (seconds * 1e9), ep,
              nstopped);
    paced_unanswered(clients, n, client_now());
    paced_print();

    return 0;
}
