/*
 * Streams that send and read at the same time, and check each answer.
 *
 * duplex PORT PATH http1|http2|websocket STREAMS CHUNKS ROW AHEAD MARK PAUSE
 *
 * A chunk is a row of ROW bytes, random int16.  Its answer is two int64: the
 * number of chunks so far, and the sum of all their numbers.  A stream has at
 * most AHEAD chunks that are not answered; 0: as many as the connection takes.
 * When all streams have MARK answers, and again when they have CHUNKS and have
 * not sent their end, "mark" is printed and a line of stdin is read.  All
 * streams then send nothing for PAUSE seconds, once.  With http2 all streams
 * are on one connection.
 */

#define _GNU_SOURCE
#include "client.h"

#include <nghttp2/nghttp2.h>
#include <poll.h>


#define DUPLEX_ANSWER   16
#define DUPLEX_MAX_ROW  4096


typedef struct {
    int       fd;
    int32_t   id;                         /* of HTTP/2 */
    uint64_t  sent;                       /* chunks that are begun */
    uint64_t  answered;
    uint64_t  seed;                       /* of the next chunk to send */
    uint64_t  check;                      /* of the next one to be answered */
    int64_t   sum;
    uint8_t   row[DUPLEX_MAX_ROW];
    size_t    at;                         /* in the row */
    uint8_t   answer[DUPLEX_ANSWER];
    size_t    nanswer;
    uint8_t   head[32];                   /* of a frame or chunk */
    size_t    nhead;
    size_t    skip;                       /* bytes of its payload to come */
    size_t    tail;                       /* bytes after it */
    uint8_t   out[CLIENT_BUFFER];
    size_t    nout;
    unsigned  deferred:1;
    unsigned  finished:1;                 /* its end is sent */
    unsigned  closed:1;                   /* its answer has ended */
} duplex_t;


typedef enum {
    DUPLEX_HTTP1 = 0,
    DUPLEX_HTTP2,
    DUPLEX_WEBSOCKET
} duplex_e;


static duplex_e          duplex_kind;
static duplex_t         *duplex_streams;
static size_t            duplex_n;
static uint64_t          duplex_chunks;
static uint64_t          duplex_ahead;
static uint64_t          duplex_mark;
static uint64_t          duplex_limit;    /* chunks that may be sent now */
static size_t            duplex_row_size;
static size_t            duplex_reached;  /* streams with that many answers */
static size_t            duplex_nclosed;
static double            duplex_pause;
static int               duplex_end;
static nghttp2_session  *duplex_session;


/* the next row of a seed; returns the sum of its numbers */

static int64_t
duplex_row(uint64_t *seed, uint8_t *row)
{
    size_t    i;
    int16_t   value;
    int64_t   sum;
    uint64_t  x;

    sum = 0;
    x = *seed;

    for (i = 0; i < duplex_row_size; i += sizeof(value)) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        value = (int16_t) x;
        sum += value;
        memcpy(row + i, &value, sizeof(value));
    }

    *seed = x;

    return sum;
}


static int
duplex_may_send(duplex_t *st)
{
    return st->sent < duplex_limit
           && (duplex_ahead == 0 || st->sent - st->answered < duplex_ahead);
}


static void
duplex_check(duplex_t *st)
{
    int64_t  found[2];
    uint8_t  row[DUPLEX_MAX_ROW];

    st->sum += duplex_row(&st->check, row);
    st->answered++;
    memcpy(found, st->answer, sizeof(found));

    if (found[0] != (int64_t) st->answered || found[1] != st->sum) {
        client_die("answer %" PRIu64 " of a stream is number %" PRId64
                   " with the sum %" PRId64 ", not %" PRId64,
                   st->answered, found[0], found[1], st->sum);
    }

    if (st->answered == duplex_limit) {
        duplex_reached++;
    }
}


static void
duplex_take(duplex_t *st, const uint8_t *p, size_t len)
{
    size_t  n;

    for ( ; len; p += n, len -= n) {
        n = DUPLEX_ANSWER - st->nanswer;
        n = (n < len) ? n : len;

        memcpy(st->answer + st->nanswer, p, n);
        st->nanswer += n;

        if (st->nanswer == DUPLEX_ANSWER) {
            st->nanswer = 0;
            duplex_check(st);
        }
    }
}


