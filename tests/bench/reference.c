// The reference server: the same exchange in C, with only the necessary parts.
//
//     reference [--journal] PORT
//
// Listens on 127.0.0.1, sends the greeting, and acknowledges every line. With --journal it first
// records each line by one sd_journal_sendv(), with the fields of ackd's entries. It has one thread,
// epoll, no limits and no timeouts. While journald reads nothing, sd_journal_sendv() blocks.

#define _GNU_SOURCE
#define SD_JOURNAL_SUPPRESS_LOCATION // ackd's entries have no CODE_FILE= either
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#define GREETING "Connect\n"
#define ACK "thank you client, you data is Received success\n"
#define MESSAGE "MESSAGE=Buffer: "
#define LENGTH(text) (sizeof(text) - 1)

enum { CHUNK = 65536, BACKLOG = 4096, EVENTS = 256, FIELD = 64 };

struct buffer {
    char *bytes;
    size_t size, room;
};

struct client {
    int socket;
    unsigned long sequence;
    struct buffer partial; // the beginning of a line without its end
    size_t unsent;         // bytes of acks; all acks are equal, so their number suffices
    char peer[FIELD], port[FIELD], listener[FIELD], connection[FIELD];
};

static bool journal;
static int poller;
static char input[CHUNK];
// The acks for one read of empty lines, and one for the last line without a line end.
static char acks[(CHUNK + 1) * LENGTH(ACK)];
static struct buffer message;

static void append(struct buffer *buffer, const char *bytes, size_t size)
{
    if (buffer->size + size > buffer->room) {
        buffer->room = 2 * (buffer->size + size);
        buffer->bytes = realloc(buffer->bytes, buffer->room);
        if (!buffer->bytes)
            err(1, "realloc");
    }
    memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
}

static struct iovec text(const char *field)
{
    return (struct iovec){(char *)field, strlen(field)};
}

static void record(struct client *client, const char *payload, size_t size)
{
    char sequence[FIELD], bytes[FIELD];
    snprintf(sequence, FIELD, "ACKD_SEQUENCE=%lu", client->sequence);
    snprintf(bytes, FIELD, "ACKD_BYTES=%zu", size);
    message.size = LENGTH(MESSAGE);
    append(&message, payload, size);
    struct iovec fields[] = {
        text("SYSLOG_IDENTIFIER=ackd"),
        text("PRIORITY=6"),
        text("MESSAGE_ID=0f02733cf663443baab84341870dd1e0"),
        text(client->peer),
        text(client->port),
        text(client->listener),
        text(client->connection),
        text(sequence),
        text(bytes),
        {message.bytes, message.size},
    };
    int result = sd_journal_sendv(fields, sizeof fields / sizeof *fields);
    if (result < 0)
        errx(1, "sd_journal_sendv: %s", strerror(-result));
}

static void receive_payload(struct client *client, const char *payload, size_t size)
{
    client->sequence++;
    if (journal)
        record(client, payload, size);
}

static void receive_line(struct client *client, const char *line, size_t size)
{
    if (client->partial.size) {
        append(&client->partial, line, size);
        line = client->partial.bytes;
        size = client->partial.size;
        client->partial.size = 0;
    }
    if (size && line[size - 1] == '\r')
        size--;
    receive_payload(client, line, size);
}

// Returns how many lines were complete; keeps the rest for the next read.
static size_t receive_lines(struct client *client, size_t size)
{
    const char *line = input, *end = input + size, *newline;
    size_t count = 0;
    for (; (newline = memchr(line, '\n', end - line)); line = newline + 1) {
        receive_line(client, line, newline - line);
        count++;
    }
    if (line < end)
        append(&client->partial, line, end - line);
    return count;
}

static void await(struct client *client, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(poller, operation, client->socket, &event) < 0)
        err(1, "epoll_ctl");
}

static void close_client(struct client *client)
{
    close(client->socket);
    free(client->partial.bytes);
    free(client);
}

// Sends the last `unsent` bytes of the buffer of acks, which ends with a whole ack.
static bool send_acks(struct client *client)
{
    const char *from = acks + sizeof acks - client->unsent;
    ssize_t sent = send(client->socket, from, client->unsent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return false;
    client->unsent -= sent < 0 ? 0 : sent;
    return true;
}

static void on_writable(struct client *client)
{
    if (!send_acks(client))
        close_client(client);
    else if (!client->unsent)
        await(client, EPOLL_CTL_MOD, EPOLLIN);
}

static void acknowledge(struct client *client, size_t count)
{
    client->unsent = count * LENGTH(ACK);
    if (count && !send_acks(client))
        close_client(client);
    else if (client->unsent)
        await(client, EPOLL_CTL_MOD, EPOLLOUT);
}

// The rest of the data is a payload too, without a line end.
static void on_end(struct client *client)
{
    if (client->partial.size) {
        receive_payload(client, client->partial.bytes, client->partial.size);
        client->unsent = LENGTH(ACK);
        send_acks(client);
    }
    close_client(client);
}

static void on_readable(struct client *client)
{
    ssize_t size = recv(client->socket, input, CHUNK, 0);
    if (size > 0)
        acknowledge(client, receive_lines(client, size));
    else if (size == 0)
        on_end(client);
    else if (errno != EAGAIN)
        close_client(client);
}

static void write_fields(struct client *client, const struct sockaddr_in *peer, int port)
{
    static unsigned long number;
    snprintf(client->peer, FIELD, "ACKD_PEER=%s", inet_ntoa(peer->sin_addr));
    snprintf(client->port, FIELD, "ACKD_PEER_PORT=%d", ntohs(peer->sin_port));
    snprintf(client->listener, FIELD, "ACKD_LISTENER=127.0.0.1:%d", port);
    snprintf(client->connection, FIELD, "ACKD_CONNECTION=%016x-%lu", getpid(), ++number);
}

static void accept_clients(int listener, int port)
{
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    int socket;
    while ((socket = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK)) >= 0) {
        struct client *client = calloc(1, sizeof *client);
        if (!client)
            err(1, "calloc");
        client->socket = socket;
        if (journal)
            write_fields(client, &peer, port);
        await(client, EPOLL_CTL_ADD, EPOLLIN);
        if (send(socket, GREETING, LENGTH(GREETING), MSG_NOSIGNAL) < 0)
            close_client(client);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        err(1, "accept4");
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    // Accepted sockets inherit this option.
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "bind");
    if (listen(listener, BACKLOG) < 0)
        err(1, "listen");
    return listener;
}

static void serve(int port)
{
    struct epoll_event events[EVENTS], listening = {.events = EPOLLIN};
    int listener = listen_on(port);
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &listening);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client)
                accept_clients(listener, port);
            else if (client->unsent)
                on_writable(client);
            else
                on_readable(client);
        }
    }
}

int main(int argc, char **argv)
{
    journal = argc == 3 && !strcmp(argv[1], "--journal");
    if (argc != 2 + journal)
        errx(2, "usage: reference [--journal] PORT");
    for (size_t i = 0; i < sizeof acks; i += LENGTH(ACK))
        memcpy(acks + i, ACK, LENGTH(ACK));
    append(&message, MESSAGE, LENGTH(MESSAGE));
    serve(atoi(argv[1 + journal]));
}
