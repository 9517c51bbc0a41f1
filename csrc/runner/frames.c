/* See frames.h. */
#define _GNU_SOURCE
#include "frames.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { MAX_FRAME = 8 * 1024 * 1024 };

uint8_t *put_number(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
    return to + bytes;
}

uint32_t get_u32(const uint8_t *from)
{
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

enum end malformed(const char *what)
{
    complain("malformed request: %s", what);
    return MALFORMED;
}

uint8_t *reply_payload(struct client *client)
{
    assert(client->reply.length == 0);
    return client->reply.data + HEADER;
}

void queue_reply(struct client *client, enum answer type, size_t payload)
{
    assert(payload <= 1 + PIECE);
    put_number(client->reply.data, payload + 1, 4);
    client->reply.data[4] = (uint8_t)type;
    client->reply.length = HEADER + payload;
    client->reply.sent = 0;
}

enum end send_reply(struct client *client)
{
    struct reply *reply = &client->reply;
    while (reply->sent < reply->length) {
        ssize_t n = send(client->connection, reply->data + reply->sent, reply->length - reply->sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0)
            reply->sent += (size_t)n;
        else if (errno == EAGAIN)
            return CONTINUE;
        else if (errno == EPIPE || errno == ECONNRESET)
            return CLIENT_GONE;
        else if (errno != EINTR)
            return failed("send");
    }
    reply->length = 0;
    return CONTINUE;
}

enum end send_all(struct client *client)
{
    enum end end;
    while ((end = send_reply(client)) == CONTINUE && client->reply.length) {
        struct pollfd polled = {.fd = client->connection, .events = POLLOUT};
        if (poll(&polled, 1, -1) < 0 && errno != EINTR)
            return failed("poll");
    }
    return end;
}

/* Grows or shrinks the buffer to what the frame in it needs. */
static enum end fit_incoming(struct incoming *in)
{
    size_t need = PIECE;
    if (in->length >= 4) {
        size_t frame = get_u32(in->data);
        if (frame < 1 || frame > MAX_FRAME)
            return malformed("a frame's length is out of range");
        if (4 + frame > need)
            need = 4 + frame;
    }
    if (need != in->capacity && need >= in->length) {
        uint8_t *data = realloc(in->data, need);
        if (!data)
            return failed("memory");
        in->data = data;
        in->capacity = need;
    }
    return CONTINUE;
}

enum end receive_some(struct client *client)
{
    struct incoming *in = &client->in;
    enum end end = fit_incoming(in);
    if (end != CONTINUE)
        return end;
    assert(in->length < in->capacity);
    ssize_t n = recv(client->connection, in->data + in->length, in->capacity - in->length, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return CLIENT_GONE;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? CONTINUE : failed("receive");
    in->length += (size_t)n;
    return CONTINUE;
}

enum end next_frame(const struct incoming *in, size_t *done, struct frame *frame)
{
    *frame = (struct frame){0};
    if (in->length - *done < 4)
        return CONTINUE;
    size_t length = get_u32(in->data + *done);
    if (length < 1 || length > MAX_FRAME)
        return malformed("a frame's length is out of range");
    if (in->length - *done - 4 < length)
        return CONTINUE;
    uint8_t *body = in->data + *done + 4;
    *frame = (struct frame){.type = body[0], .payload = body + 1, .size = length - 1};
    *done += 4 + length;
    return CONTINUE;
}

void drop_done(struct incoming *in, size_t done)
{
    memmove(in->data, in->data + done, in->length - done);
    in->length -= done;
}
