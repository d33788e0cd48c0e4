// The load generator: clients send unique payloads as fast as the server acknowledges them.
//
//     load [--protocol NAME] [--clients N] [--depth N] [--size BYTES] [--seconds S] [--count N]
//          [--run NAME] [--sources N] [--churn] [--tls] PORT
//
// Connects to 127.0.0.1; while no server listens there, tries again for ten seconds. Prints "ready"
// when all clients have received the greeting. Begins at the next line, or at the end, of the
// standard input. Each client has up to `depth` payloads in flight, and compares every reply with
// the ack. With --churn a client connects, sends one payload, reads its ack, closes the connection,
// and repeats that. The sending ends after --seconds (0: the clients are idle) or --count payloads.
// When all replies have come, the program prints its counts as JSON. p50, p99 and p999 are seconds
// from the sending of a payload to its ack; with --churn, from the connecting. The protocol is that
// of ackd, redis or beanstalkd. With --tls all is TLS, and every certificate is good.
//
// A payload is "NAME-NUMBER" and padding. A size too small for that keeps only the end of the
// number, and then payloads repeat. A source is an address, from 127.0.0.1 upwards: one address has
// ports for at most 28,000 connections per minute, tcp(7).

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

enum { EVENTS = 256, INPUT = 262144, OPENING = 256, DIGITS = 12 };
// Each bucket of the histogram is at most 1/64 as wide as the times in it.
enum { STEPS = 64, BUCKETS = STEPS * 60 };

// A request is a payload between `head` and `tail`; `%zu` in the head becomes the payload's size.
// `#` in an ack stands for digits. A server without a greeting says nothing before the first ack.
static const struct protocol {
    const char *name, *greeting, *head, *tail, *ack;
} protocols[] = {
    {"ackd", "Connect\n", "", "\n", "thank you client, you data is Received success\n"},
    // https://redis.io/docs/latest/develop/reference/protocol-spec/; the ack is the entry's ID.
    {"redis", "", "*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$7\r\npayload\r\n$%zu\r\n", "\r\n",
     "$#\r\n#-#\r\n"},
    // https://raw.githubusercontent.com/beanstalkd/beanstalkd/master/doc/protocol.txt
    {"beanstalkd", "", "put 0 0 60 %zu\r\n", "\r\n", "INSERTED #\r\n"},
    {0},
};

struct client {
    int socket;
    SSL *tls; // or null
    bool greeted;
    bool differs;          // the reply being read is not the expected one
    size_t matched;        // characters of the expected reply that have come
    unsigned waiting;      // payloads in flight
    uint64_t opened_at;
    uint64_t *sent_at; // when they were sent: a ring buffer of `depth` times
    unsigned oldest;
    char *unsent;
    size_t unsent_size;
};

static struct {
    const struct protocol *protocol;
    unsigned clients, depth, sources;
    size_t size;
    double seconds;
    uint64_t count;
    const char *run;
    bool churn, tls;
    int port;
} options = {.protocol = protocols,
             .clients = 1,
             .depth = 1,
             .sources = 1,
             .size = 80,
             .seconds = 1,
             .run = "bench"};

static struct {
    uint64_t sent, answered, acks, wrong, lost;
    uint64_t began, ended;
    uint64_t latencies[BUCKETS];
} counts;

static int poller;
static SSL_CTX *context;
static struct client *clients;
static unsigned opening, waiting;
static bool stopping;
static char input[INPUT];
static char *batch;   // `depth` requests
static char *request; // the last request sent
static size_t request_size, number_at, number_end;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static unsigned bucket(uint64_t time)
{
    if (time < STEPS)
        return time;
    unsigned shift = 57 - __builtin_clzll(time); // leaves a number from 64 to 127
    return shift * STEPS + (time >> shift);
}

static double bucket_end(unsigned bucket)
{
    unsigned shift = bucket < STEPS ? 0 : bucket / STEPS - 1;
    return (double)(((uint64_t)bucket - shift * STEPS + 1) << shift) / SECOND;
}

static double quantile(double part)
{
    uint64_t before = 0, total = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        total += counts.latencies[i];
    for (unsigned i = 0; i < BUCKETS; i++) {
        before += counts.latencies[i];
        if (total && before >= part * total)
            return bucket_end(i);
    }
    return 0;
}

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        err(1, "calloc");
    return memory;
}

