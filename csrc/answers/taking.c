/*
 * Takes requests from the kernel, in a thread of its own that needs no Python.
 *
 * What ready.c can't answer waits in a queue. Functions of libfuse that pyfuse3 calls are stood in for: it waits for
 * the queue instead of the kernel, and gets the messages from there. A full queue is not filled further: what comes
 * then waits in the kernel.
 *
 * Who was offered a request, and took it, is likely to be offered another one soon. For a moment then, pyfuse3's
 * thread takes the requests itself while the other one rests: each costs one switch of threads less.
 */
#define _GNU_SOURCE
#include "answers.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define QUEUED 128u
/* How many requests others than pyfuse3 take, and for how long, before the loop may go on with something else. */
#define OFFERED_AT_ONCE 256u
#define OFFERED_AT_ONCE_NS 4000000
/* For how long the loop waits for one more. */
#define MOMENT_NS 200000
/* What is no size of a message and no error. */
#define OFFERED (-100000)
/* A message up to this size is copied out of the buffer into which it was read; a larger one takes the buffer along. */
#define COPIED_BYTES (64u << 10)

struct message {
    void *memory;
    size_t size;
};

static int (*libfuse_mount)(struct fuse_session *, const char *);
static void (*libfuse_unmount)(struct fuse_session *);
static void (*libfuse_destroy)(struct fuse_session *);
static int (*libfuse_fd)(struct fuse_session *);
static int (*libfuse_receive)(struct fuse_session *, struct fuse_buf *);

/* Requests by their opcode, as this thread has taken them. */
static unsigned long long asked[REQUEST_KINDS];

static pthread_t thread;
static int is_running;        /* set and read by the thread of pyfuse3 alone */
static int session_fd = -1;   /* /dev/fuse */
static int waiting_fd = -1;   /* an event for each message that waits, and one for the end */
static int wake_fd = -1;      /* there is room again, or an end is wanted */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct message queue[QUEUED];
static unsigned first, count; /* of the queue */
static int is_stopping;
static int is_resting;        /* the thread takes nothing: pyfuse3's does */
static int end_error;         /* why no more comes */
static pthread_mutex_t answering = PTHREAD_MUTEX_INITIALIZER; /* who reads, and answers without Python */

static void raise_event(int descriptor)
{
    uint64_t one = 1;
    ssize_t written;

    do
        written = write(descriptor, &one, sizeof one);
    while (written < 0 && errno == EINTR);
}

static void end_with(int error)
{
    pthread_mutex_lock(&lock);
    end_error = error;
    pthread_mutex_unlock(&lock);
    raise_event(waiting_fd);
}

/* The message in *buffer, which is replaced where it goes along; without memory where there is none. */
static struct message message_of(char **buffer, size_t size)
{
    struct message message = {malloc(size <= COPIED_BYTES ? size : MESSAGE_BYTES), size};

    if (message.memory && size <= COPIED_BYTES) {
        memcpy(message.memory, *buffer, size);
    } else if (message.memory) {
        char *fresh = message.memory;

        message.memory = *buffer;
        *buffer = fresh;
    }
    return message;
}

/* Queues the message in *buffer; nonzero where there is no memory. */
static int put(char **buffer, size_t size)
{
    struct message message = message_of(buffer, size);

    if (!message.memory)
        return -1;
    pthread_mutex_lock(&lock);
    queue[(first + count++) % QUEUED] = message;
    pthread_mutex_unlock(&lock);
    raise_event(waiting_fd);
    return 0;
}

static void note(const char *message, size_t size)
{
    const struct fuse_in_header *request = (const void *)message;

    if (size >= sizeof *request && request->opcode < REQUEST_KINDS)
        __atomic_fetch_add(&asked[request->opcode], 1, __ATOMIC_RELAXED);
}

unsigned long long taking_asked(unsigned kind)
{
    return kind < REQUEST_KINDS ? __atomic_load_n(&asked[kind], __ATOMIC_RELAXED) : 0;
}

