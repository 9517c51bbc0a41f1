/* See enclosure.h. */
#define _GNU_SOURCE
#include "enclosure.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((format(printf, 2, 3))) static void note(struct refusal *refusal, const char *format, ...)
{
    va_list arguments;
    int error = errno;
    if (refusal->length + 64 > sizeof refusal->text)
        return; /* enough is said */
    va_start(arguments, format);
    char *at = refusal->text + refusal->length;
    size_t room = sizeof refusal->text - refusal->length;
    int length = refusal->length ? snprintf(at, room, "; ") : 0;
    length += vsnprintf(at + length, room - (size_t)length, format, arguments);
    if ((size_t)length < room)
        length += snprintf(at + length, room - (size_t)length, ": %s", strerror(error));
    refusal->length += (size_t)length < room ? (size_t)length : room - 1;
    va_end(arguments);
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return n < 0 ? -1 : 0;
}

/* In a new user namespace: be who we were. */
static int keep_identity(uid_t user, gid_t group)
{
    char text[64];
    snprintf(text, sizeof text, "%u %u 1", (unsigned)user, (unsigned)user);
    if (write_file("/proc/self/setgroups", "deny") || write_file("/proc/self/uid_map", text))
        return -1;
    snprintf(text, sizeof text, "%u %u 1", (unsigned)group, (unsigned)group);
    return write_file("/proc/self/gid_map", text);
}

/* Like fork, into new namespaces. */
static pid_t clone_into(unsigned long namespaces)
{
    return (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, 0UL, 0UL, 0UL, 0UL);
}

pid_t clone_enclosed(int *is_first, struct refusal *refusal)
{
    uid_t user = geteuid();
    gid_t group = getegid();
    unsigned long namespaces = CLONE_NEWNS | CLONE_NEWIPC | (user ? CLONE_NEWUSER : 0);
    pid_t pid = clone_into(namespaces | CLONE_NEWPID);
    *is_first = pid == 0;
    if (pid < 0) {
        note(refusal, "the processes of others can be seen, for there is no PID namespace");
        pid = clone_into(namespaces);
    }
    if (pid < 0)
        note(refusal, "the daemon's directories can be seen, for there is no mount namespace");
    if (pid == 0 && user && keep_identity(user, group))
        note(refusal, "commands run as nobody");
    return pid;
}

void furnish(const char *paths, size_t size, int is_first, struct refusal *refusal)
{
    if (mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL)) {
        note(refusal, "the daemon's directories can be seen");
        return; /* what is mounted here would show elsewhere */
    }
    const char *end = paths + size;
    for (const char *path = paths; path < end; path += strlen(path) + 1)
        if (mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=555") &&
            errno != ENOENT)
            note(refusal, "%.300s can be seen", path);
    if (mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") && errno != ENOENT)
        note(refusal, "/dev/shm is shared with others");
    if (is_first && mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
        note(refusal, "/proc shows the processes of others");
}

/* What a container's root has by default, but for making device nodes. */
static const uint64_t kept_rights =
    1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER | 1ull << CAP_FSETID | 1ull << CAP_KILL |
    1ull << CAP_SETGID | 1ull << CAP_SETUID | 1ull << CAP_SETPCAP | 1ull << CAP_NET_BIND_SERVICE |
    1ull << CAP_NET_RAW | 1ull << CAP_SYS_CHROOT | 1ull << CAP_AUDIT_WRITE | 1ull << CAP_SETFCAP;

int give_up_rights(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    if (geteuid() != 0)
        return 0;
    for (int right = 0; prctl(PR_CAPBSET_READ, right, 0, 0, 0) >= 0; right++)
        if (!(kept_rights >> right & 1) && prctl(PR_CAPBSET_DROP, right, 0, 0, 0))
            return -1;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) || syscall(SYS_capget, &header, data))
        return -1;
    for (int word = 0; word < _LINUX_CAPABILITY_U32S_3; word++) {
        data[word].permitted &= (uint32_t)(kept_rights >> 32 * word);
        data[word].effective &= data[word].permitted;
        data[word].inheritable = 0;
    }
    return (int)syscall(SYS_capset, &header, data);
}
