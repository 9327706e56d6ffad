
/*
 * Network namespaces of hosts, and the network between them.
 *
 *     relay COUNT
 *
 * makes COUNT network namespaces, each with a TUN device at 10.77.0.(1 + I),
 * and carries packets between them.  It prints the descriptor of each
 * namespace and "ready", then reads commands from stdin and ends with it:
 *
 *     link HOST RATE DELAY LOSS    bits/s of each direction, microseconds of
 *                                  each direction, lost packets in a million
 *     cut FROM TO 0|1              packets of this direction are dropped
 *
 * Packets have up to 64 KB, as segmentation is left to the receiver's kernel:
 * a link of 1 Gbit/s is 2000 of them a second.
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


#define MAX_HOSTS    8
#define HEADER       sizeof(struct virtio_net_hdr)
#define MAX_PACKET   (HEADER + 65536)
#define MTU          1500
#define SECOND       1000000000LL

/* what a queue holds, in nanoseconds of its link and in bytes at least */
#define MAX_QUEUE    (SECOND / 5)
#define MIN_QUEUE    (512 * 1024)


typedef struct packet_s  packet_t;

struct packet_s {
    packet_t       *next;
    int64_t         time;
    size_t          size;
    unsigned char   data[];
};


typedef struct {
    packet_t       *first;
    packet_t      **last;
} queue_t;


typedef struct {
    int             tun;
    int             space;

    double          rate;
    int64_t         delay;
    uint32_t        loss;

    /* when the last packet of each direction has left the link */
    int64_t         up;
    int64_t         down;

    /* on their way through this host's link to another one's */
    queue_t         ways[MAX_HOSTS];

    /* on their way through this host's link to it */
    queue_t         arriving;

    unsigned char   cut[MAX_HOSTS];
} host_t;


static host_t     hosts[MAX_HOSTS];
static unsigned   count;


static int64_t
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec * SECOND + ts.tv_nsec;
}


static void
queue_add(queue_t *queue, packet_t *packet)
{
    packet->next = NULL;
    *queue->last = packet;
    queue->last = &packet->next;
}


static packet_t *
queue_pop(queue_t *queue)
{
    packet_t  *packet;

    packet = queue->first;
    queue->first = packet->next;

    if (queue->first == NULL) {
        queue->last = &queue->first;
    }

    return packet;
}


static void
check(int rc, const char *what)
{
    if (rc == -1) {
        perror(what);
        exit(errno == EPERM || errno == EACCES || errno == ENOENT ? 77 : 1);
    }
}


static void
set_address(struct ifreq *ifr, uint32_t address)
{
    struct sockaddr_in  sin;

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_addr.s_addr = htonl(address);
    memcpy(&ifr->ifr_addr, &sin, sizeof(sin));
}


static void
bring_up(int fd, struct ifreq *ifr)
{
    check(ioctl(fd, SIOCGIFFLAGS, ifr), "SIOCGIFFLAGS");
    ifr->ifr_flags |= IFF_UP;
    check(ioctl(fd, SIOCSIFFLAGS, ifr), "SIOCSIFFLAGS");
}


/* the process is in the new namespace afterwards; the TUN stays in it */

static void
host_create(host_t *host, unsigned index)
{
    int           fd, size;
    unsigned      i;
    struct ifreq  ifr;

    check(unshare(CLONE_NEWNET), "unshare");

    host->space = open("/proc/self/ns/net", O_RDONLY);
    check(host->space, "namespace");

    host->tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    check(host->tun, "/dev/net/tun");

    memset(&ifr, 0, sizeof(ifr));
    strcpy(ifr.ifr_name, "net0");
    ifr.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    check(ioctl(host->tun, TUNSETIFF, &ifr), "TUNSETIFF");

    size = HEADER;
    check(ioctl(host->tun, TUNSETVNETHDRSZ, &size), "TUNSETVNETHDRSZ");
    check(ioctl(host->tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4),
          "TUNSETOFFLOAD");

    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check(fd, "socket");

    set_address(&ifr, 0x0a4d0001 + index);
    check(ioctl(fd, SIOCSIFADDR, &ifr), "SIOCSIFADDR");
    set_address(&ifr, 0xffffff00);
    check(ioctl(fd, SIOCSIFNETMASK, &ifr), "SIOCSIFNETMASK");
    ifr.ifr_mtu = MTU;
    check(ioctl(fd, SIOCSIFMTU, &ifr), "SIOCSIFMTU");
    ifr.ifr_qlen = 10000;
    check(ioctl(fd, SIOCSIFTXQLEN, &ifr), "SIOCSIFTXQLEN");
    bring_up(fd, &ifr);

    strcpy(ifr.ifr_name, "lo");
    bring_up(fd, &ifr);

    close(fd);

    host->rate = 1e9;
    host->arriving.last = &host->arriving.first;

    for (i = 0; i < MAX_HOSTS; i++) {
        host->ways[i].last = &host->ways[i].first;
    }
}


/* bytes on the wire: each segment has headers of its own */

static double
wire_size(const packet_t *packet)
{
    struct virtio_net_hdr  vnet;
    unsigned               segments;

    memcpy(&vnet, packet->data, HEADER);
    segments = 1;

    if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE && vnet.gso_size != 0) {
        segments = (packet->size - HEADER) / vnet.gso_size + 1;
    }

    /* Ethernet's 38 bytes for each, and 52 of IP and TCP but for the first */
    return packet->size - HEADER + 38.0 * segments + 52.0 * (segments - 1);
}


/* returns when a packet has left a link, or 0 if its queue is full */

