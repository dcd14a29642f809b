/* A multi-stream SRT listener on libsrt, which verifies every payload it receives.
 *
 *   listener [--bind ADDRESS] [--port PORT] [--passphrase TEXT] [--latency MS] [--age SECONDS]
 *
 * Takes any number of callers. Prints one JSON object a line: listening, accepted, stats (each second and stream that
 * moved), closed. Times are ns of CLOCK_MONOTONIC, which all network namespaces share. Payloads are either the
 * counter format of payload.h or MPEG-TS; which one is learnt from a session's first message. SIGTERM ends it after a
 * last stats line per session; SIGKILL and SIGSTOP are what it is for. With --age it is as if it had listened so long
 * already: libsrt makes its cookies of the minutes since then, so listeners of one age issue the same ones (not 1.4.2,
 * which reads the processor's own clock and is always fresh).
 */
#include "payload.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <srt/srt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_SESSIONS = 4096, STREAM_ID_SIZE = 513, TS_PACKET = 188, TS_PIDS = 8192 };

struct session {
    SRTSOCKET socket;
    char stream_id[STREAM_ID_SIZE];
    char peer[80];
    const char *kind;
    uint64_t messages, bytes, bad, lost, reordered, first, last, moved_at, reported;
    /* Longest time without a message, and the longest delivery time: both in ns. */
    uint64_t gap_max, delay_max;
    /* Continuity counter by PID, 0xff: not seen yet. MPEG-TS only. */
    unsigned char *continuity;
};

static struct session sessions[MAX_SESSIONS];
static int session_count;
static volatile sig_atomic_t stop;

/* How far the clock is behind: not at all, but while the listening socket is made and bound. */
static volatile time_t clock_behind;

/* In place of libc's, for libsrt and the C++ library too. */
int clock_gettime(clockid_t id, struct timespec *t) {
    int result = (int)syscall(SYS_clock_gettime, id, t);
    if (result == 0 && id == CLOCK_MONOTONIC) t->tv_sec -= clock_behind;
    return result;
}

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static void print_text(const char *name, const char *text) {
    printf(",\"%s\":\"", name);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < 0x20 || c > 0x7e) printf("\\u%04x", c);
        else putchar(c);
    }
    putchar('"');
}

static void print_session(const char *event, const struct session *s, uint64_t now, const char *reason) {
    printf("{\"event\":\"%s\",\"t\":%llu,\"socket\":%d", event, (unsigned long long)now, s->socket);
    print_text("peer", s->peer);
    print_text("streamid", s->stream_id);
    print_text("kind", s->kind);
    printf(",\"messages\":%llu,\"bytes\":%llu,\"bad\":%llu,\"lost\":%llu,\"reordered\":%llu,\"first\":%llu,"
           "\"last\":%llu,\"gap_max_ns\":%llu,\"delay_max_ns\":%llu",
           (unsigned long long)s->messages, (unsigned long long)s->bytes, (unsigned long long)s->bad,
           (unsigned long long)s->lost, (unsigned long long)s->reordered, (unsigned long long)s->first,
           (unsigned long long)s->last, (unsigned long long)s->gap_max, (unsigned long long)s->delay_max);
    if (reason) print_text("reason", reason);
    puts("}");
    fflush(stdout);
}

static void verify_counter(struct session *s, const unsigned char *data, int size, uint64_t now) {
    if (size != PAYLOAD_SIZE || memcmp(data, "INGT", 4) != 0 ||
        crc32_of(data, PAYLOAD_CRC_AT) != read_be(data + PAYLOAD_CRC_AT, 4)) {
        s->bad++;
        return;
    }
    uint64_t counter = read_be(data + 8, 8), sent = read_be(data + 16, 8);
    if (s->messages == s->bad + 1) {
        s->first = s->last = counter;
    } else if (counter > s->last) {
        s->lost += counter - s->last - 1;
        s->last = counter;
    } else {
        s->reordered++;
    }
    if (now > sent && now - sent > s->delay_max) s->delay_max = now - sent;
}

static void verify_ts(struct session *s, const unsigned char *data, int size) {
    if (size == 0 || size % TS_PACKET != 0) {
        s->bad++;
        return;
    }
    for (int at = 0; at < size; at += TS_PACKET) {
        const unsigned char *packet = data + at;
        if (packet[0] != 0x47) {
            s->bad++;
            return;
        }
        unsigned pid = (unsigned)(packet[1] & 0x1f) << 8 | packet[2];
        /* Null packets and packets without payload do not count (ISO 13818-1, 2.4.3.3). */
        if (pid == 0x1fff || !(packet[3] & 0x10)) continue;
        unsigned char counter = packet[3] & 0x0f, seen = s->continuity[pid];
        if (seen != 0xff && counter != seen && counter != ((seen + 1) & 0x0f))
            s->lost += (unsigned)(counter - seen - 1) & 0x0f;
        s->continuity[pid] = counter;
    }
}

static void on_message(struct session *s, const unsigned char *data, int size) {
    uint64_t now = monotonic_ns();
    if (s->messages && now - s->moved_at > s->gap_max) s->gap_max = now - s->moved_at;
    s->moved_at = now;
    s->messages++;
    s->bytes += (uint64_t)size;
    if (s->messages == 1) {
        if (size >= 4 && memcmp(data, "INGT", 4) == 0) {
            s->kind = "counter";
        } else if (size >= TS_PACKET && data[0] == 0x47 && (s->continuity = malloc(TS_PIDS))) {
            s->kind = "ts";
            memset(s->continuity, 0xff, TS_PIDS);
        }
    }
    if (strcmp(s->kind, "counter") == 0) verify_counter(s, data, size, now);
    else if (strcmp(s->kind, "ts") == 0) verify_ts(s, data, size);
    else s->bad++;
}

