/* Closed-loop DHCPv4 load: always WINDOW exchanges (DISCOVER, OFFER, REQUEST, ACK) under way.
 *
 *   dhcp_loop relay SERVER GIADDR FIRST CLIENTS WINDOW SECONDS   through a UDP socket, as a relay agent at GIADDR
 *   dhcp_loop direct DEVICE FIRST CLIENTS WINDOW SECONDS         raw frames, as the guests behind DEVICE themselves
 *
 * Client i has the MAC 00:0c:01:02:<i / 256>:<i % 256> (perfdhcp's numbering) and must be given the address FIRST + i;
 * another address, or a NAK, is counted as wrong. An exchange's time runs from its DISCOVER to its ACK; without an ACK
 * within one second it is lost. recvmmsg and sendmmsg, up to 64 datagrams a call. One line of JSON on stdout;
 * latencies in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, SLOT = 1600, HEADERS = 14 + 20 + 8, BOOTP = 236, KEPT = 1 << 24 };
enum { DISCOVER = 1, OFFER = 2, REQUEST = 3, ACK = 5, NAK = 6 };
static const uint64_t GIVE_UP = 1000ull * 1000 * 1000;

struct client {
    uint64_t began; /* ns; 0 when idle */
    uint32_t xid;   /* network byte order */
};

static int fd, direct, clients, window, next_client, queued;
static uint32_t first, giaddr;
static struct sockaddr_in server;
static struct client *all;
static uint32_t *kept; /* latencies in units of 100 ns */
static uint64_t done, lost, wrong;
static uint8_t out_bytes[BATCH][SLOT];
static struct iovec out_vector[BATCH];
static struct mmsghdr out[BATCH];

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void flush(void) {
    for (int sent = 0; sent < queued;) {
        int n = sendmmsg(fd, out + sent, (unsigned)(queued - sent), 0);
        if (n > 0)
            sent += n;
        else if (errno != EAGAIN && errno != ENOBUFS && errno != ECONNREFUSED) {
            perror("sendmmsg");
            exit(1);
        }
    }
    queued = 0;
}

static void mac_of(int i, uint8_t *mac) {
    uint8_t made[6] = {0x00, 0x0c, 0x01, 0x02, (uint8_t)(i >> 8), (uint8_t)i};
    memcpy(mac, made, 6);
}

/* Ethernet, IPv4 and UDP in front of a broadcast DHCP message; the UDP checksum is left out (RFC 768). */
static void put_headers(uint8_t *b, int i, size_t payload) {
    memset(b, 0, HEADERS);
    memset(b, 0xff, 6);
    mac_of(i, b + 6);
    b[12] = 0x08;
    uint8_t *ip = b + 14, *udp = b + 34;
    uint16_t total = htons((uint16_t)(28 + payload)), length = htons((uint16_t)(8 + payload));
    ip[0] = 0x45;
    memcpy(ip + 2, &total, 2);
    ip[8] = 64;
    ip[9] = 17;
    memset(ip + 16, 0xff, 4);
    uint32_t sum = 0;
    for (int k = 0; k < 20; k += 2) sum += (uint32_t)(ip[k] << 8 | ip[k + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    ip[10] = (uint8_t)(~sum >> 8);
    ip[11] = (uint8_t)~sum;
    udp[1] = 68;
    udp[3] = 67;
    memcpy(udp + 4, &length, 2);
}

/* Queue a DISCOVER, or a REQUEST of `address` from the server `identifier` (RFC 2131 4.3.2, SELECTING). */
static void put(int i, int type, const uint8_t *address, const uint8_t *identifier) {
    static const uint8_t cookie[] = {0x63, 0x82, 0x53, 0x63, 53, 1};
    static const uint8_t wanted[] = {55, 6, 1, 3, 6, 15, 26, 121, 255};
    uint8_t *frame = out_bytes[queued], *b = direct ? frame + HEADERS : frame;
    size_t n = BOOTP + sizeof cookie;
    memset(b, 0, SLOT - HEADERS);
    b[0] = b[1] = 1;
    b[2] = 6;
    memcpy(b + 4, &all[i].xid, 4);
    if (!direct) {
        b[3] = 1;
        memcpy(b + 24, &giaddr, 4);
    }
    mac_of(i, b + 28);
    memcpy(b + BOOTP, cookie, sizeof cookie);
    b[n++] = (uint8_t)type;
    if (type == REQUEST) {
        b[n++] = 50;
        b[n++] = 4;
        memcpy(b + n, address, 4);
        n += 4;
        b[n++] = 54;
        b[n++] = 4;
        memcpy(b + n, identifier, 4);
        n += 4;
    }
    memcpy(b + n, wanted, sizeof wanted);
    n += sizeof wanted;
    if (n < 300) n = 300;
    if (direct) {
        put_headers(frame, i, n);
        n += HEADERS;
    }
    out_vector[queued] = (struct iovec){.iov_base = frame, .iov_len = n};
    out[queued].msg_hdr = (struct msghdr){.msg_iov = &out_vector[queued], .msg_iovlen = 1};
    if (!direct) {
        out[queued].msg_hdr.msg_name = &server;
        out[queued].msg_hdr.msg_namelen = sizeof server;
    }
    if (++queued == BATCH) flush();
}

static void begin(void) {
    do {
        next_client = (next_client + 1) % clients;
    } while (all[next_client].began);
    struct client *c = &all[next_client];
    c->xid = (uint32_t)random() << 1;
    c->began = now();
    put(next_client, DISCOVER, NULL, NULL);
}

static void end(struct client *c) {
    c->began = 0;
    begin();
}

static void take(const uint8_t *b, size_t length) {
    if (direct) {
        if (length < HEADERS) return;
        b += HEADERS;
        length -= HEADERS;
    }
    if (length < BOOTP + 4 || b[0] != 2) return;
    int i = b[32] << 8 | b[33];
    if (i >= clients || !all[i].began || memcmp(b + 4, &all[i].xid, 4) != 0) return;
    int type = 0;
    const uint8_t *identifier = NULL;
    for (size_t k = BOOTP + 4; k + 1 < length && b[k] != 255;) {
        if (b[k] == 0) {
            k++;
            continue;
        }
        if (k + 2 + b[k + 1] > length) return;
        if (b[k] == 53) type = b[k + 2];
        if (b[k] == 54) identifier = b + k + 2;
        k += 2u + b[k + 1];
    }
    uint32_t address = htonl(first + (uint32_t)i);
    if (type == NAK || memcmp(b + 16, &address, 4) != 0) {
        wrong++;
        end(&all[i]);
    } else if (type == OFFER && identifier) {
        put(i, REQUEST, b + 16, identifier);
    } else if (type == ACK) {
        if (done < KEPT) kept[done] = (uint32_t)((now() - all[i].began) / 100);
        done++;
        end(&all[i]);
    }
}

static void open_relay(const char *to, const char *from) {
    static const int one = 1;
    struct sockaddr_in me = {.sin_family = AF_INET, .sin_port = htons(67)};
    server = me;
    if (inet_pton(AF_INET, to, &server.sin_addr) != 1 || inet_pton(AF_INET, from, &me.sin_addr) != 1) exit(2);
    giaddr = me.sin_addr.s_addr;
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&me, sizeof me)) {
        perror("bind");
        exit(1);
    }
}

