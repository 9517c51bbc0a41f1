/*
 * The protocol between pfs-runner and its client: frames on a stream socket.
 *
 * Both directions carry frames; integers are unsigned and little-endian:
 *
 *   4 bytes  length of what follows in the frame: 1 to 8,388,608
 *   1 byte   type
 *   ...      payload
 *
 *   Requests
 *   1 STDIN   bytes. Appended to the standard input of the next RUN. Only while no command runs.
 *   2 RUN     4 bytes: number of arguments, at least 1 | 4 bytes: number of environment entries | strings, each
 *             ended by a 0 byte: working directory, arguments, environment entries ("NAME=value").
 *             Only after the EXIT of the command before. With --fd, the entries are the whole environment, and the
 *             working directory is absolute. With --socket, they are laid over the environment that the runner was
 *             started with, and an empty working directory is the one that it was started in: those of a container.
 *   3 KILL    1 byte: signal, 1 to 64. SIGKILL ends every process of the command, other signals go to its process
 *             group. While no command runs, it drops the standard input gathered so far and is not answered.
 *   6 ENCLOSE paths of directories, each ended by a 0 byte. Only with --fd, once, before the first command. From then on
 *             commands run in a mount and a PID namespace of their own, in which /proc shows their processes alone and
 *             those directories, where there are such, are empty. As another user than root, also in a user namespace.
 *             Commands of root keep a container's rights alone, so that they can't undo that.
 *
 *   Replies
 *   4 OUTPUT  1 byte: 1 standard output, 2 standard error | 1 to 65,536 bytes, as they were written.
 *   5 EXIT    1 byte: kind | 4 bytes: value | 8 bytes: user and system CPU time of all its processes, microseconds |
 *             8 bytes: the largest resident set of any of them, bytes | text.
 *             kind 0: exited, value is the status; 1: signalled, value is the signal; 2: could not start, value is
 *             errno and text (in the other kinds empty) says what failed.
 *   7 ENCLOSED 4 bytes: the process whose root directory and mounts commands see, by its number outside | text: what the
 *             system refused, and so is not as ENCLOSE says; empty when all is.
 *
 * Enclosed, the process that was started only watches another one, which is the first of the PID namespace and serves: with
 * it the kernel ends all that are in there.
 *
 * Every RUN is answered by any number of OUTPUTs and one EXIT. By then all processes that descend from the command
 * have ended, daemons among them, and all output written before its end has been sent.
 */
#ifndef FRAMES_H
#define FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "ending.h"

enum {
    HEADER = 5,        /* length and type */
    PIECE = 64 * 1024, /* what is read or written in one go */
};

enum request { STDIN = 1, RUN = 2, KILL = 3, ENCLOSE = 6 };
enum answer { OUTPUT = 4, EXIT = 5, ENCLOSED = 7 };
enum kind { EXITED = 0, SIGNALLED = 1, NOT_STARTED = 2 };

struct incoming {
    uint8_t *data;
    size_t length, capacity;
};

/* The frame being sent. There is only this one: while it waits for the client, nothing is read from the command. */
struct reply {
    uint8_t data[HEADER + 1 + PIECE];
    size_t length, sent; /* length 0: none */
};

struct client {
    int connection;
    struct incoming in;
    struct reply reply;
};

struct frame {
    uint8_t type;
    uint8_t *payload;
    size_t size;
};

/* Writes the lowest bytes of a number; returns where they end. */
uint8_t *put_number(uint8_t *to, uint64_t value, int bytes);

uint32_t get_u32(const uint8_t *from);

/* Says what is wrong with a request. */
enum end malformed(const char *what);

/* Where the payload of the next reply goes: room for 1 + PIECE bytes. */
uint8_t *reply_payload(struct client *client);

void queue_reply(struct client *client, enum answer type, size_t payload);

/* Sends what the socket takes now. */
enum end send_reply(struct client *client);

/* Sends the reply that is queued, however long that takes. */
enum end send_all(struct client *client);

/* Receives what has come, as far as there is room for it. */
enum end receive_some(struct client *client);

/* Finds the frame that begins at *done in what has come, and moves *done past it. The payload is NULL when the frame is
 * not complete. */
enum end next_frame(const struct incoming *in, size_t *done, struct frame *frame);

/* Moves what follows the first `done` bytes to the front. */
void drop_done(struct incoming *in, size_t done);

#endif