static void
duplex_closed(duplex_t *st)
{
    if (!st->closed) {
        st->closed = 1;
        duplex_nclosed++;
    }

    if (st->nanswer || st->answered != duplex_chunks) {
        client_die("a stream ended after %" PRIu64 " answers", st->answered);
    }
}


/* HTTP/1.1 and WebSocket */


/* 1: a payload of st->skip bytes follows; 2: it was the last one */

static int
duplex_head(duplex_t *st)
{
    size_t  payload;

    if (duplex_kind == DUPLEX_WEBSOCKET) {

        if (client_frame_size(st->head, st->nhead, &payload) == 0) {
            return 0;
        }

        if ((st->head[0] & 0xf) == 8) {
            return 2;
        }

        if ((st->head[0] & 0xf) == 1) {
            client_die("the server sends an error");
        }

        st->skip = payload;
        st->tail = 0;

        return 1;
    }

    if (st->head[st->nhead - 1] != '\n') {
        return 0;
    }

    st->head[st->nhead - 1] = '\0';
    st->skip = strtoul((char *) st->head, NULL, 16);
    st->tail = 2;

    return st->skip ? 1 : 2;
}


static void
duplex_parse(duplex_t *st, const uint8_t *p, const uint8_t *last)
{
    size_t  n;

    while (p < last) {

        if (st->skip) {
            n = (size_t) (last - p);
            n = (n < st->skip) ? n : st->skip;

            /* a ping has no payload here */

            duplex_take(st, p, n);
            st->skip -= n;
            p += n;

        } else if (st->tail) {
            st->tail--;
            p++;

        } else {

            if (st->nhead == sizeof(st->head)) {
                client_die("malformed chunk");
            }

            st->head[st->nhead++] = *p++;

            switch (duplex_head(st)) {

            case 0:
                continue;

            case 2:
                duplex_closed(st);
                return;
            }

            st->nhead = 0;
        }
    }
}


static void
duplex_read(duplex_t *st)
{
    ssize_t  n;
    uint8_t  buf[CLIENT_BUFFER];

    n = recv(st->fd, buf, sizeof(buf), 0);

    if (n == 0 || (n == -1 && errno != EAGAIN)) {
        client_die("the connection was closed after %" PRIu64 " answers",
                   st->answered);
    }

    if (n > 0) {
        duplex_parse(st, buf, buf + n);
    }
}


static void
duplex_fill(duplex_t *st)
{
    uint8_t  *p;

    while (st->nout + duplex_row_size + 32 < CLIENT_BUFFER) {
        p = st->out + st->nout;

        if (!duplex_may_send(st)) {

            if (duplex_end && !st->finished) {
                st->finished = 1;
                st->nout += (duplex_kind == DUPLEX_WEBSOCKET)
                                ? client_frame(p, 8, "\3\350", 2)
                                : (size_t) sprintf((char *) p, "0\r\n\r\n");
            }

            return;
        }

        duplex_row(&st->seed, st->row);
        st->sent++;

        if (duplex_kind == DUPLEX_WEBSOCKET) {
            st->nout += client_frame(p, 2, st->row, duplex_row_size);
            continue;
        }

        p += sprintf((char *) p, "%zx\r\n", duplex_row_size);
        memcpy(p, st->row, duplex_row_size);
        p += duplex_row_size;
        *p++ = '\r';
        *p++ = '\n';

        st->nout = (size_t) (p - st->out);
    }
}


static void
duplex_write(duplex_t *st)
{
    ssize_t  n;

    duplex_fill(st);

    while (st->nout) {
        n = send(st->fd, st->out, st->nout, MSG_NOSIGNAL);

        if (n == -1 && errno == EAGAIN) {
            return;
        }

        if (n == -1) {
            client_die("send(): %s", strerror(errno));
        }

        st->nout -= (size_t) n;
        memmove(st->out, st->out + n, st->nout);

        duplex_fill(st);
    }
}


static void
duplex_open(duplex_t *st, int port, const char *path)
{
    char  head[1024];

    st->fd = client_connect(port, 0);

    if (duplex_kind == DUPLEX_WEBSOCKET) {
        client_open_websocket(st->fd, path);
        return;
    }

    snprintf(head, sizeof(head),
             "POST %s HTTP/1.1\r\nHost: localhost\r\n"
             "Content-Type: application/octet-stream\r\n"
             "Transfer-Encoding: chunked\r\n\r\n", path);

    client_open(st->fd, head, "200");
}


