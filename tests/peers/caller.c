/* A minimal SRT caller on libsrt that accounts for every message: the counterpart of listener.c.
 *
 *   caller --host ADDRESS --port PORT [--rate BITS_PER_SECOND] [--count MESSAGES] [--idle SECONDS]
 *          [--stream NUMBER] [--streamid TEXT] [--passphrase TEXT] [--latency MS] [--mss BYTES]
 *          [--from ADDRESS] [--low BITS_PER_SECOND]
 *
 * Sends `count` messages of payload.h at `rate`, then stays connected without data for `idle` seconds, then waits until
 * the listener has everything and closes. From SIGUSR1 to SIGUSR2 it sends at `low` (0, the default: nothing, and stays
 * connected). Reconnects at once when the connection breaks, and goes on counting. Prints one JSON object a line:
 * started (with libsrt's version), connected, refused (with libsrt's reason), broken, done. Exit code 0: done.
 */
#include "payload.h"

#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <srt/srt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *passphrase, *stream_id;
static int latency = 120, mss;
static struct addrinfo *remote, *own;
static uint64_t sent;
static double rate = 2e6, low;
static volatile sig_atomic_t stop, throttled;

static void on_signal(int number) {
    if (number == SIGUSR1 || number == SIGUSR2)
        throttled = number == SIGUSR1;
    else
        stop = 1;
}

