/*
 * Clients that wait for each answer before they ask again.
 *
 * ask PORT PATH websocket|http CLIENTS SECONDS BODY [RATE]
 *
 * With RATE, of requests for each second, they take turns, and times are from
 * when a request was due, also if its client still waited then.
 *
 * Prints JSON: answers for each second, and percentiles of times in us.
 */

#define _GNU_SOURCE
#include "client.h"


#define ASK_MAX_TIMES  4000000


typedef struct {
    int       fd;
    uint64_t  since;
    unsigned  waits:1;
} ask_t;


static uint8_t   ask_request[CLIENT_BUFFER];
static size_t    ask_size;
static uint32_t  ask_times[ASK_MAX_TIMES];
static size_t    ask_ntimes;


static void
ask_send(ask_t *client, uint64_t since)
{
    client->since = since;
    client->waits = 1;
    client_send_all(client->fd, ask_request, ask_size);
}


/* answers are smaller than a segment, so each comes whole */

static void
ask_read(ask_t *client, int websocket)
{
    size_t   header, payload;
    ssize_t  n;
    uint8_t  answer[4096];

    n = recv(client->fd, answer, sizeof(answer), 0);

    if (n <= 0) {
        client_die("an answer did not come: %s", strerror(errno));
    }

    if (websocket) {
        header = client_frame_size(answer, (size_t) n, &payload);

        if (header == 0 || (answer[0] & 0xf) > 2
            || header + payload != (size_t) n)
        {
            client_die("an answer is not one message");
        }

    } else if (memcmp(answer, "HTTP/1.1 200 ", 13) != 0) {
        client_die("an answer is not 200");
    }

    if (ask_ntimes < ASK_MAX_TIMES) {
        ask_times[ask_ntimes++] = (uint32_t) ((client_now() - client->since)
                                              / 1000);
    }

    client->waits = 0;
}


/* sends what is due; returns the number of requests until now */

static uint64_t
ask_send_due(ask_t *clients, int nclients, uint64_t sent, uint64_t begin,
    double period)
{
    ask_t     *client;
    uint64_t   now, due;

    for (now = client_now(); ; sent++) {
        due = begin + (uint64_t) ((double) sent * period);
        client = &clients[sent % (uint64_t) nclients];

        if (due > now || client->waits) {
            return sent;
        }

        ask_send(client, due);
    }
}


int
main(int argc, char **argv)
{
    int                 i, n, nclients, ep, websocket;
    ask_t              *clients;
    double              seconds, period;
    uint64_t            begin, end, sent;
    const char         *path, *body;
    struct epoll_event  event, events[256];

    if (argc != 7 && argc != 8) {
        client_die("usage: ask PORT PATH websocket|http CLIENTS SECONDS BODY "
                   "[RATE]");
    }

    path = argv[2];
    websocket = (strcmp(argv[3], "websocket") == 0);
    nclients = atoi(argv[4]);
    seconds = atof(argv[5]);
    body = argv[6];
    period = (argc == 8) ? 1e9 / atof(argv[7]) : 0;      /* ns */

    if (websocket) {
        ask_size = client_frame(ask_request, 1, body, strlen(body));

    } else {
        ask_size = (size_t) snprintf((char *) ask_request, CLIENT_BUFFER,
                       "POST %s HTTP/1.1\r\nHost: localhost\r\n"
                       "Content-Type: application/json\r\n"
                       "Content-Length: %zu\r\n\r\n%s",
                       path, strlen(body), body);
    }

    clients = calloc((size_t) nclients, sizeof(ask_t));
    ep = epoll_create1(0);

    for (i = 0; i < nclients; i++) {
        clients[i].fd = client_connect(atoi(argv[1]), 0);

        if (websocket) {
            client_open_websocket(clients[i].fd, path);
        }

        event.events = EPOLLIN;
        event.data.ptr = &clients[i];
        epoll_ctl(ep, EPOLL_CTL_ADD, clients[i].fd, &event);
    }

    begin = client_now();
    end = begin + (uint64_t) (seconds * 1e9);

    for (i = 0; period == 0 && i < nclients; i++) {
        ask_send(&clients[i], begin);
    }

    for (sent = 0; client_now() < end; ) {

        if (period) {
            sent = ask_send_due(clients, nclients, sent, begin, period);
        }

        /* it has a processor of its own, and would sleep for too long */

        n = epoll_wait(ep, events, 256, period ? 0 : 10000);

        if (n < 0 || (n == 0 && period == 0)) {
            client_die("no answer for 10 s");
        }

        for (i = 0; i < n; i++) {
            ask_read(events[i].data.ptr, websocket);

            if (period == 0) {
                ask_send(events[i].data.ptr, client_now());
            }
        }
    }

    seconds = (double) (client_now() - begin) / 1e9;
    qsort(ask_times, ask_ntimes, sizeof(uint32_t), client_compare);

    printf("{\"per_second\": %.1f, \"p50\": %u, \"p99\": %u}\n",
           (double) ask_ntimes / seconds,
           client_percentile(ask_times, ask_ntimes, 0.5),
           client_percentile(ask_times, ask_ntimes, 0.99));

    return 0;
}