/* waits for events of all sockets, up to a second */

static void
duplex_poll(struct pollfd *fds)
{
    size_t  i;

    for (i = 0; i < duplex_n; i++) {
        duplex_write(&duplex_streams[i]);

        fds[i].fd = duplex_streams[i].closed ? -1 : duplex_streams[i].fd;
        fds[i].events = POLLIN | (duplex_streams[i].nout ? POLLOUT : 0);
        fds[i].revents = 0;
    }

    if (poll(fds, duplex_n, 1000) == -1) {
        client_die("poll(): %s", strerror(errno));
    }

    for (i = 0; i < duplex_n; i++) {
        if (fds[i].revents & ~POLLOUT) {
            duplex_read(&duplex_streams[i]);
        }
    }
}


/* HTTP/2 */


static ssize_t
duplex_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
    uint32_t *flags, nghttp2_data_source *source, void *data)
{
    size_t     n, done;
    duplex_t  *st;

    st = source->ptr;

    for (done = 0; done < length; done += n) {

        if (st->at == duplex_row_size || st->sent == 0) {

            if (!duplex_may_send(st)) {
                break;
            }

            duplex_row(&st->seed, st->row);
            st->sent++;
            st->at = 0;
        }

        n = duplex_row_size - st->at;
        n = (n < length - done) ? n : length - done;
        memcpy(buf + done, st->row + st->at, n);
        st->at += n;
    }

    if (done == 0 && !duplex_end) {
        st->deferred = 1;
        return NGHTTP2_ERR_DEFERRED;
    }

    if (done == 0) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }

    return (ssize_t) done;
}


static int
duplex_on_data(nghttp2_session *session, uint8_t flags, int32_t id,
    const uint8_t *p, size_t len, void *data)
{
    duplex_take(nghttp2_session_get_stream_user_data(session, id), p, len);

    return 0;
}


static int
duplex_on_header(nghttp2_session *session, const nghttp2_frame *frame,
    const uint8_t *name, size_t nname, const uint8_t *value, size_t nvalue,
    uint8_t flags, void *data)
{
    if (nname == 7 && memcmp(name, ":status", 7) == 0
        && (nvalue != 3 || memcmp(value, "200", 3) != 0))
    {
        client_die("status %.*s", (int) nvalue, value);
    }

    return 0;
}


static int
duplex_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *data)
{
    duplex_closed(nghttp2_session_get_stream_user_data(session, id));

    return 0;
}


static void
duplex_request(duplex_t *st, const char *path)
{
    size_t                 i;
    nghttp2_nv             headers[5];
    nghttp2_data_provider  provider;

    const char  *text[5][2] = {
        { ":method", "POST" },
        { ":path", path },
        { ":scheme", "http" },
        { ":authority", "localhost" },
        { "content-type", "application/octet-stream" },
    };

    for (i = 0; i < 5; i++) {
        headers[i].name = (uint8_t *) (uintptr_t) text[i][0];
        headers[i].namelen = strlen(text[i][0]);
        headers[i].value = (uint8_t *) (uintptr_t) text[i][1];
        headers[i].valuelen = strlen(text[i][1]);
        headers[i].flags = NGHTTP2_NV_FLAG_NONE;
    }

    provider.source.ptr = st;
    provider.read_callback = duplex_data;

    st->id = nghttp2_submit_request(duplex_session, NULL, headers, 5, &provider,
                                    st);
}


static void
duplex_open_http2(int port, const char *path)
{
    int                         fd;
    size_t                      i;
    nghttp2_session_callbacks  *callbacks;

    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
                                                              duplex_on_data);
    nghttp2_session_callbacks_set_on_header_callback(callbacks,
                                                     duplex_on_header);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
                                                           duplex_on_close);
    nghttp2_session_client_new(&duplex_session, callbacks, NULL);
    nghttp2_submit_settings(duplex_session, NGHTTP2_FLAG_NONE, NULL, 0);

    fd = client_connect(port, 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);

    for (i = 0; i < duplex_n; i++) {
        duplex_streams[i].fd = fd;
        duplex_request(&duplex_streams[i], path);
    }
}


