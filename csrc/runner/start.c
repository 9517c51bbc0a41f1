/* See start.h. */
#define _GNU_SOURCE
#include "start.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "enclosure.h"

enum { NOT_STARTED_STATUS = 127 };

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

_Noreturn void be_child(const struct start *s)
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
