/*
 * pfs-runner: starts user code inside any root file system, on behalf of a worker.
 *
 *   pfs-runner --fd N          serves the connected stream socket it inherited as file descriptor N
 *   pfs-runner --socket PATH   listens on PATH (absolute) and serves one connection after the other
 *
 * It is linked statically and needs nothing of the root file system it runs in, not even /dev or /proc. It runs one
 * command at a time. When its socket closes, or on SIGTERM, it kills whatever it started and ends.
 *
 * Exit status: 0 the client or SIGTERM ended it, 1 the system refused something, 2 the client sent a malformed frame,
 * 64 wrong usage. The reason is one line on standard error.
 *
 * The protocol. Both directions carry frames; integers are unsigned and little-endian:
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
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "enclosure.h"

enum {
    MAX_FRAME = 8 * 1024 * 1024,
    HEADER = 5,          /* length and type */
    PIECE = 64 * 1024,   /* what is read or written in one go */
    MAX_PID = 4 * 1024 * 1024, /* the kernel's own limit */
    MALFORMED_STATUS = 2,
    USAGE_STATUS = 64,
    NOT_STARTED_STATUS = 127,
    PARENT_DIED = SIGUSR1,
};

enum request { STDIN = 1, RUN = 2, KILL = 3, ENCLOSE = 6 };
enum answer { OUTPUT = 4, EXIT = 5, ENCLOSED = 7 };
enum kind { EXITED = 0, SIGNALLED = 1, NOT_STARTED = 2 };

/* Why serving a connection ended; CONTINUE: it has not. */
enum end { CONTINUE, CLIENT_GONE, STOPPED, MALFORMED, FAILED };

enum phase {
    IDLE,
    RUNNING, /* the command's process has not been seen to end */
    ENDING,  /* all its processes are gone; output that was left in the pipes is being sent */
};

struct command {
    enum phase phase;
    pid_t pid;         /* also its process group and session */
    int wait_status;   /* from ENDING on */
    int report;        /* read end of the pipe that tells why it could not start */
    int input;         /* write end of its standard input, -1 when closed */
    off_t fed;         /* how much of runner.stdin_file went there */
    int outputs[2];    /* read ends of its standard output and error, -1 when closed */
    size_t left[2];    /* from ENDING on: what of them is still to be sent */
    uint64_t cpu_microseconds;
    uint64_t max_rss;
};

struct incoming {
    uint8_t *data;
    size_t length, capacity;
};

/* The frame being sent. There is only this one: while it waits for the client, nothing is read from the command. */
struct reply {
    uint8_t data[HEADER + 1 + PIECE];
    size_t length, sent; /* length 0: none */
};

struct runner {
    int connection, signals;
    pid_t parent;
    struct incoming in;
    struct reply reply;
    int next_output;  /* which of the two outputs is read first in the next round */
    int stdin_file;   /* memory file of the STDIN frames, -1 before the first */
    int stdin_errno;  /* why it could not be kept */
    char **environment; /* what a command's entries are laid over; NULL: nothing */
    int may_enclose;
    int is_first; /* of a PID namespace: process 1, which all others there are below */
    int encloses; /* ENCLOSE has come: commands have no rights with which they could undo it */
    struct command command;
};

/* What a child that could not start tells its parent. At most PIPE_BUF bytes, so written at once. */
struct start_report {
    int error;
    char text[1020];
};

struct start {
    const char *directory;
    char **arguments, **environment;
    int fds[3];
    int report;
    pid_t runner;
    int encloses;
};

/* ---- helpers ------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("pfs-runner: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static enum end failed(const char *what)
{
    complain("%s: %s", what, strerror(errno));
    return FAILED;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static uint8_t *put_number(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
    return to + bytes;
}

static uint32_t get_u32(const uint8_t *from)
{
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* ---- replies ------------------------------------------------------------------------------------------- */

/* Where the payload of the next reply goes: room for 1 + PIECE bytes. */
static uint8_t *reply_payload(struct runner *r)
{
    assert(r->reply.length == 0);
    return r->reply.data + HEADER;
}

static void queue_reply(struct runner *r, enum answer type, size_t payload)
{
    assert(payload <= 1 + PIECE);
    put_number(r->reply.data, payload + 1, 4);
    r->reply.data[4] = (uint8_t)type;
    r->reply.length = HEADER + payload;
    r->reply.sent = 0;
}

