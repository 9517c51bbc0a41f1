/* See reaping.h. */
#define _GNU_SOURCE
#include "reaping.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_PID = 4 * 1024 * 1024 }; /* the kernel's own limit */

static void count_usage(struct command *c, const struct rusage *usage)
{
    uint64_t seconds = (uint64_t)usage->ru_utime.tv_sec + (uint64_t)usage->ru_stime.tv_sec;
    uint64_t rss = (uint64_t)usage->ru_maxrss * 1024;
    c->cpu_microseconds +=
        seconds * 1000000 + (uint64_t)usage->ru_utime.tv_usec + (uint64_t)usage->ru_stime.tv_usec;
    if (rss > c->max_rss)
        c->max_rss = rss;
}

pid_t reap(struct runner *r, pid_t which, int options)
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

void end_processes(struct runner *r)
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