static void prepare_request(void)
{
    char *name, *head;
    const char *tail = options.protocol->tail;
    size_t name_size = asprintf(&name, "%s-%0*d", options.run, DIGITS, 0);
    size_t head_size = asprintf(&head, options.protocol->head, options.size);
    size_t cut = options.size < name_size ? name_size - options.size : 0;
    request_size = head_size + options.size + strlen(tail);
    request = allocate(request_size + 1);
    memcpy(request, head, head_size);
    memset(request + head_size, 'x', options.size);
    memcpy(request + head_size, name + cut, name_size - cut);
    strcpy(request + head_size + options.size, tail);
    number_end = head_size + name_size - cut;
    number_at = name_size - cut > DIGITS ? number_end - DIGITS : head_size;
    batch = allocate(options.depth * request_size);
    free(name);
    free(head);
}

// Increments the decimal number in place: snprintf() for each would be the largest cost here.
static void next_request(void)
{
    size_t digit = number_end;
    while (digit-- > number_at) {
        if (request[digit]++ != '9')
            return;
        request[digit] = '0';
    }
}

static void await(struct client *client, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(poller, operation, client->socket, &event) < 0)
        err(1, "epoll_ctl");
}

static void bind_source(int socket)
{
    static unsigned next;
    struct sockaddr_in source = {.sin_family = AF_INET};
    int one = 1;
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + next++ % options.sources);
    // The kernel then chooses the port at connect(): only port and destination together must be
    // unique, ip(7).
    setsockopt(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(socket, (struct sockaddr *)&source, sizeof source) < 0)
        err(1, "bind");
}

static int connected(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options.port)};
    int one = 1, client = socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0)
        err(1, "socket");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    bind_source(client);
    if (connect(client, (struct sockaddr *)&address, sizeof address) < 0) {
        close(client);
        return -1;
    }
    fcntl(client, F_SETFL, O_NONBLOCK);
    return client;
}

static void await_server(void)
{
    struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    uint64_t end = now() + 10 * SECOND;
    int client;
    while ((client = connected()) < 0) {
        if (errno != ECONNREFUSED || now() > end)
            err(1, "127.0.0.1 port %d", options.port);
        nanosleep(&pause, NULL);
    }
    // A close() with the greeting unread would send a reset, and some servers log that.
    fcntl(client, F_SETFL, 0);
    shutdown(client, SHUT_WR);
    while (recv(client, input, INPUT, 0) > 0)
        ;
    close(client);
}

// The greeting comes first, so the reads do the handshake.
static void begin_tls(struct client *client)
{
    if (!context) {
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
    }
    client->tls = SSL_new(context);
    if (!client->tls || !SSL_set_fd(client->tls, client->socket))
        errx(1, "TLS");
    SSL_connect(client->tls);
}

