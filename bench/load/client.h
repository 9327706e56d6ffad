/* Connections of load clients to a server on this machine. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


#define CLIENT_BUFFER  65536


__attribute__((noreturn, format(printf, 1, 2))) static inline void
client_die(const char *format, ...)
{
    va_list  args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);

    exit(1);
}


/* nanoseconds */

static inline uint64_t
client_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


/* buffer: bytes of the socket's buffers; 0: the system's default */

static inline int
client_connect(int port, int buffer)
{
    int                 fd, one;
    struct sockaddr_in  sin;

    fd = socket(AF_INET, SOCK_STREAM, 0);
    one = 1;

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_port = htons((uint16_t) port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));

    if (buffer) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
    }

    if (connect(fd, (struct sockaddr *) &sin, sizeof(sin)) == -1) {
        client_die("connect(): %s", strerror(errno));
    }

    return fd;
}


static inline void
client_send_all(int fd, const void *data, size_t len)
{
    ssize_t  n;

    for ( ; len; data = (const char *) data + n, len -= (size_t) n) {
        n = send(fd, data, len, MSG_NOSIGNAL);

        if (n == -1) {
            client_die("send(): %s", strerror(errno));
        }
    }
}


/* sends a head and reads that of the answer, to its end and not beyond */

static inline void
client_open(int fd, const char *head, const char *status)
{
    char    answer[4096];
    size_t  len;

    client_send_all(fd, head, strlen(head));

    for (len = 0; len < sizeof(answer) - 1; len++) {

        if (recv(fd, answer + len, 1, 0) != 1) {
            client_die("the connection was closed within the head");
        }

        answer[len + 1] = '\0';

        if (len >= 3 && strcmp(answer + len - 3, "\r\n\r\n") == 0) {
            break;
        }
    }

    if (strncmp(answer, "HTTP/1.1 ", 9) != 0
        || strncmp(answer + 9, status, 3) != 0)
    {
        client_die("not %s: %s", status, answer);
    }

    fcntl(fd, F_SETFL, O_NONBLOCK);
}


static inline void
client_open_websocket(int fd, const char *path)
{
    char  head[1024];

    snprintf(head, sizeof(head),
             "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path);

    client_open(fd, head, "101");
}


/* a frame with a mask of zeros; returns its size, at most len + 14 */

static inline size_t
client_frame(uint8_t *p, unsigned opcode, const void *data, size_t len)
{
    uint8_t  *start;

    start = p;
    *p++ = (uint8_t) (0x80 | opcode);

    if (len < 126) {
        *p++ = (uint8_t) (0x80 | len);

    } else if (len < 65536) {
        *p++ = 0x80 | 126;
        *p++ = (uint8_t) (len >> 8);
        *p++ = (uint8_t) len;

    } else {
        client_die("a message is too large");
    }

    memset(p, 0, 4);
    memcpy(p + 4, data, len);

    return (size_t) (p + 4 - start) + len;
}


/*
 * The size of the frame's header at the beginning of a buffer, and the length
 * of its payload.  0: the header is not complete.
 */

static inline size_t
client_frame_size(const uint8_t *p, size_t len, size_t *payload)
{
    if (len < 2) {
        return 0;
    }

    *payload = p[1] & 0x7f;

    if (*payload < 126) {
        return 2;
    }

    if (*payload == 127) {
        client_die("a frame is too large");
    }

    if (len < 4) {
        return 0;
    }

    *payload = (size_t) p[2] << 8 | p[3];

    return 4;
}


static inline int
client_compare(const void *one, const void *two)
{
    uint32_t  a, b;

    a = *(const uint32_t *) one;
    b = *(const uint32_t *) two;

    return (a > b) - (a < b);
}


/* of sorted times */

static inline uint32_t
client_percentile(const uint32_t *times, size_t n, double share)
{
    return n ? times[(size_t) ((double) (n - 1) * share)] : 0;
}