static int64_t
serialize(int64_t *free_at, int64_t start, double bytes, double rate)
{
    int64_t  most;

    most = (int64_t) (MIN_QUEUE * 8 / rate * SECOND);
    if (most < MAX_QUEUE) {
        most = MAX_QUEUE;
    }

    if (*free_at - start > most) {
        return 0;
    }

    if (*free_at < start) {
        *free_at = start;
    }

    *free_at += (int64_t) (bytes * 8 / rate * SECOND);

    return *free_at;
}


static void
route(unsigned from, packet_t *packet)
{
    host_t         *source, *target;
    int64_t         time;
    unsigned        to;
    unsigned char  *ip;

    if (packet->size < HEADER + 20) {
        goto drop;
    }

    ip = packet->data + HEADER;
    to = ip[19] - 1u;

    if (ip[0] >> 4 != 4 || ip[16] != 10 || to >= count || to == from) {
        goto drop;
    }

    source = &hosts[from];
    target = &hosts[to];

    if (source->cut[to]
        || (uint32_t) (random() % 1000000) < source->loss + target->loss)
    {
        goto drop;
    }

    time = serialize(&source->up, now(), wire_size(packet), source->rate);
    if (time == 0) {
        goto drop;
    }

    packet->time = time + source->delay + target->delay;
    queue_add(&source->ways[to], packet);

    return;

drop:

    free(packet);
}


static void
host_read(unsigned index)
{
    int                   n;
    ssize_t               size;
    packet_t             *packet;
    static unsigned char  buffer[MAX_PACKET];

    for (n = 0; n < 64; n++) {
        size = read(hosts[index].tun, buffer, sizeof(buffer));
        if (size <= 0) {
            return;
        }

        packet = malloc(sizeof(packet_t) + size);
        if (packet == NULL) {
            return;
        }

        packet->size = size;
        memcpy(packet->data, buffer, size);
        route(index, packet);
    }
}


/*
 * A packet takes its place in the target's link when it comes there: those of
 * a slow host would else keep it from others, which come before.
 *
 * Returns the time of the next packet.
 */

static int64_t
way_forward(queue_t *way, host_t *target, int64_t time)
{
    packet_t  *packet;

    while (way->first != NULL) {
        if (way->first->time > time) {
            return way->first->time;
        }

        packet = queue_pop(way);
        packet->time = serialize(&target->down, packet->time,
                                 wire_size(packet), target->rate);
        if (packet->time == 0) {
            free(packet);

        } else {
            queue_add(&target->arriving, packet);
        }
    }

    return INT64_MAX;
}


/* returns the time of the next packet */

static int64_t
host_write(host_t *host, int64_t time)
{
    packet_t  *packet;

    while (host->arriving.first != NULL) {
        if (host->arriving.first->time > time) {
            return host->arriving.first->time;
        }

        packet = queue_pop(&host->arriving);

        if (write(host->tun, packet->data, packet->size) == -1
            && errno != EAGAIN && errno != EIO && errno != ENOBUFS)
        {
            perror("write");
        }

        free(packet);
    }

    return INT64_MAX;
}


static void
command(const char *line)
{
    double     rate, delay;
    unsigned   from, to, loss, value;

    if (sscanf(line, "link %u %lf %lf %u", &from, &rate, &delay, &loss) == 4
        && from < count)
    {
        hosts[from].rate = rate;
        hosts[from].delay = (int64_t) (delay * 1000);
        hosts[from].loss = loss;

    } else if (sscanf(line, "cut %u %u %u", &from, &to, &value) == 3
               && from < count && to < count)
    {
        hosts[from].cut[to] = value != 0;

    } else {
        puts("wrong");
        fflush(stdout);
        return;
    }

    puts("ok");
    fflush(stdout);
}


int
main(int argc, char **argv)
{
    char             line[256];
    int64_t          next, time, wait;
    unsigned         i, to;
    struct pollfd    fds[MAX_HOSTS + 1];
    struct timespec  ts;

    count = argc == 2 ? atoi(argv[1]) : 0;
    if (count == 0 || count > MAX_HOSTS) {
        fprintf(stderr, "usage: relay COUNT\n");
        return 2;
    }

    for (i = 0; i < count; i++) {
        host_create(&hosts[i], i);
        printf("%d ", hosts[i].space);
        fds[i].fd = hosts[i].tun;
        fds[i].events = POLLIN;
    }

    puts("ready");
    fflush(stdout);

    fds[count].fd = STDIN_FILENO;
    fds[count].events = POLLIN;

    for ( ;; ) {
        next = INT64_MAX;
        time = now();

        for (i = 0; i < count; i++) {
            for (to = 0; to < count; to++) {
                wait = way_forward(&hosts[i].ways[to], &hosts[to], time);
                next = wait < next ? wait : next;
            }
        }

        for (i = 0; i < count; i++) {
            wait = host_write(&hosts[i], time);
            next = wait < next ? wait : next;
        }

        wait = next == INT64_MAX ? SECOND : next - now();
        wait = wait < 0 ? 0 : wait;
        ts.tv_sec = wait / SECOND;
        ts.tv_nsec = wait % SECOND;

        if (ppoll(fds, count + 1, &ts, NULL) == -1) {
            continue;
        }

        for (i = 0; i < count; i++) {
            if (fds[i].revents & POLLIN) {
                host_read(i);
            }
        }

        if (fds[count].revents) {
            if (fgets(line, sizeof(line), stdin) == NULL) {
                return 0;
            }

            command(line);
        }
    }
}