static void on_caller(SRTSOCKET listener, int poll) {
    struct sockaddr_storage from;
    int length = sizeof from;
    SRTSOCKET accepted;
    while (length = sizeof from, (accepted = srt_accept(listener, (struct sockaddr *)&from, &length)) != SRT_INVALID_SOCK) {
        uint64_t now = monotonic_ns();
        if (session_count == MAX_SESSIONS) {
            srt_close(accepted);
            continue;
        }
        struct session *s = &sessions[session_count++];
        memset(s, 0, sizeof *s);
        s->socket = accepted;
        s->kind = "unknown";
        int size = STREAM_ID_SIZE - 1;
        srt_getsockflag(accepted, SRTO_STREAMID, s->stream_id, &size);
        char host[64] = "", port[8] = "";
        getnameinfo((struct sockaddr *)&from, (socklen_t)length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
        snprintf(s->peer, sizeof s->peer, from.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
        int no = 0, events = SRT_EPOLL_IN | SRT_EPOLL_ERR;
        srt_setsockflag(accepted, SRTO_RCVSYN, &no, sizeof no);
        srt_epoll_add_usock(poll, accepted, &events);
        printf("{\"event\":\"accepted\",\"t\":%llu,\"socket\":%d", (unsigned long long)now, accepted);
        print_text("peer", s->peer);
        print_text("streamid", s->stream_id);
        puts("}");
        fflush(stdout);
    }
}

static void on_session(SRTSOCKET socket, int poll) {
    int index = 0;
    while (index < session_count && sessions[index].socket != socket) index++;
    if (index == session_count) return;
    struct session *s = &sessions[index];
    unsigned char data[2048];
    int size;
    /* Bounded, so that one stream cannot starve the others. */
    for (int turn = 0; turn < 64; turn++) {
        size = srt_recvmsg(socket, (char *)data, sizeof data);
        if (size <= 0) break;
        on_message(s, data, size);
    }
    if (size <= 0 && srt_getlasterror(NULL) != SRT_EASYNCRCV) {
        print_session("closed", s, monotonic_ns(), size == 0 ? "shutdown" : srt_getlasterror_str());
        srt_epoll_remove_usock(poll, socket);
        srt_close(socket);
        free(s->continuity);
        sessions[index] = sessions[--session_count];
    }
}

static void report(int all) {
    uint64_t now = monotonic_ns();
    for (int i = 0; i < session_count; i++)
        if (all || sessions[i].messages != sessions[i].reported) {
            sessions[i].reported = sessions[i].messages;
            print_session("stats", &sessions[i], now, NULL);
        }
}

static int fail(const char *what) {
    fprintf(stderr, "listener: %s: %s\n", what, srt_getlasterror_str());
    return 1;
}

int main(int argc, char **argv) {
    const char *address = "0.0.0.0", *port = "9000", *passphrase = NULL;
    int latency = 120;
    time_t age = 0;
    static const struct option options[] = {{"bind", 1, 0, 'b'}, {"port", 1, 0, 'p'}, {"passphrase", 1, 0, 's'},
                                            {"latency", 1, 0, 'l'}, {"age", 1, 0, 'a'},        {0, 0, 0, 0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (c) {
        case 'a': age = atol(optarg); break;
        case 'b': address = optarg; break;
        case 'p': port = optarg; break;
        case 's': passphrase = optarg; break;
        case 'l': latency = atoi(optarg); break;
        default: return 2;
    }
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_DGRAM}, *local;
    if (getaddrinfo(address, port, &hints, &local) != 0) {
        fprintf(stderr, "listener: %s port %s is no address to bind to\n", address, port);
        return 2;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    srt_startup();
    srt_setloglevel(2);
    int no = 0, yes = 1;
    clock_behind = age;
    SRTSOCKET listener = srt_create_socket();
    srt_setsockflag(listener, SRTO_RCVSYN, &no, sizeof no);
    srt_setsockflag(listener, SRTO_LATENCY, &latency, sizeof latency);
    if (local->ai_family == AF_INET6) srt_setsockflag(listener, SRTO_IPV6ONLY, &yes, sizeof yes);
    if (passphrase && srt_setsockflag(listener, SRTO_PASSPHRASE, passphrase, (int)strlen(passphrase)) == SRT_ERROR)
        return fail("passphrase");
    if (srt_bind(listener, local->ai_addr, (int)local->ai_addrlen) == SRT_ERROR) return fail("bind");
    clock_behind = 0;
    freeaddrinfo(local);
    if (srt_listen(listener, 128) == SRT_ERROR) return fail("listen");
    int poll = srt_epoll_create(), events = SRT_EPOLL_IN | SRT_EPOLL_ERR;
    srt_epoll_add_usock(poll, listener, &events);
    unsigned version = srt_getversion();
    printf("{\"event\":\"listening\",\"t\":%llu,\"libsrt\":\"%u.%u.%u\"}\n", (unsigned long long)monotonic_ns(),
           version >> 16, version >> 8 & 0xff, version & 0xff);
    fflush(stdout);

    uint64_t next_report = monotonic_ns() + 1000000000u;
    while (!stop) {
        SRT_EPOLL_EVENT ready[64];
        int count = srt_epoll_uwait(poll, ready, 64, 100);
        for (int i = 0; i < count; i++) {
            if (ready[i].fd == listener) on_caller(listener, poll);
            else on_session(ready[i].fd, poll);
        }
        if (monotonic_ns() >= next_report) {
            report(0);
            next_report += 1000000000u;
        }
    }
    report(1);
    srt_cleanup();
    return 0;
}