/* Reads a message and answers it where that needs no Python. Its size; 0 where it is answered; -1 and errno. */
static ssize_t read_message(char *buffer)
{
    ssize_t size;

    pthread_mutex_lock(&answering);
    size = read(session_fd, buffer, MESSAGE_BYTES);
    if (size > 0) {
        note(buffer, (size_t)size);
        if (ready_answer(buffer, (size_t)size) || held_answer(buffer, (size_t)size))
            size = 0;
    } else if (size == 0) {
        errno = ENODEV;
        size = -1;
    } else if (errno == ENOENT) { /* it was given up before it was read */
        errno = EINTR;
    }
    pthread_mutex_unlock(&answering);
    return size;
}

/* Waits for a request, unless this thread is to take none, and for who wakes it. */
static void wait_for_more(int rests)
{
    struct pollfd events[] = {{wake_fd, POLLIN, 0}, {session_fd, POLLIN, 0}};
    uint64_t times;

    if (poll(events, rests ? 1 : 2, -1) > 0 && events[0].revents)
        while (read(wake_fd, &times, sizeof times) < 0 && errno == EINTR)
            continue;
}

static void *take(void *buffer_)
{
    char *buffer = buffer_;
    int error = 0;

    while (!error) {
        int rests, stop;
        ssize_t size;

        pthread_mutex_lock(&lock);
        rests = is_resting || count == QUEUED;
        stop = is_stopping;
        pthread_mutex_unlock(&lock);
        if (stop)
            break;
        if (rests) {
            wait_for_more(1);
            continue;
        }
        size = read_message(buffer);
        if (size > 0)
            error = put(&buffer, (size_t)size) ? ENOMEM : 0;
        else if (size < 0 && errno == EAGAIN)
            wait_for_more(0);
        else if (size < 0 && errno != EINTR)
            error = errno;
    }
    free(buffer);
    end_with(error ? error : ENODEV);
    return NULL;
}

static void close_all(void)
{
    if (waiting_fd >= 0)
        close(waiting_fd);
    if (wake_fd >= 0)
        close(wake_fd);
    waiting_fd = wake_fd = session_fd = -1;
}

/* Where the thread can't be had, pyfuse3 asks the kernel itself. */
static void start(struct fuse_session *session)
{
    char *buffer = malloc(MESSAGE_BYTES);
    sigset_t all, before;
    int flags;

    session_fd = libfuse_fd(session);
    waiting_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    flags = fcntl(session_fd, F_GETFL);
    is_stopping = is_resting = end_error = 0;
    if (buffer && waiting_fd >= 0 && wake_fd >= 0 && flags >= 0 && !fcntl(session_fd, F_SETFL, flags | O_NONBLOCK)) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        is_running = !pthread_create(&thread, NULL, take, buffer);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (!is_running)
            fcntl(session_fd, F_SETFL, flags);
    }
    if (!is_running) {
        free(buffer);
        close_all();
    }
}

static void stop(void)
{
    if (!is_running)
        return;
    pthread_mutex_lock(&lock);
    is_stopping = 1;
    pthread_mutex_unlock(&lock);
    raise_event(wake_fd);
    pthread_join(thread, NULL);
    is_running = 0;
    for (; count; count--, first = (first + 1) % QUEUED)
        free(queue[first].memory);
    close_all();
    ready_clear();
}

/* --- what pyfuse3 calls */

int fuse_session_mount(struct fuse_session *session, const char *path)
{
    int failed = libfuse_mount(session, path);

    if (!failed)
        start(session);
    return failed;
}

void fuse_session_unmount(struct fuse_session *session)
{
    stop();
    libfuse_unmount(session);
}

void fuse_session_destroy(struct fuse_session *session)
{
    stop();
    libfuse_destroy(session);
}

int fuse_session_fd(struct fuse_session *session)
{
    return is_running ? waiting_fd : libfuse_fd(session);
}

ssize_t taking_send(const struct iovec *parts, int count)
{
    ssize_t sent;

    do
        sent = writev(session_fd, parts, count);
    while (sent < 0 && errno == EINTR); /* any other error: the request was given up, or the session is over */
    return sent;
}

void taking_reply(uint64_t unique, int error, const void *body, size_t size)
{
    struct fuse_out_header header = {.len = (uint32_t)(sizeof header + size), .error = -error, .unique = unique};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)body, size}};

    taking_send(parts, size ? 2 : 1);
}

int (*taking_offer)(const struct fuse_in_header *request, size_t size);
void *(*taking_leave)(void);
void (*taking_return)(void *state);

