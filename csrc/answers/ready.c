/*
 * What the thread that takes requests can answer by itself: opening and closing files and directories of immutable
 * trees that the kernel knows already, and reading ranges whose chunks were verified, in place from their packs.
 *
 * Everything is under one lock, which is never held while something is waited for: what is not in memory is left to
 * pyfuse3. Ranges are bounded in number, and all forgotten when there are too many.
 */
#define _GNU_SOURCE
#include "answers.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILES (1u << 20)
#define MAX_RANGES (1u << 16)
#define MAX_PACKS 128
#define FIRST_BUCKETS 1024u
#define MAX_OFFERED (16u << 20)

enum { OPENS = 1, LISTS = 2, CLAIMED = 4 };

struct range {
    uint64_t start, size; /* in the file */
    uint64_t offset;      /* in the pack */
    int pack;
};

struct file {
    struct file *next;
    uint64_t inode;
    uint64_t size;
    struct range *ranges; /* ordered by their starts, none overlaps another */
    uint32_t count, room;
    uint32_t what;
    uint32_t offered; /* bytes of the following */
    void *data;       /* all of it, for the kernel, until it is opened first */
};

struct pack {
    int number; /* 0: none is here */
    int descriptor;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file **buckets;
static uint32_t bucket_count, file_count, range_count;
static size_t offered_bytes;
static struct pack packs[MAX_PACKS];
static int last_pack;

static uint32_t bucket_of(uint64_t inode, uint32_t count)
{
    return (uint32_t)((inode * 0x9e3779b97f4a7c15ull) >> 32) & (count - 1);
}

static struct file *find(uint64_t inode)
{
    struct file *file = bucket_count ? buckets[bucket_of(inode, bucket_count)] : NULL;

    while (file && file->inode != inode)
        file = file->next;
    return file;
}

static int grow(void)
{
    uint32_t count = bucket_count ? bucket_count * 2 : FIRST_BUCKETS;
    struct file **wider = calloc(count, sizeof *wider);

    if (!wider)
        return -1;
    for (uint32_t i = 0; i < bucket_count; i++)
        for (struct file *file = buckets[i], *next; file; file = next) {
            struct file **at = &wider[bucket_of(file->inode, count)];

            next = file->next;
            file->next = *at;
            *at = file;
        }
    free(buckets);
    buckets = wider;
    bucket_count = count;
    return 0;
}

static struct file *find_or_add(uint64_t inode)
{
    struct file *file = find(inode);

    if (file || file_count >= MAX_FILES || (file_count >= bucket_count && grow()))
        return file;
    file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    file->inode = inode;
    file->next = buckets[bucket_of(inode, bucket_count)];
    buckets[bucket_of(inode, bucket_count)] = file;
    file_count++;
    return file;
}

static void drop_ranges(struct file *file)
{
    range_count -= file->count;
    free(file->ranges);
    file->ranges = NULL;
    file->count = file->room = 0;
}

static void *take_offer(struct file *file)
{
    void *data = file->data;

    offered_bytes -= file->offered;
    file->data = NULL;
    file->offered = 0;
    return data;
}

/* Whether a file could be opened before. */
static int mark(uint64_t inode, uint32_t what)
{
    struct file *file;
    int before = -1;

    pthread_mutex_lock(&lock);
    file = find_or_add(inode);
    if (file) {
        before = !!(file->what & OPENS);
        file->what |= what;
        free(take_offer(file));
    }
    pthread_mutex_unlock(&lock);
    return before;
}

static void drop_all_offers(void)
{
    for (uint32_t i = 0; i < bucket_count; i++)
        for (struct file *file = buckets[i]; file; file = file->next)
            free(take_offer(file));
}

int ready_offer(uint64_t inode, const void *data, size_t size)
{
    struct file *file;
    void *copy = malloc(size);
    int taken = 0;

    if (!copy)
        return -1;
    memcpy(copy, data, size);
    pthread_mutex_lock(&lock);
    if (offered_bytes + size > MAX_OFFERED)
        drop_all_offers();
    file = find_or_add(inode);
    if (file && !file->data && !(file->what & (OPENS | CLAIMED))) {
        file->data = copy;
        file->offered = (uint32_t)size;
        offered_bytes += size;
        taken = 1;
    }
    pthread_mutex_unlock(&lock);
    if (!taken)
        free(copy);
    return 0;
}

int ready_claim(uint64_t inode)
{
    return mark(inode, CLAIMED);
}

int ready_open(uint64_t inode)
{
    return mark(inode, OPENS) < 0;
}

int ready_list(uint64_t inode)
{
    return mark(inode, LISTS) < 0;
}

void ready_drop(uint64_t inode, uint64_t parent)
{
    struct file **at, *file;

    pthread_mutex_lock(&lock);
    file = find(parent);
    if (file)
        file->what &= ~(uint32_t)LISTS;
    file = find(inode);
    if (file) {
        for (at = &buckets[bucket_of(inode, bucket_count)]; *at != file;)
            at = &(*at)->next;
        *at = file->next;
        drop_ranges(file);
        free(take_offer(file));
        free(file);
        file_count--;
    }
    pthread_mutex_unlock(&lock);
}

/* --- packs and ranges */

static struct pack *pack_of(int number)
{
    for (int i = 0; i < MAX_PACKS; i++)
        if (packs[i].number == number)
            return &packs[i];
    return NULL;
}

int ready_pack(int descriptor)
{
    struct pack *pack;
    int number = -1, own = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);