static void open_direct(const char *device) {
    /* IPv4, UDP, no options, destination port 68 */
    static struct sock_filter code[] = {
        {BPF_LD | BPF_B | BPF_ABS, 0, 0, 14},  {BPF_JMP | BPF_JEQ | BPF_K, 0, 5, 0x45},
        {BPF_LD | BPF_B | BPF_ABS, 0, 0, 23},  {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 17},
        {BPF_LD | BPF_H | BPF_ABS, 0, 0, 36},  {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 68},
        {BPF_RET | BPF_K, 0, 0, 0xffff},       {BPF_RET | BPF_K, 0, 0, 0},
    };
    struct sock_fprog filter = {.len = sizeof code / sizeof *code, .filter = code};
    struct sockaddr_ll me = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP)};
    me.sll_ifindex = (int)if_nametoindex(device);
    fd = socket(AF_PACKET, SOCK_RAW, 0);
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
    if (!me.sll_ifindex || bind(fd, (struct sockaddr *)&me, sizeof me)) {
        perror(device);
        exit(1);
    }
}

static int smaller(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile(uint64_t n, double p) { return n ? kept[(uint64_t)((double)(n - 1) * p)] / 10.0 : 0.0; }

int main(int argc, char **argv) {
    direct = argc == 7 && strcmp(argv[1], "direct") == 0;
    if (!direct && (argc != 8 || strcmp(argv[1], "relay") != 0)) {
        fprintf(stderr, "usage: dhcp_loop relay SERVER GIADDR FIRST CLIENTS WINDOW SECONDS\n"
                        "       dhcp_loop direct DEVICE FIRST CLIENTS WINDOW SECONDS\n");
        return 2;
    }
    char **rest = argv + (direct ? 3 : 4);
    struct in_addr address;
    if (inet_pton(AF_INET, rest[0], &address) != 1) return 2;
    first = ntohl(address.s_addr);
    clients = atoi(rest[1]);
    window = atoi(rest[2]);
    if (window < 1 || clients <= window || clients > 65536) return 2;
    if (direct)
        open_direct(argv[2]);
    else
        open_relay(argv[2], argv[3]);
    int big = 8 << 20;
    struct timeval patience = {.tv_usec = 100000};
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    all = calloc((size_t)clients, sizeof *all);
    kept = malloc(sizeof *kept * KEPT);
    srandom(1);

    static uint8_t in_bytes[BATCH][SLOT];
    struct iovec in_vector[BATCH];
    struct mmsghdr in[BATCH] = {0};
    for (int i = 0; i < BATCH; i++) {
        in_vector[i] = (struct iovec){.iov_base = in_bytes[i], .iov_len = SLOT};
        in[i].msg_hdr.msg_iov = &in_vector[i];
        in[i].msg_hdr.msg_iovlen = 1;
    }
    uint64_t start = now(), stop = start + (uint64_t)(atof(rest[3]) * 1e9), swept = start;
    for (int i = 0; i < window; i++) begin();
    flush();
    for (uint64_t t = start; t < stop; t = now()) {
        int n = recvmmsg(fd, in, BATCH, MSG_WAITFORONE, NULL);
        for (int i = 0; i < n; i++) take(in_bytes[i], in[i].msg_len);
        if (t - swept > 200000000u) {
            swept = t;
            for (int i = 0; i < clients; i++)
                if (all[i].began && t > all[i].began && t - all[i].began > GIVE_UP) {
                    lost++;
                    end(&all[i]);
                }
        }
        flush();
    }
    double seconds = (double)(now() - start) / 1e9;
    uint64_t n = done < KEPT ? done : KEPT;
    qsort(kept, n, sizeof *kept, smaller);
    printf("{\"answered\":%lu,\"seconds\":%.6f,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f,\"wrong\":%lu,\"lost\":%lu}\n", done,
           seconds, percentile(n, 0.5), percentile(n, 0.99), percentile(n, 1.0), wrong, lost);
    return 0;
}
