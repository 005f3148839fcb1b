/* Closed-loop HTTP load, a new TCP connection for every request.
 *
 *   http_close ADDRESS PORT PATH CLIENTS SECONDS BYTES
 *
 * A '#' in PATH stands for the number of the request, so that no two ask for the same.
 *
 * Keeps CLIENTS requests under way in one thread (epoll). A request's time runs from connect() to the last byte of
 * its body. Those that begin in the first tenth of the run are counted, but not timed: CLIENTS connections in one
 * moment are a hundredth of a short run, and would be what its slowest hundredth tells of. Only a 200 whose
 * Content-Length and received body are BYTES long counts as answered; every other end of a connection is counted under
 * what it was. Widen net.ipv4.ip_local_port_range and set net.ipv4.tcp_tw_reuse before runs of tens of thousands of
 * connections. One line of JSON on stdout; latencies in microseconds, `times` all of them with how often each came.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 65536, EVENTS = 256, KEPT = 1 << 23 };
static const uint64_t GIVE_UP = 10ull * 1000 * 1000 * 1000;

struct client {
    int fd;
    int asked;       /* the request has been sent */
    size_t got;      /* bytes received */
    size_t head;     /* length of the answer's header, 0 until it is complete */
    uint64_t began;  /* ns */
    char *buffer;
};

static struct sockaddr_in server;
static char request[2048], *path, *address;
static size_t request_length, expected;
static uint64_t number;
static int epoll_fd;
static uint32_t *kept; /* latencies in units of 100 ns */
static uint64_t timed, timed_from;
static uint64_t answered, refused, wrong, broken, late;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void begin(struct client *c) {
    static const int one = 1;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
    for (;;) {
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (c->fd < 0) {
            perror("socket");
            exit(1);
        }
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        c->asked = 0;
        c->got = c->head = 0;
        c->began = now();
        if (connect(c->fd, (struct sockaddr *)&server, sizeof server) == 0 || errno == EINPROGRESS) {
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
            return;
        }
        refused++;
        close(c->fd);
        usleep(1000);
    }
}

static void again(struct client *c) {
    close(c->fd);
    begin(c);
}

/* The whole answer is there: is it the right one? */
static void finish(struct client *c) {
    uint64_t took = now() - c->began;
    if (strncmp(c->buffer + 9, "200", 3) == 0 && c->got - c->head == expected) {
        if (c->began >= timed_from && timed < KEPT) kept[timed++] = (uint32_t)(took / 100);
        answered++;
    } else {
        wrong++;
    }
    again(c);
}

static void write_request(void) {
    static const char rest[] = " HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nConnection: close\r\n\r\n";
    char *mark = strchr(path, '#');
    int length = mark ? snprintf(request, sizeof request, "GET %.*s%lu%s", (int)(mark - path), path, ++number, mark + 1)
                      : snprintf(request, sizeof request, "GET %s", path);
    request_length = (size_t)(length + snprintf(request + length, sizeof request - (size_t)length, rest, address));
}

static void send_request(struct client *c) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        refused++;
        again(c);
        return;
    }
    if (number) write_request();
    if (send(c->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) {
        broken++;
        again(c);
        return;
    }
    c->asked = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static void receive(struct client *c) {
    ssize_t n = recv(c->fd, c->buffer + c->got, BUFFER - 1 - c->got, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        broken++;
        again(c);
        return;
    }
    c->got += (size_t)n;
    c->buffer[c->got] = 0;
    if (!c->head) {
        char *end = strstr(c->buffer, "\r\n\r\n");
        if (!end) return;
        c->head = (size_t)(end - c->buffer) + 4;
    }
    char *field = strcasestr(c->buffer, "\ncontent-length:");
    size_t length = field && field < c->buffer + c->head ? strtoul(field + 16, NULL, 10) : 0;
    if (c->got - c->head >= length) finish(c);
}

static int smaller(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile(uint64_t n, double p) { return n ? kept[(uint64_t)((double)(n - 1) * p)] / 10.0 : 0.0; }

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: http_close ADDRESS PORT PATH CLIENTS SECONDS BYTES\n");
        return 2;
    }
    int clients = atoi(argv[4]);
    expected = strtoul(argv[6], NULL, 10);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(argv[2]));
    if (clients < 1 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) return 2;
    address = argv[1];
    path = argv[3];
    if (strlen(path) > 1024 || strlen(address) > 64) return 2;
    write_request();
    kept = malloc(sizeof *kept * KEPT);
    struct client *all = calloc((size_t)clients, sizeof *all);
    epoll_fd = epoll_create1(0);
    uint64_t start = now(), end = start + (uint64_t)(atof(argv[5]) * 1e9), swept = start;
    timed_from = start + (end - start) / 10;
    for (int i = 0; i < clients; i++) {
        all[i].buffer = malloc(BUFFER);
        begin(&all[i]);
    }
    struct epoll_event events[EVENTS];
    for (uint64_t t = start; t < end; t = now()) {
        int n = epoll_wait(epoll_fd, events, EVENTS, 20);
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (c->asked)
                receive(c);
            else
                send_request(c);
        }
        if (t - swept > 200000000u) { /* a client that waits too long must not idle for the rest of the run */
            swept = t;
            for (int i = 0; i < clients; i++)
                if (t > all[i].began && t - all[i].began > GIVE_UP) {
                    late++;
                    again(&all[i]);
                }
        }
    }
    double seconds = (double)(now() - start) / 1e9;
    qsort(kept, timed, sizeof *kept, smaller);
    printf("{\"answered\":%lu,\"seconds\":%.6f,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f,"
           "\"refused\":%lu,\"wrong\":%lu,\"broken\":%lu,\"late\":%lu,\"times\":[",
           answered, seconds, percentile(timed, 0.5), percentile(timed, 0.99), percentile(timed, 1.0), refused, wrong, broken, late);
    for (uint64_t first = 0, next; first < timed; first = next) {
        for (next = first + 1; next < timed && kept[next] == kept[first]; next++) {}
        printf("%s[%.1f,%lu]", first ? "," : "", kept[first] / 10.0, next - first);
    }
    printf("]}\n");
    return 0;
}
