/* See serving.h. */
#define _GNU_SOURCE
#include "serving.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "reaping.h"
#include "requests.h"

/* Reaps what ended; the command's own end finishes it. */
static void handle_child_signal(struct runner *r)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == 0)
            return;
        if (r->command.phase == RUNNING && info.si_pid == r->command.pid)
            finish(r);
        else
            reap(r, info.si_pid, WNOHANG);
    }
}

enum end handle_signals(struct runner *r)
{
    struct signalfd_siginfo info;
    while (read(r->signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            handle_child_signal(r);
        else if (r->is_first && info.ssi_pid)
            continue; /* sent by somebody inside: what is outside has no number here */
        else if (info.ssi_signo != PARENT_DIED || getppid() != r->parent)
            return STOPPED; /* PARENT_DIED comes when the parent's thread ended that started us, too */
    }
    return CONTINUE;
}

enum { SIGNALS, CONNECTION, INPUT, OUTPUTS, POLLED = OUTPUTS + 2 };

static enum end wait_for_events(struct runner *r, struct pollfd polled[POLLED])
{
    const struct command *c = &r->command;
    int running = c->phase == RUNNING, sending = r->client.reply.length != 0;
    polled[SIGNALS] = (struct pollfd){.fd = r->signals, .events = POLLIN};
    polled[CONNECTION] = (struct pollfd){.fd = r->client.connection, .events = POLLIN | (sending ? POLLOUT : 0)};
    polled[INPUT] = (struct pollfd){.fd = running ? c->input : -1, .events = POLLOUT};
    for (int i = 0; i < 2; i++)
        polled[OUTPUTS + i] = (struct pollfd){.fd = running && !sending ? c->outputs[i] : -1, .events = POLLIN};
    while (poll(polled, POLLED, -1) < 0)
        if (errno != EINTR)
            return failed("poll");
    return CONTINUE;
}

/* Takes from each output that is ready once, beginning with another one each time that the client is slow. */
static enum end forward_outputs(struct runner *r, const struct pollfd polled[POLLED])
{
    enum end end = CONTINUE;
    int first = r->next_output;
    for (int k = 0; k < 2 && end == CONTINUE; k++) {
        int which = first ^ k;
        if (!polled[OUTPUTS + which].revents || r->command.phase != RUNNING || r->client.reply.length)
            continue;
        if (take_output(r, which, PIECE)) {
            r->next_output = which ^ 1;
            end = send_reply(&r->client);
        }
    }
    return end;
}

static enum end serve_events(struct runner *r)
{
    for (;;) {
        enum end end = send_reply(&r->client);
        struct pollfd polled[POLLED];
        if (end == CONTINUE && r->command.phase == ENDING && !r->client.reply.length) {
            queue_last_replies(r);
            continue;
        }
        if (end == CONTINUE)
            end = wait_for_events(r, polled);
        if (end == CONTINUE && polled[SIGNALS].revents)
            end = handle_signals(r);
        if (end == CONTINUE && polled[CONNECTION].revents & ~POLLOUT)
            end = receive(r);
        if (end == CONTINUE && polled[INPUT].revents && r->command.phase == RUNNING)
            feed(r);
        if (end == CONTINUE)
            end = forward_outputs(r, polled);
        if (end != CONTINUE)
            return end;
    }
}

enum end serve(struct runner *r, int connection)
{
    r->client.connection = connection;
    r->client.reply.length = 0;
    r->client.in = (struct incoming){0};
    enum end end = serve_events(r);
    end_processes(r);
    close_command(r);
    free(r->client.in.data);
    r->client.in = (struct incoming){0};
    close_fd(&r->client.connection);
    return end;
}
