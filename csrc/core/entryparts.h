/*
 * Where the parts of a directory's entry are, as `pfsd.trees.entries` lays them out; in a header, so that each user has it
 * inline.
 */
#ifndef ENTRYPARTS_H
#define ENTRYPARTS_H

#include <stddef.h>

#include "varints.h"

enum { FILE_ENTRY = 1, DIR_ENTRY = 2, SYMLINK_ENTRY = 3, SPECIAL_ENTRY = 4 };
enum { MODE = 1, OWNER = 2, TIME = 3, XATTRS = 4, LINK = 5, LINKS_BELOW = 6, PLAIN_ROOT = 7 };
enum { LINK_BYTES = 8, ENTRY_HASH_BYTES = 32 };

/* The parts of an entry. Pointers lead into its bytes. */
struct entry {
    int kind;
    uint64_t size, files, directories; /* of a symbolic link, `size` is its target's length */
    const uint8_t *attributes;         /* where they begin; the end of the entry where it has none */
    bool has_mode, has_owner, has_time;
    uint64_t mode, uid, gid, time;     /* the time still in its zigzag form */
    const uint8_t *xattrs, *link, *plain; /* NULL where there is none */
    uint64_t links;
};

/* Moves *at past so many bytes; false when there are fewer. */
static bool skip(const uint8_t **at, const uint8_t *end, uint64_t count)
{
    if (count > (uint64_t)(end - *at))
        return false;
    *at += count;
    return true;
}

static bool read_file(const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    uint64_t count, size;
    if (!read_varint(at, end, &entry->size) || *at == end)
        return false;
    uint8_t form = *(*at)++;
    if (!read_varint(at, end, &count) || form > 1)
        return false;
    entry->files = 1;
    if (form == 1)
        return skip(at, end, ENTRY_HASH_BYTES);
    for (; count; count--)
        if (!skip(at, end, ENTRY_HASH_BYTES) || !read_varint(at, end, &size))
            return false;
    return true;
}

static bool read_dir(const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    return skip(at, end, ENTRY_HASH_BYTES) && read_varint(at, end, &entry->size) && read_varint(at, end, &entry->files) &&
           read_varint(at, end, &entry->directories) && entry->directories < UINT64_MAX;
}

static bool read_symlink(const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    entry->files = 1;
    return read_varint(at, end, &entry->size) && skip(at, end, entry->size);
}

static bool read_special(const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    uint64_t device;
    entry->files = 1;
    return skip(at, end, 1) && read_varint(at, end, &device);
}

static bool read_xattrs(const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    uint64_t count, size;
    entry->xattrs = *at;
    if (!read_varint(at, end, &count))
        return false;
    for (count = count > (uint64_t)(end - *at) ? UINT64_MAX : 2 * count; count; count--)
        if (count == UINT64_MAX || !read_varint(at, end, &size) || !skip(at, end, size))
            return false;
    return true;
}

/* Reads the attribute of a tag, whose value begins at *at. */
static bool read_attribute(int tag, const uint8_t **at, const uint8_t *end, struct entry *entry)
{
    switch (tag) {
    case MODE:
        entry->has_mode = true;
        return read_varint(at, end, &entry->mode) && entry->mode <= 07777;
    case OWNER:
        entry->has_owner = true;
        return read_varint(at, end, &entry->uid) && read_varint(at, end, &entry->gid) && entry->uid < UINT32_MAX &&
               entry->gid < UINT32_MAX;
    case TIME:
        entry->has_time = true;
        return read_varint(at, end, &entry->time);
    case XATTRS:
        return read_xattrs(at, end, entry);
    case LINK:
        entry->link = *at;
        return entry->kind != DIR_ENTRY && skip(at, end, LINK_BYTES);
    case LINKS_BELOW:
        return entry->kind == DIR_ENTRY && read_varint(at, end, &entry->links) && entry->links;
    case PLAIN_ROOT:
        entry->plain = *at;
        return entry->kind == DIR_ENTRY && skip(at, end, ENTRY_HASH_BYTES);
    default:
        return false;
    }
}

/* Whether these bytes are an entry. */
static bool read_entry(const uint8_t *at, ptrdiff_t size, struct entry *entry)
{
    static bool (*const readers[])(const uint8_t **, const uint8_t *, struct entry *) = {
        [FILE_ENTRY] = read_file, [DIR_ENTRY] = read_dir, [SYMLINK_ENTRY] = read_symlink, [SPECIAL_ENTRY] = read_special,
    };
    const uint8_t *end = at + size;
    *entry = (struct entry){0};
    if (!size || *at < FILE_ENTRY || *at > SPECIAL_ENTRY)
        return false;
    entry->kind = *at++;
    if (!readers[entry->kind](&at, end, entry))
        return false;
    entry->attributes = at;
    for (int last = 0; at < end;) {
        int tag = *at++;
        if (tag <= last || !read_attribute(tag, &at, end, entry))
            return false;
        last = tag;
    }
    return true;
}

/* The time of an entry that has one, in nanoseconds since 1970. */
static inline int64_t time_of(const struct entry *entry)
{
    return (int64_t)(entry->time >> 1) ^ -(int64_t)(entry->time & 1);
}

#endif