static void sleep_until(uint64_t when) {
    struct timespec t = {(time_t)(when / 1000000000u), (long)(when % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void write_be(unsigned char *to, uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--, value >>= 8) to[i] = (unsigned char)value;
}

static void print_event(const char *event, SRTSOCKET socket, const char *detail, int reason) {
    printf("{\"event\":\"%s\",\"t\":%llu,\"socket\":%d,\"sent\":%llu", event, (unsigned long long)monotonic_ns(),
           socket, (unsigned long long)sent);
    if (detail) printf(",\"detail\":\"%s\"", detail);
    if (reason) printf(",\"reason\":%d", reason);
    puts("}");
    fflush(stdout);
}

/* Tries until it is connected: an encoder does not give up. */
static SRTSOCKET connect_until_done(void) {
    while (!stop) {
        uint64_t began = monotonic_ns();
        SRTSOCKET s = srt_create_socket();
        srt_setsockflag(s, SRTO_LATENCY, &latency, sizeof latency);
        if (mss) srt_setsockflag(s, SRTO_MSS, &mss, sizeof mss);
        if (stream_id) srt_setsockflag(s, SRTO_STREAMID, stream_id, (int)strlen(stream_id));
        if (passphrase) srt_setsockflag(s, SRTO_PASSPHRASE, passphrase, (int)strlen(passphrase));
        if (own && srt_bind(s, own->ai_addr, (int)own->ai_addrlen) == SRT_ERROR) {
            fprintf(stderr, "caller: cannot bind: %s\n", srt_getlasterror_str());
            exit(2);
        }
        if (srt_connect(s, remote->ai_addr, (int)remote->ai_addrlen) != SRT_ERROR) {
            char took[32];
            snprintf(took, sizeof took, "%.3f ms", (double)(monotonic_ns() - began) / 1e6);
            print_event("connected", s, took, 0);
            return s;
        }
        print_event("refused", s, srt_getlasterror_str(), srt_getrejectreason(s));
        srt_close(s);
        if (monotonic_ns() - began < 10000000u) sleep_until(began + 10000000u);
    }
    return SRT_INVALID_SOCK;
}

static int is_broken(SRTSOCKET s) {
    return srt_getsockstate(s) != SRTS_CONNECTED;
}

/* Whole again: the same socket, or a new one where it broke. */
static SRTSOCKET mend(SRTSOCKET s) {
    print_event("broken", s, NULL, 0);
    srt_close(s);
    return connect_until_done();
}

/* Until the next message is due at the rate of the moment; `due` is when the last one was. What was not sent while the
 * rate was low is not made up for. */
static SRTSOCKET wait_turn(SRTSOCKET s, double *due) {
    static int low_then;
    while (!stop) {
        if (low_then != throttled) {
            low_then = throttled;
            *due = (double)monotonic_ns();
        }
        double now = low_then ? low : rate, next = *due + PAYLOAD_SIZE * 8 / now * 1e9;
        if (now > 0 && (double)monotonic_ns() >= next) {
            *due = next;
            return s;
        }
        if (now <= 0 && is_broken(s)) s = mend(s);
        uint64_t soon = monotonic_ns() + 20000000u;
        sleep_until(now > 0 && next < (double)soon ? (uint64_t)next : soon);
    }
    return s;
}

int main(int argc, char **argv) {
    const char *host = NULL, *from = NULL, *port = "9000";
    double idle = 0;
    uint64_t count = 1000, stream = 0;
    static const struct option options[] = {{"host", 1, 0, 'h'},    {"port", 1, 0, 'p'},       {"rate", 1, 0, 'r'},
                                            {"count", 1, 0, 'c'},   {"idle", 1, 0, 'i'},       {"stream", 1, 0, 'n'},
                                            {"streamid", 1, 0, 'd'}, {"passphrase", 1, 0, 's'}, {"latency", 1, 0, 'l'},
                                            {"mss", 1, 0, 'm'},     {"from", 1, 0, 'f'},
                                            {"low", 1, 0, 'w'},     {0, 0, 0, 0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (c) {
        case 'f': from = optarg; break;
        case 'h': host = optarg; break;
        case 'p': port = optarg; break;
        case 'r': rate = atof(optarg); break;
        case 'w': low = atof(optarg); break;
        case 'c': count = strtoull(optarg, NULL, 10); break;
        case 'i': idle = atof(optarg); break;
        case 'n': stream = strtoull(optarg, NULL, 10); break;
        case 'd': stream_id = optarg; break;
        case 's': passphrase = optarg; break;
        case 'l': latency = atoi(optarg); break;
        case 'm': mss = atoi(optarg); break;
        default: return 2;
    }
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM};
    if (!host || rate <= 0 || getaddrinfo(host, port, &hints, &remote) != 0 ||
        (from && getaddrinfo(from, "0", &hints, &own) != 0)) {
        fprintf(stderr, "caller: --host and --from must be addresses, --port a port and --rate above 0\n");
        return 2;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, on_signal);
    srt_startup();
    srt_setloglevel(2);
    unsigned version = srt_getversion();
    char libsrt[32];
    snprintf(libsrt, sizeof libsrt, "%u.%u.%u", version >> 16, version >> 8 & 0xff, version & 0xff);
    print_event("started", 0, libsrt, 0);
    SRTSOCKET s = connect_until_done();

    unsigned char data[PAYLOAD_SIZE] = "INGT";
    write_be(data + 4, stream, 4);
    double due = (double)monotonic_ns();
    for (uint64_t counter = 0; counter < count && !stop; counter++) {
        if (counter > 0) s = wait_turn(s, &due);
        write_be(data + 8, counter, 8);
        write_be(data + 16, monotonic_ns(), 8);
        for (int i = PAYLOAD_HEADER; i < PAYLOAD_CRC_AT; i++) data[i] = (unsigned char)(counter + (uint64_t)i);
        write_be(data + PAYLOAD_CRC_AT, crc32_of(data, PAYLOAD_CRC_AT), 4);
        while (!stop && srt_sendmsg(s, (const char *)data, PAYLOAD_SIZE, -1, 1) == SRT_ERROR) s = mend(s);
        sent++;
    }
    uint64_t until = monotonic_ns() + (uint64_t)(idle * 1e9);
    while (!stop && monotonic_ns() < until) {
        if (is_broken(s)) s = mend(s);
        sleep_until(monotonic_ns() + 5000000u);
    }
    /* Everything acknowledged, and then the time the listener's application needs to get it: a listener that is told
     * SHUTDOWN drops what it still holds back for the latency. */
    size_t waiting = 1, bytes = 0;
    for (int turn = 0; turn < 2000 && !stop && !is_broken(s); turn++) {
        srt_getsndbuffer(s, &waiting, &bytes);
        if (waiting == 0) break;
        sleep_until(monotonic_ns() + 5000000u);
    }
    if (!is_broken(s)) sleep_until(monotonic_ns() + ((uint64_t)latency + 300) * 1000000u);
    SRT_TRACEBSTATS stats;
    memset(&stats, 0, sizeof stats);
    srt_bstats(s, &stats, 0);
    char detail[160];
    snprintf(detail, sizeof detail, "unacknowledged %zu, retransmitted %d, dropped %d, rtt %.3f ms", waiting,
             stats.pktRetransTotal, stats.pktSndDropTotal, stats.msRTT);
    print_event("done", s, detail, 0);
    srt_close(s);
    srt_cleanup();
    return stop ? 1 : 0;
}
