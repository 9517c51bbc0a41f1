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
 * The protocol is in frames.h.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "serving.h"

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
    runner.client.connection = runner.stdin_file = -1;
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