    if (own < 0)
        return -1;
    pthread_mutex_lock(&lock);
    pack = pack_of(0);
    if (pack) {
        pack->descriptor = own;
        number = pack->number = ++last_pack;
    }
    pthread_mutex_unlock(&lock);
    if (!pack)
        close(own);
    return number;
}

void ready_drop_pack(int number)
{
    struct pack *pack;

    pthread_mutex_lock(&lock);
    pack = number > 0 ? pack_of(number) : NULL;
    if (pack) {
        close(pack->descriptor);
        pack->number = 0;
    }
    pthread_mutex_unlock(&lock);
}

/* The index of the first range that ends after an offset. */
static uint32_t range_at(const struct file *file, uint64_t offset)
{
    uint32_t low = 0, high = file->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (file->ranges[middle].start + file->ranges[middle].size <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void drop_all_ranges(void)
{
    for (uint32_t i = 0; i < bucket_count; i++)
        for (struct file *file = buckets[i]; file; file = file->next)
            drop_ranges(file);
}

static int add_range(struct file *file, const struct range *range)
{
    uint32_t at = range_at(file, range->start);

    if (at < file->count && file->ranges[at].start == range->start) {
        file->ranges[at] = *range; /* in another pack, perhaps */
        return 0;
    }
    if (file->count == file->room) {
        uint32_t room = file->room ? 2 * file->room : 4;
        struct range *more = realloc(file->ranges, room * sizeof *more);

        if (!more)
            return -1;
        file->ranges = more;
        file->room = room;
    }
    memmove(&file->ranges[at + 1], &file->ranges[at], (file->count - at) * sizeof *file->ranges);
    file->ranges[at] = *range;
    file->count++;
    range_count++;
    return 0;
}

int ready_range(uint64_t inode, uint64_t file_size, uint64_t start, uint64_t size, int pack, uint64_t offset)
{
    struct range range = {start, size, offset, pack};
    struct file *file;
    int failed = -1;

    pthread_mutex_lock(&lock);
    if (range_count >= MAX_RANGES)
        drop_all_ranges();
    file = find_or_add(inode);
    if (file && size) {
        file->size = file_size;
        failed = add_range(file, &range);
    }
    pthread_mutex_unlock(&lock);
    return failed;
}

void ready_clear(void)
{
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < bucket_count; i++)
        for (struct file *file = buckets[i], *next; file; file = next) {
            next = file->next;
            drop_ranges(file);
            free(take_offer(file));
            free(file);
        }
    free(buckets);
    buckets = NULL;
    bucket_count = file_count = 0;
    for (int i = 0; i < MAX_PACKS; i++)
        if (packs[i].number) {
            close(packs[i].descriptor);
            packs[i].number = 0;
        }
    pthread_mutex_unlock(&lock);
}

/* --- answering */

/* Gives the kernel all of a file that no program has opened yet: none of its pages can be waited for. */
static void hand_over(uint64_t inode, void *data, uint32_t size)
{
    struct fuse_notify_store_out store = {.nodeid = inode, .size = size};
    struct fuse_out_header header = {.len = (uint32_t)(sizeof header + sizeof store + size),
                                     .error = FUSE_NOTIFY_STORE};
    struct iovec parts[] = {{&header, sizeof header}, {&store, sizeof store}, {data, size}};

    taking_send(parts, 3); /* where it fails, the kernel asks for the bytes */
}

static int is_marked(uint64_t inode, uint32_t what)
{
    struct file *file;
    int marked;

    pthread_mutex_lock(&lock);
    file = find(inode);
    marked = file && file->what & what;
    pthread_mutex_unlock(&lock);
    return marked;
}

/* Whether a file may be opened; the first time, with what was offered. */
static int may_open(uint64_t inode)
{
    struct file *file;
    void *data = NULL;
    uint32_t size = 0;
    int known;

    pthread_mutex_lock(&lock);
    file = find(inode);
    if (file && file->data) {
        size = file->offered;
        data = take_offer(file);
        file->what |= OPENS;
    }
    known = file && file->what & OPENS;
    pthread_mutex_unlock(&lock);
    if (data)
        hand_over(inode, data, size);
    free(data);
    return known;
}

static int answer_open(const struct fuse_in_header *request, const struct fuse_open_in *open)
{
    int is_dir = request->opcode == FUSE_OPENDIR;
    struct fuse_open_out answer = {.fh = request->nodeid, .open_flags = FOPEN_KEEP_CACHE};

    if (open->flags & (O_ACCMODE | O_TRUNC))
        return 0;
    if (is_dir ? !is_marked(request->nodeid, LISTS) : !may_open(request->nodeid))
        return 0;
    if (is_dir)
        answer.fh |= TREE_LISTING;
    answer.open_flags |= is_dir ? FOPEN_CACHE_DIR : FOPEN_NOFLUSH;
    taking_reply(request->unique, 0, &answer, sizeof answer);
    return 1;
}

/* Where a directory was not read to its end, the view still has what was read. */
static int answer_release(const struct fuse_in_header *request)
{
    if (!is_marked(request->nodeid, request->opcode == FUSE_RELEASEDIR ? LISTS : OPENS))
        return 0;
    taking_reply(request->unique, 0, NULL, 0);
    return 1;
}

/* Copies what a read asks for; the number of bytes, or -1 where not all of it is verified and in memory. */
static ssize_t copy_ranges(uint64_t inode, const struct fuse_read_in *read, char *into)
{
    struct file *file = find(inode);
    uint64_t offset = read->offset, end = offset + read->size;

    if (!file || !file->count)
        return -1;
    if (end > file->size)
        end = file->size;
    for (uint32_t at = range_at(file, offset); offset < end; at++) {
        const struct range *range = &file->ranges[at];
        const struct pack *pack;
        uint64_t part;

        if (at == file->count || range->start > offset || !(pack = pack_of(range->pack)))
            return -1;
        part = range->start + range->size - offset;
        if (part > end - offset)
            part = end - offset;
        struct iovec piece = {into, part};
        if (preadv2(pack->descriptor, &piece, 1, (off_t)(range->offset + offset - range->start), RWF_NOWAIT) !=
            (ssize_t)part)
            return -1;
        into += part;
        offset += part;
    }
    return (ssize_t)(offset - read->offset);
}

static int answer_read(const struct fuse_in_header *request, const struct fuse_read_in *read)
{
    static char buffer[MESSAGE_BYTES]; /* of the one thread that answers */
    ssize_t size;

    if (read->size > sizeof buffer)
        return 0;
    pthread_mutex_lock(&lock);
    size = copy_ranges(request->nodeid, read, buffer);
    pthread_mutex_unlock(&lock);
    if (size < 0)
        return 0;
    taking_reply(request->unique, 0, buffer, (size_t)size);
    return 1;
}

/* Before each first write the kernel asks for the attribute of capabilities: there are those of users alone. */
static int answer_getxattr(const struct fuse_in_header *request, const char *body, size_t size)
{
    static const char own[] = "user.";
    const char *name = body + sizeof(struct fuse_getxattr_in);

    if (size - sizeof(struct fuse_getxattr_in) >= sizeof own && !memcmp(name, own, sizeof own - 1))
        return 0;
    taking_reply(request->unique, EOPNOTSUPP, NULL, 0);
    return 1;
}

int ready_answer(const char *message, size_t size)
{
    const struct fuse_in_header *request = (const void *)message;
    const void *body = message + sizeof *request;

    if (size < sizeof *request)
        return 0;
    size -= sizeof *request;
    switch (request->opcode) {
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        return size >= sizeof(struct fuse_open_in) && answer_open(request, body);
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        return answer_release(request);
    case FUSE_GETXATTR:
        return size > sizeof(struct fuse_getxattr_in) && answer_getxattr(request, (const char *)body, size);
    case FUSE_READ:
        return size >= sizeof(struct fuse_read_in) && answer_read(request, body);
    default:
        return 0;
    }
}
