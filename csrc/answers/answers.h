/*
 * pfsfuse._answers: what its files share.
 *
 * module.c  what is added to pyfuse3's answers; the Python module
 * taking.c  the thread that takes requests from the kernel, and the queue from which pyfuse3 gets the others
 * ready.c   what that thread can answer by itself
 * listing.c  what directories are listed with
 * held.c    what that thread can answer about small new files while they are written
 * packing.c  what is told of files of open commits
 * offering.c  a Python function that takes requests before pyfuse3 does
 */
#pragma once

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 11)
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Handles of directories of immutable trees have this bit; the rest is the directory's number. As in
 * fuse/pfsfuse/kernel/ready.py. */
#define TREE_LISTING (1ull << 63)
/* The largest message that the kernel sends or takes: 1 MiB and its headers. */
#define MESSAGE_BYTES ((1u << 20) + 4096)

/* Finds libfuse's own versions of what taking.c stands in for; nonzero where one is missing. */
int taking_init(void *library);

/* Kinds of requests are below this number. */
#define REQUEST_KINDS 64u

/* How many requests of an opcode were taken. */
unsigned long long taking_asked(unsigned kind);

/* Writes a message to the kernel; the number of bytes, or -1. */
ssize_t taking_send(const struct iovec *parts, int count);

/* Sends an answer: an error, a positive errno value, or a body. */
void taking_reply(uint64_t unique, int error, const void *body, size_t size);

/* Who is offered each request, with the interpreter's lock held, before pyfuse3 gets it; nonzero where it was taken. */
extern int (*taking_offer)(const struct fuse_in_header *request, size_t size);

/* Give that lock up, and take it again. */
extern void *(*taking_leave)(void);
extern void (*taking_return)(void *state);

/* Answer the request of `size` bytes. They return 0 where that is left to others. */
int ready_answer(const char *message, size_t size);
int held_answer(const char *message, size_t size);

/* Whether there is something of which Python has to be told before it gets a request. */
int held_news(void);

/* Forgets everything: at the end of a session. */
void ready_clear(void);

/* The following return nonzero, or -1, where there is no memory or no room. ready_claim has the first opening of a
 * file done in Python, and returns 1 where the file could be opened here already. */
int ready_claim(uint64_t inode);
int ready_open(uint64_t inode);
int ready_list(uint64_t inode);
int ready_offer(uint64_t inode, const void *data, size_t size);
int ready_range(uint64_t inode, uint64_t file_size, uint64_t start, uint64_t size, int pack, uint64_t offset);
int ready_pack(int descriptor);
void ready_drop_pack(int pack);
void ready_drop(uint64_t inode, uint64_t parent);
