/* See command.h. */
#define _GNU_SOURCE
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "reaping.h"

static void queue_exit(struct runner *r, enum kind kind, uint32_t value, const char *text)
{
    uint8_t *start = reply_payload(&r->client), *at = start;
    at = put_number(at, kind, 1);
    at = put_number(at, value, 4);
    at = put_number(at, r->command.cpu_microseconds, 8);
    at = put_number(at, r->command.max_rss, 8);
    size_t length = strnlen(text, sizeof(struct start_report));
    memcpy(at, text, length);
    queue_reply(&r->client, EXIT, (size_t)(at - start) + length);
}

void drop_stdin(struct runner *r)
{
    close_fd(&r->stdin_file);
    r->stdin_errno = 0;
}

/* In a memory file: in the runner's own memory they would count as memory of its children. */
void gather_stdin(struct runner *r, const uint8_t *data, size_t size)
{
    if (r->stdin_file < 0 && (r->stdin_file = memfd_create("stdin", MFD_CLOEXEC)) < 0)
        r->stdin_errno = errno;
    while (size && !r->stdin_errno) {
        ssize_t n = write(r->stdin_file, data, size);
        if (n < 0 && errno != EINTR)
            r->stdin_errno = errno;
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
}

/* Refuses to start a command: `what` failed with errno. */
static void refuse(struct runner *r, const char *what)
{
    char text[200];
    int error = errno;
    snprintf(text, sizeof text, "%s: %s", what, strerror(error));
    queue_exit(r, NOT_STARTED, (uint32_t)error, text);
    drop_stdin(r);
}

/* fork, not vfork: a working directory or program on a file system that does not answer must hold up the child alone, so
 * that KILL still works. Copying this small process takes little longer. */
void spawn(struct runner *r, struct start *s)
{
    struct command *c = &r->command;
    int pipes[4][2] = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    if (r->stdin_errno) {
        errno = r->stdin_errno;
        refuse(r, "keeping the standard input");
        return;
    }
    const char *step = "pipe";
    for (int i = 0; i < 4; i++)
        if (pipe2(pipes[i], O_CLOEXEC))
            goto fail;
    /* Only this side: the child's ends are open file descriptions of their own and stay blocking. */
    const int ours[4] = {pipes[0][1], pipes[1][0], pipes[2][0], pipes[3][0]};
    for (int i = 0; i < 4; i++)
        if (fcntl(ours[i], F_SETFL, O_NONBLOCK))
            goto fail;
    s->fds[0] = pipes[0][0];
    s->fds[1] = pipes[1][1];
    s->fds[2] = pipes[2][1];
    s->report = pipes[3][1];
    s->runner = getpid();
    s->encloses = r->encloses;
    step = "fork";
    pid_t pid = fork();
    if (pid < 0)
        goto fail;
    if (pid == 0)
        be_child(s);
    close(pipes[0][0]);
    close(pipes[1][1]);
    close(pipes[2][1]);
    close(pipes[3][1]);
    *c = (struct command){.phase = RUNNING, .pid = pid, .report = ours[3], .input = ours[0],
                          .outputs = {ours[1], ours[2]}};
    if (r->stdin_file < 0)
        close_fd(&c->input);
    return;
fail:
    refuse(r, step);
    for (int i = 0; i < 4; i++) {
        close_fd(&pipes[i][0]);
        close_fd(&pipes[i][1]);
    }
}

void close_command(struct runner *r)
{
    struct command *c = &r->command;
    close_fd(&c->report);
    close_fd(&c->input);
    close_fd(&c->outputs[0]);
    close_fd(&c->outputs[1]);
    drop_stdin(r);
    c->phase = IDLE;
}

void finish(struct runner *r)
{
    struct command *c = &r->command;
    end_processes(r);
    for (int i = 0; i < 2; i++) {
        /* Not until the end of file: a process outside may have got hold of the pipe and keep it open. */
        int waiting = 0;
        if (c->outputs[i] >= 0 && ioctl(c->outputs[i], FIONREAD, &waiting) == 0 && waiting > 0)
            c->left[i] = (size_t)waiting;
    }
    close_fd(&c->input);
    c->phase = ENDING;
}

static void queue_result(struct runner *r)
{
    struct command *c = &r->command;
    struct start_report report = {0};
    ssize_t length = read(c->report, &report, sizeof report - 1);
    if (length > (ssize_t)sizeof report.error)
        queue_exit(r, NOT_STARTED, (uint32_t)report.error, report.text);
    else if (WIFSIGNALED(c->wait_status))
        queue_exit(r, SIGNALLED, (uint32_t)WTERMSIG(c->wait_status), "");
    else
        queue_exit(r, EXITED, (uint32_t)WEXITSTATUS(c->wait_status), "");
    close_command(r);
}

size_t take_output(struct runner *r, int which, size_t limit)
{
    struct command *c = &r->command;
    uint8_t *payload = reply_payload(&r->client);
    ssize_t n = read(c->outputs[which], payload + 1, limit < PIECE ? limit : PIECE);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        close_fd(&c->outputs[which]);
        return 0;
    }
    payload[0] = (uint8_t)(which + 1);
    queue_reply(&r->client, OUTPUT, 1 + (size_t)n);
    return (size_t)n;
}

void queue_last_replies(struct runner *r)
{
    struct command *c = &r->command;
    for (int i = 0; i < 2; i++) {
        size_t taken = c->left[i] ? take_output(r, i, c->left[i]) : 0;
        c->left[i] = taken ? c->left[i] - taken : 0;
        if (taken)
            return;
    }
    queue_result(r);
}

void feed(struct runner *r)
{
    struct command *c = &r->command;
    uint8_t piece[PIECE];
    ssize_t size = pread(r->stdin_file, piece, sizeof piece, c->fed);
    ssize_t n = size > 0 ? write(c->input, piece, (size_t)size) : 0;
    if (n > 0)
        c->fed += n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR)) /* all fed, or the command closed its end: EPIPE */
        close_fd(&c->input);
}