static void
duplex_poll_http2(void)
{
    size_t          i;
    ssize_t         n;
    uint8_t         buf[CLIENT_BUFFER];
    duplex_t       *first;
    const uint8_t  *p;
    struct pollfd   fd;

    first = &duplex_streams[0];

    for (i = 0; i < duplex_n; i++) {
        if (duplex_streams[i].deferred
            && (duplex_end || duplex_may_send(&duplex_streams[i])))
        {
            duplex_streams[i].deferred = 0;
            nghttp2_session_resume_data(duplex_session, duplex_streams[i].id);
        }
    }

    while (first->nout < CLIENT_BUFFER / 2) {
        n = nghttp2_session_mem_send(duplex_session, &p);

        if (n <= 0) {
            break;
        }

        memcpy(first->out + first->nout, p, (size_t) n);
        first->nout += (size_t) n;
    }

    n = first->nout ? send(first->fd, first->out, first->nout, MSG_NOSIGNAL)
                    : 0;

    if (n == -1 && errno != EAGAIN) {
        client_die("send(): %s", strerror(errno));
    }

    if (n > 0) {
        first->nout -= (size_t) n;
        memmove(first->out, first->out + n, first->nout);
    }

    fd.fd = first->fd;
    fd.events = POLLIN | (nghttp2_session_want_write(duplex_session)
                          || first->nout ? POLLOUT : 0);

    poll(&fd, 1, 1000);

    n = recv(first->fd, buf, sizeof(buf), 0);

    if (n == 0 || (n == -1 && errno != EAGAIN)) {
        client_die("the connection was closed");
    }

    if (n > 0 && nghttp2_session_mem_recv(duplex_session, buf, (size_t) n) < 0) {
        client_die("malformed HTTP/2");
    }
}


static void
duplex_report(void)
{
    char  line[16];

    puts("mark");
    fflush(stdout);

    if (fgets(line, sizeof(line), stdin) == NULL) {
        exit(0);
    }
}


static void
duplex_run(void)
{
    uint64_t        until;
    struct pollfd  *fds;

    fds = calloc(duplex_n, sizeof(struct pollfd));
    until = 0;

    while (duplex_nclosed < duplex_n) {

        if (duplex_reached == duplex_n && !duplex_end && until == 0) {
            duplex_report();

            if (duplex_limit == duplex_chunks) {
                duplex_end = 1;

            } else {
                until = client_now() + (uint64_t) (duplex_pause * 1e9);
            }
        }

        if (until && client_now() >= until) {
            until = 0;
            duplex_reached = 0;
            duplex_limit = duplex_chunks;
        }

        if (duplex_session) {
            duplex_poll_http2();

        } else {
            duplex_poll(fds);
        }
    }
}


int
main(int argc, char **argv)
{
    int       port;
    size_t    i;
    uint64_t  begin;

    if (argc != 10) {
        client_die("usage: duplex PORT PATH http1|http2|websocket STREAMS "
                   "CHUNKS ROW AHEAD MARK PAUSE");
    }

    port = atoi(argv[1]);
    duplex_kind = (strcmp(argv[3], "http1") == 0) ? DUPLEX_HTTP1
                  : (strcmp(argv[3], "http2") == 0) ? DUPLEX_HTTP2
                  : DUPLEX_WEBSOCKET;
    duplex_n = (size_t) atol(argv[4]);
    duplex_chunks = (uint64_t) atol(argv[5]);
    duplex_row_size = (size_t) atol(argv[6]);
    duplex_ahead = (uint64_t) atol(argv[7]);
    duplex_mark = (uint64_t) atol(argv[8]);
    duplex_pause = atof(argv[9]);
    duplex_limit = duplex_mark;
    duplex_streams = calloc(duplex_n, sizeof(duplex_t));

    for (i = 0; i < duplex_n; i++) {
        duplex_streams[i].seed = 0x9e3779b97f4a7c15 * (i + 1);
        duplex_streams[i].check = duplex_streams[i].seed;
    }

    if (duplex_kind == DUPLEX_HTTP2) {
        duplex_open_http2(port, argv[2]);

    } else {
        for (i = 0; i < duplex_n; i++) {
            duplex_open(&duplex_streams[i], port, argv[2]);
        }
    }

    begin = client_now();
    duplex_run();

    printf("{\"seconds\": %.3f}\n", (double) (client_now() - begin) / 1e9);

    return 0;
}