// Like recv() and send() on the socket, also in their errno.
static ssize_t tls_result(struct client *client, int result)
{
    int error = SSL_get_error(client->tls, result);
    if (result > 0)
        return result;
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return error == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

static ssize_t receive_some(struct client *client)
{
    if (client->tls)
        return tls_result(client, SSL_read(client->tls, input, INPUT));
    return recv(client->socket, input, INPUT, 0);
}

static ssize_t send_some(struct client *client, const char *bytes, size_t size)
{
    if (client->tls)
        return tls_result(client, SSL_write(client->tls, bytes, size));
    return send(client->socket, bytes, size, MSG_NOSIGNAL);
}

static void close_client(struct client *client)
{
    if (client->tls) {
        SSL_shutdown(client->tls);
        SSL_free(client->tls);
        client->tls = NULL;
    }
    close(client->socket);
    free(client->unsent);
    client->unsent = NULL;
    client->socket = -1;
}

// The payloads in flight get no reply; report() counts them as unanswered.
static void lose(struct client *client)
{
    counts.lost++;
    waiting -= client->waiting;
    close_client(client);
}

static void send_all(struct client *client, const char *bytes, size_t size)
{
    ssize_t sent = send_some(client, bytes, size);
    if (sent < 0 && errno != EAGAIN) {
        lose(client);
        return;
    }
    size_t rest = size - (sent < 0 ? 0 : sent);
    char *unsent = rest ? memcpy(allocate(rest), bytes + size - rest, rest) : NULL;
    if (!client->unsent != !unsent)
        await(client, EPOLL_CTL_MOD, unsent ? EPOLLIN | EPOLLOUT : EPOLLIN);
    free(client->unsent);
    client->unsent = unsent;
    client->unsent_size = rest;
}

static unsigned allowed(struct client *client)
{
    unsigned room = options.depth - client->waiting;
    if (stopping || client->unsent)
        return 0;
    if (options.count && options.count - counts.sent < room)
        room = options.count - counts.sent;
    return room;
}

static void send_payloads(struct client *client, uint64_t time)
{
    unsigned count = allowed(client);
    for (unsigned i = 0; i < count; i++) {
        next_request();
        memcpy(batch + i * request_size, request, request_size);
        client->sent_at[(client->oldest + client->waiting++) % options.depth] = time;
    }
    counts.sent += count;
    waiting += count;
    if (count)
        send_all(client, batch, count * request_size);
}

static void on_greeting(struct client *client)
{
    counts.wrong += client->differs;
    client->greeted = true;
    if (options.churn)
        send_payloads(client, client->opened_at);
    else
        opening--;
}

static void open_client(struct client *client)
{
    client->greeted = client->differs = false;
    client->matched = client->waiting = client->oldest = 0;
    client->opened_at = now();
    client->socket = connected();
    if (client->socket < 0)
        err(1, "connect");
    if (options.tls)
        begin_tls(client);
    await(client, EPOLL_CTL_ADD, EPOLLIN);
    if (!*options.protocol->greeting)
        on_greeting(client);
}

static void on_ack(struct client *client, uint64_t time)
{
    if (client->differs || !client->waiting) {
        counts.wrong++;
    } else {
        counts.acks++;
        counts.latencies[bucket(time - client->sent_at[client->oldest])]++;
    }
    if (client->waiting) {
        counts.answered++;
        client->oldest = (client->oldest + 1) % options.depth;
        client->waiting--;
        waiting--;
    }
}

static const char *expected(const struct client *client)
{
    return client->greeted ? options.protocol->ack : options.protocol->greeting;
}

static size_t count_digits(const char *bytes, size_t size)
{
    size_t count = 0;
    while (count < size && bytes[count] >= '0' && bytes[count] <= '9')
        count++;
    return count;
}

// Compares received bytes with the expected reply; returns how many of them belong to that reply. A
// reply that differs ends with its line.
static size_t compare(struct client *client, const char *bytes, size_t size)
{
    const char *due = expected(client) + client->matched;
    if (*due == '#' && !client->differs) {
        size_t digits = count_digits(bytes, size);
        client->matched += digits < size;
        return digits;
    }
    size_t rest = client->differs ? 0 : strchrnul(due, '#') - due;
    size_t part = size < rest ? size : rest;
    if (part && !memcmp(bytes, due, part)) {
        client->matched += part;
        return part;
    }
    client->differs = true;
    const char *newline = memchr(bytes, '\n', size);
    if (!newline)
        return size;
    client->matched += strlen(due);
    return newline + 1 - bytes;
}

static bool reply_is_whole(const struct client *client)
{
    return !expected(client)[client->matched];
}

static void receive(struct client *client, const char *bytes, size_t size, uint64_t time)
{
    while (size) {
        size_t part = compare(client, bytes, size);
        bytes += part;
        size -= part;
        if (!reply_is_whole(client))
            continue;
        if (client->greeted)
            on_ack(client, time);
        else
            on_greeting(client);
        client->matched = 0;
        client->differs = false;
    }
}

static void go_on(struct client *client, uint64_t time)
{
    if (!counts.began)
        return;
    if (!options.churn) {
        send_payloads(client, time);
    } else if (client->greeted && !client->waiting) {
        close_client(client);
        if (!stopping)
            open_client(client);
    }
}

static void on_readable(struct client *client)
{
    do {
        ssize_t size = receive_some(client);
        if (size < 0 && errno == EAGAIN)
            return;
        if (size <= 0) {
            lose(client);
            return;
        }
        uint64_t time = now();
        receive(client, input, size, time);
        go_on(client, time);
        // A read returns one record of TLS at most, and epoll does not see what OpenSSL has left.
    } while (client->tls && SSL_pending(client->tls));
}

static void on_writable(struct client *client)
{
    char *unsent = client->unsent;
    client->unsent = NULL;
    send_all(client, unsent, client->unsent_size);
    // With `unsent` empty before and after, send_all() has not ended the watch for EPOLLOUT.
    if (client->socket >= 0 && !client->unsent)
        await(client, EPOLL_CTL_MOD, EPOLLIN);
    free(unsent);
}

static int dispatch(int timeout)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(poller, events, EVENTS, timeout);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (events[i].events & EPOLLOUT)
            on_writable(client);
        if (client->socket >= 0 && events[i].events & ~EPOLLOUT)
            on_readable(client);
    }
    return count;
}

