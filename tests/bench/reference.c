// The reference server: the same exchange in C, with only the necessary parts.
//
//     reference [--journal | --log FILE] PORT
//
// Listens on 127.0.0.1, sends the greeting, and acknowledges every line. With --journal it first
// records each line by one sd_journal_sendv(), with the fields of ackd's entries. With --log it
// first writes each line to a file: all lines that one epoll_wait() has reported share a write and
// an fdatasync(). It has one thread, epoll, no limits and no timeouts. While journald reads
// nothing, sd_journal_sendv() blocks.

#define _GNU_SOURCE
#define SD_JOURNAL_SUPPRESS_LOCATION // ackd's entries have no CODE_FILE= either
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
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

enum { CHUNK = 65536, BACKLOG = 4096, EVENTS = 256, FIELD = 64, LOG_SIZE = 64 << 20 };

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

// Before each line in the log. A wrong number or checksum would tell a reader where the log ends.
struct header {
    uint32_t size, checksum;
    uint64_t number;
};

static bool journal;
static int log_file = -1;
static int poller;
static char input[CHUNK];
// The acks for one read of empty lines, and one for the last line without a line end.
static char acks[(CHUNK + 1) * LENGTH(ACK)];
static struct buffer message;
static struct buffer uncommitted;
static struct client *due[EVENTS]; // the clients whose lines are recorded, and not acknowledged
static int due_count;

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

// Overwriting a written block is cheaper than growing a file, which changes its metadata too.
static void open_log(const char *path)
{
    static const char zeros[CHUNK];
    log_file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (log_file < 0)
        err(1, "%s", path);
    for (size_t size = 0; size < LOG_SIZE; size += CHUNK)
        if (write(log_file, zeros, CHUNK) != CHUNK)
            err(1, "write");
    if (fsync(log_file) < 0)
        err(1, "fsync");
}

// FNV-1a.
static uint32_t checksum(const char *bytes, size_t size)
{
    uint32_t hash = 2166136261;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 16777619;
    return hash;
}

static void append_to_log(const char *payload, size_t size)
{
    static uint64_t number;
    struct header header = {size, checksum(payload, size), number++};
    append(&uncommitted, (const char *)&header, sizeof header);
    append(&uncommitted, payload, size);
}

// The file is a ring. Nothing reads it, so nothing stops the log from overwriting its start.
static void commit(void)
{
    static off_t end;
    ssize_t size = uncommitted.size;
    if (!size)
        return;
    if (end + size > LOG_SIZE)
        end = 0;
    if (pwrite(log_file, uncommitted.bytes, size, end) != size || fdatasync(log_file) < 0)
        err(1, "commit");
    end += size;
    uncommitted.size = 0;
}

static void receive_payload(struct client *client, const char *payload, size_t size)
{
    client->sequence++;
    if (journal)
        record(client, payload, size);
    else if (log_file >= 0)
        append_to_log(payload, size);
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

static void acknowledge_due(void)
{
    commit();
    for (int i = 0; i < due_count; i++) {
        struct client *client = due[i];
        if (!send_acks(client))
            close_client(client);
        else if (client->unsent)
            await(client, EPOLL_CTL_MOD, EPOLLOUT);
    }
    due_count = 0;
}

static void acknowledge(struct client *client, size_t count)
{
    client->unsent = count * LENGTH(ACK);
    if (count)
        due[due_count++] = client;
    if (log_file < 0)
        acknowledge_due();
}

// The rest of the data is a payload too, without a line end.
static void on_end(struct client *client)
{
    if (client->partial.size) {
        receive_payload(client, client->partial.bytes, client->partial.size);
        commit();
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
        acknowledge_due();
    }
}

int main(int argc, char **argv)
{
    journal = argc == 3 && !strcmp(argv[1], "--journal");
    bool log = argc == 4 && !strcmp(argv[1], "--log");
    if (argc != 2 && !journal && !log)
        errx(2, "usage: reference [--journal | --log FILE] PORT");
    if (log)
        open_log(argv[2]);
    for (size_t i = 0; i < sizeof acks; i += LENGTH(ACK))
        memcpy(acks + i, ACK, LENGTH(ACK));
    append(&message, MESSAGE, LENGTH(MESSAGE));
    serve(atoi(argv[argc - 1]));
}