/* Sends what the socket takes now. */
static enum end send_reply(struct runner *r)
{
    struct reply *reply = &r->reply;
    while (reply->sent < reply->length) {
        ssize_t n = send(r->connection, reply->data + reply->sent, reply->length - reply->sent,
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

static void queue_exit(struct runner *r, enum kind kind, uint32_t value, const char *text)
{
    uint8_t *start = reply_payload(r), *at = start;
    at = put_number(at, kind, 1);
    at = put_number(at, value, 4);
    at = put_number(at, r->command.cpu_microseconds, 8);
    at = put_number(at, r->command.max_rss, 8);
    size_t length = strnlen(text, sizeof(struct start_report));
    memcpy(at, text, length);
    queue_reply(r, EXIT, (size_t)(at - start) + length);
}

/* ---- the child's side ---------------------------------------------------------------------------------- */

static const char *environment_value(char **environment, const char *name)
{
    size_t length = strlen(name);
    for (; *environment; environment++)
        if (!strncmp(*environment, name, length) && (*environment)[length] == '=')
            return *environment + length + 1;
    return NULL;
}

/* Like execvpe, with the PATH of the given environment, and without its fallback to a shell. Sets errno. */
static void search_and_exec(const struct start *s, const char *path)
{
    const char *name = s->arguments[0];
    size_t name_length = strlen(name);
    int error = ENOENT;
    for (const char *directory = path;; directory++) {
        const char *end = strchrnul(directory, ':');
        size_t length = (size_t)(end - directory);
        char program[PATH_MAX];
        if (length + 1 + name_length < sizeof program) {
            memcpy(program, directory, length);
            if (length)
                program[length++] = '/'; /* an empty entry is the working directory */
            memcpy(program + length, name, name_length + 1);
            execve(program, s->arguments, s->environment);
            if (errno == EACCES)
                error = EACCES; /* reported when no later entry has it */
            else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG && errno != ESTALE)
                return;
        }
        if (!*end)
            break;
        directory = end;
    }
    errno = error;
}

/* Returns only when the program could not be executed, and says why. */
static void execute(const struct start *s, struct start_report *report)
{
    const char *name = s->arguments[0];
    size_t size = sizeof report->text;
    if (*s->directory && chdir(s->directory)) {
        report->error = errno;
        snprintf(report->text, size, "chdir \"%.500s\": %s", s->directory, strerror(errno));
        return;
    }
    const char *path = environment_value(s->environment, "PATH");
    if (!path)
        path = "/bin:/usr/bin"; /* what execvpe takes */
    int searched = *name && !strchr(name, '/');
    if (searched)
        search_and_exec(s, path);
    else
        execve(name, s->arguments, s->environment);
    report->error = errno;
    if (searched && errno == ENOENT)
        snprintf(report->text, size, "exec \"%.300s\": not found in PATH \"%.600s\"", name, path);
    else if (errno == ENOENT && !access(name, F_OK))
        snprintf(report->text, size, "exec \"%.500s\": its interpreter or loader does not exist", name);
    else
        snprintf(report->text, size, "exec \"%.500s\": %s", name, strerror(report->error));
}

static _Noreturn void be_child(const struct start *s)
{
    struct start_report report = {0};
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != s->runner) /* it died before the line above */
        _exit(NOT_STARTED_STATUS);
    /* The bare call, because glibc keeps the two signals that it uses itself from being reset. All zeros is the
     * kernel's own structure with SIG_DFL. */
    static const uint64_t default_action[8];
    for (int number = 1; number < NSIG; number++)
        syscall(SYS_rt_sigaction, number, default_action, NULL, sizeof(uint64_t));
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int fd = 0; fd < 3; fd++) {
        assert(s->fds[fd] > 2);
        if (dup2(s->fds[fd], fd) < 0)
            _exit(NOT_STARTED_STATUS);
    }
    if (s->encloses && give_up_rights()) {
        report.error = errno;
        snprintf(report.text, sizeof report.text, "giving up the rights of root: %s", strerror(errno));
    } else {
        execute(s, &report);
    }
    size_t length = sizeof report.error + strlen(report.text);
    if (write(s->report, &report, length) != (ssize_t)length)
        _exit(NOT_STARTED_STATUS);
    _exit(NOT_STARTED_STATUS);
}

/* ---- starting ------------------------------------------------------------------------------------------ */

static void drop_stdin(struct runner *r)
{
    close_fd(&r->stdin_file);
    r->stdin_errno = 0;
}

/* Keeps the bytes in a memory file: in the runner's own memory they would count as memory of its children. */
static void gather_stdin(struct runner *r, const uint8_t *data, size_t size)
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

/* Makes the pipes and the process. fork, not vfork: a working directory or program on a file system that does not
 * answer must hold up the child alone, so that KILL still works. Copying this small process takes little longer. */