/* Gives a message to those who take it, or to pyfuse3. */
static int give(struct message message, struct fuse_buf *into)
{
    if (taking_offer && taking_offer(message.memory, message.size)) {
        free(message.memory);
        return OFFERED;
    }
    free(into->mem);
    *into = (struct fuse_buf){.mem = message.memory, .size = message.size};
    return (int)message.size;
}

static int receive(struct fuse_session *session, struct fuse_buf *into)
{
    struct message message = {NULL, 0};
    uint64_t one;
    int error, was_full;

    if (read(waiting_fd, &one, sizeof one) < 0)
        return -EINTR; /* another task was faster: pyfuse3 waits again */
    pthread_mutex_lock(&lock);
    error = end_error;
    was_full = count == QUEUED;
    if (count) {
        message = queue[first];
        first = (first + 1) % QUEUED;
        count--;
    }
    pthread_mutex_unlock(&lock);
    if (was_full)
        raise_event(wake_fd);
    if (!message.memory) {
        raise_event(waiting_fd); /* for the other tasks */
        if (error != ENODEV)
            return -error;
        fuse_session_exit(session);
        return 0;
    }
    return give(message, into);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)1000000000 + now.tv_nsec;
}

/* The next message that needs Python, where one comes soon: its size, or -1; 0 where one waits in the queue. To be
 * called without Python's lock. */
static ssize_t next_here(char *buffer, int64_t until)
{
    struct pollfd events[] = {{session_fd, POLLIN, 0}, {waiting_fd, POLLIN, 0}};
    const struct timespec moment = {.tv_nsec = MOMENT_NS};

    while (now_ns() < until) {
        ssize_t size;

        if (ppoll(events, 2, &moment, NULL) <= 0)
            return -1;
        if (events[1].revents)
            return 0;
        size = read_message(buffer);
        if (size > 0)
            return size;
        if (size < 0 && errno != EAGAIN && errno != EINTR)
            return -1; /* the thread is going to find it too */
    }
    return -1;
}

static void rest(int rests)
{
    pthread_mutex_lock(&lock);
    is_resting = rests;
    pthread_mutex_unlock(&lock);
    if (!rests)
        raise_event(wake_fd);
}

/* A program that waits for one answer after the other makes the next request sooner than a loop of tasks goes round. */
static int receive_here(struct fuse_session *session, struct fuse_buf *into)
{
    static char *buffer; /* of pyfuse3's thread */
    int64_t until = now_ns() + OFFERED_AT_ONCE_NS;
    int got = OFFERED;

    if (!buffer && !(buffer = malloc(MESSAGE_BYTES)))
        return OFFERED;
    rest(1);
    for (unsigned times = 0; times < OFFERED_AT_ONCE && got == OFFERED; times++) {
        void *state = taking_leave();
        ssize_t size = next_here(buffer, until);
        struct message message;

        taking_return(state);
        if (size < 0)
            break;
        if (!size) {
            got = receive(session, into);
            continue;
        }
        message = message_of(&buffer, (size_t)size);
        if (!message.memory) {
            taking_reply(((const struct fuse_in_header *)(void *)buffer)->unique, ENOMEM, NULL, 0);
            break;
        }
        got = give(message, into);
    }
    rest(0);
    return got;
}

/* What is taken by others than pyfuse3 is followed by the next, for some time: other tasks want to run too. */
int fuse_session_receive_buf(struct fuse_session *session, struct fuse_buf *into)
{
    int got;

    if (!is_running)
        return libfuse_receive(session, into);
    got = receive(session, into);
    if (got == OFFERED)
        got = receive_here(session, into);
    return got == OFFERED ? -EINTR : got;
}

int taking_init(void *library)
{
    *(void **)&libfuse_mount = dlsym(library, "fuse_session_mount");
    *(void **)&libfuse_unmount = dlsym(library, "fuse_session_unmount");
    *(void **)&libfuse_destroy = dlsym(library, "fuse_session_destroy");
    *(void **)&libfuse_fd = dlsym(library, "fuse_session_fd");
    *(void **)&libfuse_receive = dlsym(library, "fuse_session_receive_buf");
    return !(libfuse_mount && libfuse_unmount && libfuse_destroy && libfuse_fd && libfuse_receive);
}
