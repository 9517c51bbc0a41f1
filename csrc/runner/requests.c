/* See requests.h. */
#define _GNU_SOURCE
#include "requests.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "enclosure.h"

/* Appends to `given`, whose `count` entries come first, what of `own` has another name than each of them. There is room. */
static void add_environment(char **given, size_t count, char **own)
{
    size_t total = count;
    for (; *own; own++) {
        size_t name = (size_t)(strchrnul(*own, '=') - *own);
        size_t i = 0;
        while (i < count && (strncmp(given[i], *own, name) || given[i][name] != '='))
            i++;
        if (i == count)
            given[total++] = *own;
    }
}

static size_t count_strings(char **strings)
{
    size_t count = 0;
    while (strings && strings[count])
        count++;
    return count;
}

static enum end handle_run(struct runner *r, uint8_t *payload, size_t size)
{
    if (size < 8)
        return malformed("RUN is too short");
    size_t argument_count = get_u32(payload), entry_count = get_u32(payload + 4);
    char *at = (char *)payload + 8, *end = (char *)payload + size;
    if (argument_count < 1 || argument_count > size - 8 || entry_count > size - 8 - argument_count)
        return malformed("RUN has a wrong number of strings");
    char **strings = calloc(argument_count + entry_count + count_strings(r->environment) + 2, sizeof *strings);
    if (!strings)
        return failed("memory");
    struct start start = {.arguments = strings, .environment = strings + argument_count + 1};
    size_t count = 0;
    for (; at < end && count < 1 + argument_count + entry_count; count++) {
        char *zero = memchr(at, 0, (size_t)(end - at));
        if (!zero)
            break;
        if (count == 0)
            start.directory = at;
        else if (count <= argument_count)
            start.arguments[count - 1] = at;
        else
            start.environment[count - 1 - argument_count] = at;
        at = zero + 1;
    }
    int complete = at == end && count == 1 + argument_count + entry_count;
    if (complete) {
        if (r->environment)
            add_environment(start.environment, entry_count, r->environment);
        r->command = (struct command){.report = -1, .input = -1, .outputs = {-1, -1}};
        spawn(r, &start);
    }
    free(strings);
    return complete ? CONTINUE : malformed("RUN has a wrong number of strings");
}

static enum end handle_kill(struct runner *r, const uint8_t *payload, size_t size)
{
    struct command *c = &r->command;
    if (size != 1 || payload[0] < 1 || payload[0] >= NSIG)
        return malformed("KILL needs a signal from 1 to 64");
    if (c->phase == IDLE)
        drop_stdin(r);
    else if (c->phase == RUNNING && payload[0] == SIGKILL)
        finish(r);
    else if (c->phase == RUNNING && kill(-c->pid, payload[0]))
        kill(c->pid, payload[0]); /* it has not made its group yet */
    return CONTINUE;
}

/* The first process from now on: it ends with the one that serves, which ends with it. */
static enum end watch(struct runner *r, pid_t serving)
{
    int stopped = 0;
    for (;;) {
        struct pollfd polled = {.fd = r->signals, .events = POLLIN};
        struct signalfd_siginfo info;
        int status = 0;
        if (poll(&polled, 1, -1) < 0 && errno != EINTR)
            return failed("poll");
        while (read(r->signals, &info, sizeof info) == sizeof info)
            if (info.ssi_signo != SIGCHLD && (info.ssi_signo != PARENT_DIED || getppid() != r->parent)) {
                kill(serving, SIGKILL);
                stopped = 1;
            }
        if (waitpid(serving, &status, WNOHANG) != serving)
            continue;
        if (stopped || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
            return STOPPED;
        return WIFEXITED(status) && WEXITSTATUS(status) == MALFORMED_STATUS ? MALFORMED : FAILED;
    }
}

static void queue_enclosed(struct runner *r, pid_t serving, const struct refusal *refusal)
{
    uint8_t *at = put_number(reply_payload(&r->client), (uint64_t)serving, 4);
    memcpy(at, refusal->text, refusal->length);
    queue_reply(&r->client, ENCLOSED, 4 + refusal->length);
}

/* In the process that will serve: tells the other one what was refused. */
static enum end begin_enclosed(struct runner *r, const uint8_t *paths, size_t size, struct refusal *refusal, int report)
{
    r->parent = -1; /* it ends us, with SIGKILL, which no one inside can send to process 1 */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || (!r->is_first && prctl(PR_SET_CHILD_SUBREAPER, 1)))
        return failed("prctl");
    furnish((const char *)paths, size, r->is_first, refusal);
    ssize_t n = write(report, refusal->text, refusal->length);
    close(report);
    return n == (ssize_t)refusal->length ? CONTINUE : failed("write");
}

static enum end handle_enclose(struct runner *r, const uint8_t *paths, size_t size)
{
    if (!r->may_enclose || (size && paths[size - 1]))
        return malformed("ENCLOSE is not possible here, or does not end in a 0 byte");
    r->may_enclose = 0;
    r->encloses = 1;
    int report[2];
    struct refusal refusal = {0};
    if (pipe2(report, O_CLOEXEC))
        return failed("pipe");
    pid_t serving = clone_enclosed(&r->is_first, &refusal);
    if (serving == 0) {
        close(report[0]);
        return begin_enclosed(r, paths, size, &refusal, report[1]);
    }
    close(report[1]);
    if (serving > 0) { /* it tells all, what was refused here too, in one piece: that is less than PIPE_BUF */
        ssize_t n = read(report[0], refusal.text, sizeof refusal.text);
        refusal.length = n > 0 ? (size_t)n : 0;
    }
    close(report[0]);
    queue_enclosed(r, serving > 0 ? serving : getpid(), &refusal);
    if (serving < 0)
        return CONTINUE;
    enum end end = send_all(&r->client);
    close_fd(&r->client.connection);
    return end == CONTINUE ? watch(r, serving) : end;
}

static enum end handle_frame(struct runner *r, uint8_t type, uint8_t *payload, size_t size)
{
    if (type == KILL)
        return handle_kill(r, payload, size);
    if (type == ENCLOSE)
        return handle_enclose(r, payload, size);
    if (type != STDIN && type != RUN)
        return malformed("unknown type");
    r->may_enclose = 0;
    if (r->command.phase != IDLE || r->client.reply.length)
        return malformed("STDIN or RUN before the EXIT of the last command");
    if (type == RUN)
        return handle_run(r, payload, size);
    gather_stdin(r, payload, size);
    return CONTINUE;
}

enum end receive(struct runner *r)
{
    struct incoming *in = &r->client.in;
    struct frame frame = {0};
    size_t done = 0;
    enum end end = receive_some(&r->client);
    if (end != CONTINUE)
        return end;
    while (end == CONTINUE && (end = next_frame(in, &done, &frame)) == CONTINUE && frame.payload)
        end = handle_frame(r, frame.type, frame.payload, frame.size);
    drop_done(in, done);
    return end;
}