static void spawn(struct runner *r, struct start *s)
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

static enum end malformed(const char *what)
{
    complain("malformed request: %s", what);
    return MALFORMED;
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

/* ---- ending -------------------------------------------------------------------------------------------- */

static void count_usage(struct command *c, const struct rusage *usage)
{
    uint64_t seconds = (uint64_t)usage->ru_utime.tv_sec + (uint64_t)usage->ru_stime.tv_sec;
    uint64_t rss = (uint64_t)usage->ru_maxrss * 1024;
    c->cpu_microseconds +=
        seconds * 1000000 + (uint64_t)usage->ru_utime.tv_usec + (uint64_t)usage->ru_stime.tv_usec;
    if (rss > c->max_rss)
        c->max_rss = rss;
}

/* Reaps one child like wait4. */
static pid_t reap(struct runner *r, pid_t which, int options)
{
    int status;
    struct rusage usage;
    pid_t pid;
    do
        pid = wait4(which, &status, options, &usage);
    while (pid < 0 && errno == EINTR);
    if (pid > 0 && r->command.phase == RUNNING) {
        count_usage(&r->command, &usage);
        if (pid == r->command.pid)
            r->command.wait_status = status;
    }
    return pid;
}

/* What is left of a command after its process and process group were killed are children of the runner, which is a
 * subreaper, and their descendants, which become its children when those die. */
struct hunt {
    int killed;
    int denied; /* of another user, by a set-user-id program */
};

static void kill_child(struct hunt *hunt, pid_t pid)
{
    if (kill(pid, SIGKILL) == 0)
        hunt->killed++;
    else
        hunt->denied++;
}

/* Kills the children that /proc lists. Leaves the counts at 0 when it is not there or another PID namespace's. */
static void hunt_listed(struct hunt *hunt)
{
    char text[64];
    ssize_t length = readlink("/proc/self", text, sizeof text - 1);
    if (length < 0)
        return;
    text[length] = 0;
    if (strtol(text, NULL, 10) != getpid())
        return;
    snprintf(text, sizeof text, "/proc/self/task/%d/children", (int)getpid());
    FILE *list = fopen(text, "re");
    if (!list)
        return;
    int pid;
    while (fscanf(list, "%d", &pid) == 1)
        kill_child(hunt, (pid_t)pid);
    fclose(list);
}

/* Kills one child without /proc: waitid tells a child's PID from others. Goes round from *from, where it leaves off. */
static void hunt_probed(struct hunt *hunt, pid_t *from)
{
    for (pid_t n = 0; n < MAX_PID && !hunt->killed; n++) {
        *from = *from % MAX_PID + 1;
        siginfo_t info;
        if (waitid(P_PID, (id_t)*from, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
            kill_child(hunt, *from);
    }
}

/* Kills and reaps all processes of the command. Returns when none is left that may be killed. */
static void end_processes(struct runner *r)
{
    struct command *c = &r->command;
    if (c->phase != RUNNING)
        return;
    /* Not reaped yet, so both numbers still are the command's own. The group's members die at once, before any of
     * them can fork again. */
    kill(-c->pid, SIGKILL);
    kill(c->pid, SIGKILL);
    reap(r, c->pid, 0);
    pid_t from = c->pid;
    for (;;) {
        pid_t pid;
        while ((pid = reap(r, -1, WNOHANG)) > 0)
            ;
        if (pid < 0)
            return; /* ECHILD */
        if (r->is_first && kill(-1, SIGKILL) == 0) { /* all of the namespace, at once */
            reap(r, -1, 0);
            continue;
        }
        struct hunt hunt = {0};
        hunt_listed(&hunt);
        if (!hunt.killed && !hunt.denied)
            hunt_probed(&hunt, &from);
        if (hunt.killed)
            reap(r, -1, 0);
        else if (hunt.denied) {
            complain("%d processes of another user can't be killed and are left running", hunt.denied);
            return;
        }
    }
}

static void close_command(struct runner *r)
{
    struct command *c = &r->command;
    close_fd(&c->report);
    close_fd(&c->input);
    close_fd(&c->outputs[0]);
    close_fd(&c->outputs[1]);
    drop_stdin(r);
    c->phase = IDLE;
}

/* From RUNNING to ENDING. */
static void finish(struct runner *r)
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

/* ---- the running command's pipes ----------------------------------------------------------------------- */

/* Queues up to `limit` bytes of one output, if there are any now. */
static size_t take_output(struct runner *r, int which, size_t limit)
{
    struct command *c = &r->command;
    uint8_t *payload = reply_payload(r);
    ssize_t n = read(c->outputs[which], payload + 1, limit < PIECE ? limit : PIECE);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        close_fd(&c->outputs[which]);
        return 0;
    }
    payload[0] = (uint8_t)(which + 1);
    queue_reply(r, OUTPUT, 1 + (size_t)n);
    return (size_t)n;
}

/* In ENDING, with no reply queued: queues the next. */
static void queue_last_replies(struct runner *r)
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

static void feed(struct runner *r)
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

/* ---- requests and signals ------------------------------------------------------------------------------ */

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

/* ---- enclosing ----------------------------------------------------------------------------------------- */

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

/* Sends the reply that is queued, however long that takes. */
static enum end send_all(struct runner *r)
{
    enum end end;
    while ((end = send_reply(r)) == CONTINUE && r->reply.length) {
        struct pollfd polled = {.fd = r->connection, .events = POLLOUT};
        if (poll(&polled, 1, -1) < 0 && errno != EINTR)
            return failed("poll");
    }
    return end;
}

static void queue_enclosed(struct runner *r, pid_t serving, const struct refusal *refusal)
{
    uint8_t *at = put_number(reply_payload(r), (uint64_t)serving, 4);
    memcpy(at, refusal->text, refusal->length);
    queue_reply(r, ENCLOSED, 4 + refusal->length);
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
    enum end end = send_all(r);
    close_fd(&r->connection);
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
    if (r->command.phase != IDLE || r->reply.length)
        return malformed("STDIN or RUN before the EXIT of the last command");
    if (type == RUN)
        return handle_run(r, payload, size);
    gather_stdin(r, payload, size);
    return CONTINUE;
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

/* Handles the frames that are complete and moves what follows to the front. */
static enum end handle_frames(struct runner *r)
{
    struct incoming *in = &r->in;
    size_t done = 0;
    enum end end = CONTINUE;
    while (end == CONTINUE && in->length - done >= 4) {
        size_t frame = get_u32(in->data + done);
        if (frame < 1 || frame > MAX_FRAME)
            return malformed("a frame's length is out of range");
        if (in->length - done - 4 < frame)
            break;
        uint8_t *body = in->data + done + 4;
        end = handle_frame(r, body[0], body + 1, frame - 1);
        done += 4 + frame;
    }
    memmove(in->data, in->data + done, in->length - done);
    in->length -= done;
    return end;
}

static enum end receive(struct runner *r)
{
    struct incoming *in = &r->in;
    enum end end = fit_incoming(in);
    if (end != CONTINUE)
        return end;
    assert(in->length < in->capacity);
    ssize_t n = recv(r->connection, in->data + in->length, in->capacity - in->length, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return CLIENT_GONE;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? CONTINUE : failed("receive");
    in->length += (size_t)n;
    return handle_frames(r);
}

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

static enum end handle_signals(struct runner *r)
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

/* ---- serving ------------------------------------------------------------------------------------------- */

enum { SIGNALS, CONNECTION, INPUT, OUTPUTS, POLLED = OUTPUTS + 2 };

static enum end wait_for_events(struct runner *r, struct pollfd polled[POLLED])
{
    const struct command *c = &r->command;
    int running = c->phase == RUNNING, sending = r->reply.length != 0;
    polled[SIGNALS] = (struct pollfd){.fd = r->signals, .events = POLLIN};
    polled[CONNECTION] = (struct pollfd){.fd = r->connection, .events = POLLIN | (sending ? POLLOUT : 0)};
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
        if (!polled[OUTPUTS + which].revents || r->command.phase != RUNNING || r->reply.length)
            continue;
        if (take_output(r, which, PIECE)) {
            r->next_output = which ^ 1;
            end = send_reply(r);
        }
    }
    return end;
}

static enum end serve_events(struct runner *r)
{
    for (;;) {
        enum end end = send_reply(r);
        struct pollfd polled[POLLED];
        if (end == CONTINUE && r->command.phase == ENDING && !r->reply.length) {
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

/* Serves a connection to its end and closes it. Nothing that it started or sent outlives it. */
static enum end serve(struct runner *r, int connection)
{
    r->connection = connection;
    r->reply.length = 0;
    r->in = (struct incoming){0};
    enum end end = serve_events(r);
    end_processes(r);
    close_command(r);
    free(r->in.data);
    r->in = (struct incoming){0};
    close_fd(&r->connection);
    return end;
}

/* ---- start-up ------------------------------------------------------------------------------------------ */

static enum end serve_listener(struct runner *r, int listener)
{
    for (;;) {
        struct pollfd polled[2] = {{.fd = r->signals, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
        if (poll(polled, 2, -1) < 0 && errno != EINTR)
            return failed("poll");
        enum end end = polled[0].revents ? handle_signals(r) : CONTINUE;
        if (end == CONTINUE && polled[1].revents) {
            int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (connection >= 0)
                end = serve(r, connection);
            else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                end = failed("accept");
        }
        if (end != CONTINUE && end != CLIENT_GONE)
            return end;
    }
}

/* A listening socket at `path`, or -1. A socket that nobody listens on any more is replaced. */
static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    const struct sockaddr *generic = (const struct sockaddr *)&address;
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int stale = probe >= 0 && connect(probe, generic, sizeof address) && errno == ECONNREFUSED;
    struct stat status;
    if (stale && lstat(path, &status) == 0 && S_ISSOCK(status.st_mode))
        unlink(path);
    close_fd(&probe);
    mode_t mask = umask(0077); /* whoever connects runs programs as us */
    int bound = fd >= 0 && bind(fd, generic, sizeof address) == 0 && listen(fd, 16) == 0;
    umask(mask);
    if (!bound) {
        complain("listen on %s: %s", path, strerror(errno));
        close_fd(&fd);
    }
    return fd;
}

/* Closes what we inherited beside 0, 1, 2 and `kept`. */
static void close_inherited(int kept)
{
    if ((kept <= 3 || close_range(3, (unsigned)kept - 1, 0) == 0) &&
        close_range(kept < 3 ? 3 : (unsigned)kept + 1, ~0U, 0) == 0)
        return;
    struct rlimit limit; /* Linux before 5.9 */
    int end = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536 ? (int)limit.rlim_cur : 65536;
    for (int fd = 3; fd < end; fd++)
        if (fd != kept)
            close(fd);
}

/* Occupies 0, 1 and 2, so that no pipe gets these numbers. Any descriptor will do, and /dev may be missing. */
static int fill_standard_fds(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && socket(AF_UNIX, SOCK_STREAM, 0) != fd)
            return -1;
    return 0;
}

static int open_signals(void)
{
    static const int handled[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, PARENT_DIED};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++) {
        signal(handled[i], SIG_DFL); /* an inherited SIG_IGN would drop them */
        sigaddset(&set, handled[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL))
        return -1;
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int usage(void)
{
    complain("usage: pfs-runner --fd N | --socket PATH (absolute, under 108 bytes)");
    return USAGE_STATUS;
}

/* The inherited socket under a number above 2, or -1. */
static int inherited_socket(const char *number)
{
    char *rest;
    errno = 0;
    long fd = strtol(number, &rest, 10);
    if (errno || !*number || *rest || fd < 0 || fd > INT_MAX)
        return -1;
    int type;
    socklen_t size = sizeof type;
    if (getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_STREAM)
        return -1;
    int moved = fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
    close((int)fd);
    return moved;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return usage();
    int inherits = !strcmp(argv[1], "--fd"), listens = !strcmp(argv[1], "--socket");
    const char *path = argv[2];
    if (!inherits && !(listens && path[0] == '/' && strlen(path) < sizeof((struct sockaddr_un *)0)->sun_path))
        return usage();
    int connection = inherits ? inherited_socket(path) : -1;
    if (inherits && connection < 0) {
        complain("--fd %s is not a stream socket", path);
        return USAGE_STATUS;
    }
    close_inherited(connection);
    static struct runner runner; /* over 64 KiB */
    runner.connection = runner.stdin_file = -1;
    runner.parent = getppid();
    runner.environment = inherits ? NULL : environ;
    runner.may_enclose = inherits;
    runner.command = (struct command){.report = -1, .input = -1, .outputs = {-1, -1}};
    if (fill_standard_fds() || prctl(PR_SET_CHILD_SUBREAPER, 1) || (runner.signals = open_signals()) < 0 ||
        (inherits && (prctl(PR_SET_PDEATHSIG, PARENT_DIED) || chdir("/"))))
        return failed("start"), EXIT_FAILURE;
    enum end end = FAILED;
    if (inherits) {
        end = serve(&runner, connection);
    } else {
        int listener = listen_at(path);
        if (listener >= 0) {
            end = serve_listener(&runner, listener);
            unlink(path);
            close(listener);
        }
    }
    close(runner.signals);
    return end == MALFORMED ? MALFORMED_STATUS : end == FAILED ? EXIT_FAILURE : EXIT_SUCCESS;
}