static void await_greetings(unsigned limit)
{
    while (opening > limit && dispatch(10000) > 0)
        ;
    if (opening > limit)
        errx(1, "%u clients received no greeting", opening);
}

// A few at a time: a client beyond the server's backlog would try again only after a second.
static void open_clients(void)
{
    for (unsigned i = 0; i < options.clients; i++) {
        clients[i].sent_at = allocate(options.depth * sizeof(uint64_t));
        if (options.churn)
            continue;
        opening++;
        open_client(&clients[i]);
        await_greetings(OPENING);
    }
    await_greetings(0);
}

static bool finished(uint64_t time)
{
    if (options.count)
        return counts.sent >= options.count;
    return time >= counts.began + options.seconds * SECOND;
}

static void run(void)
{
    counts.began = counts.ended = now();
    stopping = options.seconds == 0;
    for (unsigned i = 0; i < options.clients && !stopping; i++) {
        if (options.churn)
            open_client(&clients[i]);
        else
            send_payloads(&clients[i], now());
    }
    while (!stopping && counts.lost < options.clients) {
        dispatch(10);
        stopping = finished(now());
    }
    while (waiting && dispatch(10000) > 0)
        ;
    counts.ended = now();
}

static const struct protocol *protocol_named(const char *name)
{
    const struct protocol *protocol = protocols;
    while (protocol->name && strcmp(protocol->name, name))
        protocol++;
    if (!protocol->name)
        errx(2, "no protocol is named %s", name);
    return protocol;
}

static void parse(int argc, char **argv)
{
    enum { CLIENTS, DEPTH, SIZE, SECONDS, COUNT, RUN, SOURCES, CHURN, PROTOCOL, TLS };
    static const struct option names[] = {
        {"clients", 1, 0, CLIENTS}, {"depth", 1, 0, DEPTH}, {"size", 1, 0, SIZE},
        {"seconds", 1, 0, SECONDS}, {"count", 1, 0, COUNT}, {"run", 1, 0, RUN},
        {"sources", 1, 0, SOURCES}, {"churn", 0, 0, CHURN}, {"protocol", 1, 0, PROTOCOL},
        {"tls", 0, 0, TLS}, {0},
    };
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) >= 0) {
        switch (name) {
        case CLIENTS: options.clients = atoi(optarg); break;
        case DEPTH: options.depth = atoi(optarg); break;
        case SIZE: options.size = atol(optarg); break;
        case SECONDS: options.seconds = atof(optarg); break;
        case COUNT: options.count = atoll(optarg); break;
        case RUN: options.run = optarg; break;
        case SOURCES: options.sources = atoi(optarg); break;
        case CHURN: options.churn = true; break;
        case TLS: options.tls = true; break;
        case PROTOCOL: options.protocol = protocol_named(optarg); break;
        default: exit(2);
        }
    }
    if (optind != argc - 1)
        errx(2, "usage: load [OPTIONS] PORT");
    options.port = atoi(argv[optind]);
}

static void report(void)
{
    printf("{\"sent\": %lu, \"acks\": %lu, \"wrong\": %lu, \"unanswered\": %lu, \"lost\": %lu,"
           " \"seconds\": %.6f, \"p50\": %.9f, \"p99\": %.9f, \"p999\": %.9f}\n",
           counts.sent, counts.acks, counts.wrong, counts.sent - counts.answered, counts.lost,
           (double)(counts.ended - counts.began) / SECOND, quantile(.5), quantile(.99), quantile(.999));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char go[2];
    parse(argc, argv);
    signal(SIGPIPE, SIG_IGN); // of SSL_write()
    prepare_request();
    poller = epoll_create1(0);
    clients = allocate(options.clients * sizeof *clients);
    await_server();
    open_clients();
    puts("ready");
    fflush(stdout);
    fgets(go, sizeof go, stdin);
    run();
    report();
    fgets(go, sizeof go, stdin);
}
