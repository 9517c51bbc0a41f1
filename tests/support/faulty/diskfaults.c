/* A disk that fails, for tests: preloaded, it stands between a process and some calls of libc.
 *
 * DISK_FAULTS names a directory. A file `fail-CALL` in it reads `PART SKIP TIMES ERRNO MODE`: after SKIP calls on a path that
 * holds PART, TIMES fail with ERRNO. CALL is `sync` (fsync, fdatasync), `pread`, `pwrite` or `rename` (its source). A sync
 * that fails loses what was written since the last one: it is recorded in `lost` (PATH START END), and with MODE `drop`
 * reads as zeros at once, as where the kernel has dropped the pages. `log` has what was synced and which directories were made.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 8192

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    dev_t device;
    ino_t inode;
    off_t size;
} synced[FILES];
static int files;
static int counts[4];
static char last[4][512];
static const char *const NAMES[4] = {"sync", "pread", "pwrite", "rename"};
enum { SYNC, PREAD, PWRITE, RENAME };

static const char *place(void) { return getenv("DISK_FAULTS"); }

static void note(const char *file, const char *format, const char *word, const char *path, long start, long end) {
    char name[4096], line[8192];
    snprintf(name, sizeof name, "%s/%s", place(), file);
    int size = snprintf(line, sizeof line, format, word, path, start, end);
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0) {
        if (write(fd, line, (size_t)size) < 0)
            abort();
        close(fd);
    }
}

static int path_of(int fd, char *path, size_t room) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, room - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return 1;
}

/* Which errno a call on a path fails with now, and how; 0 where it goes on. Called under the lock. */
static int failing(int call, const char *path, int *drop) {
    char name[4096], text[512], part[256], mode[16];
    int skip, times, number;
    snprintf(name, sizeof name, "%s/fail-%s", place(), NAMES[call]);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    text[size > 0 ? size : 0] = 0;
    if (sscanf(text, "%255s %d %d %d %15s", part, &skip, &times, &number, mode) != 5 || !strstr(path, part))
        return 0;
    if (strcmp(last[call], text)) {
        strcpy(last[call], text);
        counts[call] = 0;
    }
    int at = counts[call]++;
    *drop = !strcmp(mode, "drop");
    return at >= skip && at < skip + times ? number : 0;
}

static off_t *size_of(const struct stat *status) {
    for (int at = 0; at < files; at++)
        if (synced[at].device == status->st_dev && synced[at].inode == status->st_ino)
            return &synced[at].size;
    if (files == FILES)
        abort();
    synced[files].device = status->st_dev;
    synced[files].inode = status->st_ino;
    return &synced[files++].size;
}

static int sync_file(int fd, const char *symbol) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, symbol);
    char path[4096];
    struct stat status;
    if (!place() || !path_of(fd, path, sizeof path) || fstat(fd, &status))
        return real(fd);
    int drop = 0;
    pthread_mutex_lock(&lock);
    int number = failing(SYNC, path, &drop);
    off_t *size = S_ISREG(status.st_mode) ? size_of(&status) : NULL;
    if (number && size) {
        note("lost", "%s%s %ld %ld\n", "", path, *size, status.st_size);
        if (drop && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, *size, status.st_size - *size))
            abort();
    }
    pthread_mutex_unlock(&lock);
    if (number) {
        note("log", "%s %s\n", "failed", path, 0, 0);
        errno = number;
        return -1;
    }
    int result = real(fd);
    if (!result) {
        pthread_mutex_lock(&lock);
        if (size)
            *size = status.st_size;
        pthread_mutex_unlock(&lock);
        note("log", "%s %s\n", "sync", path, 0, 0);
    }
    return result;
}

int fsync(int fd) { return sync_file(fd, "fsync"); }
int fdatasync(int fd) { return sync_file(fd, "fdatasync"); }

static int fails(int call, int fd, const char *known) {
    char path[4096];
    int drop;
    if (!place() || (!known && !path_of(fd, path, sizeof path)))
        return 0;
    pthread_mutex_lock(&lock);
    int number = failing(call, known ? known : path, &drop);
    pthread_mutex_unlock(&lock);
    errno = number ? number : errno;
    return number;
}

#define READS(symbol)                                                                            \
    ssize_t symbol(int fd, void *data, size_t size, off_t offset) {                              \
        ssize_t (*real)(int, void *, size_t, off_t) =                                            \
            (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, #symbol);                   \
        return fails(PREAD, fd, NULL) ? -1 : real(fd, data, size, offset);                       \
    }
#define WRITES(symbol)                                                                           \
    ssize_t symbol(int fd, const void *data, size_t size, off_t offset) {                        \
        ssize_t (*real)(int, const void *, size_t, off_t) =                                      \
            (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, #symbol);             \
        return fails(PWRITE, fd, NULL) ? -1 : real(fd, data, size, offset);                      \
    }
READS(pread)
READS(pread64)
WRITES(pwrite)
WRITES(pwrite64)

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    return fails(RENAME, -1, from) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode) {
    int (*real)(const char *, mode_t) = (int (*)(const char *, mode_t))dlsym(RTLD_NEXT, "mkdir");
    int result = real(path, mode);
    if (!result && place())
        note("log", "%s %s\n", "mkdir", path, 0, 0);
    return result;
}
