/*
 * A process in namespaces of its own, in which neither the processes nor some directories of those outside can be seen.
 */
#ifndef ENCLOSURE_H
#define ENCLOSURE_H

#include <stddef.h>
#include <sys/types.h>

/* What the system refused, in words for people. */
struct refusal {
    size_t length;
    char text[1024]; /* less than PIPE_BUF */
};

/* Like fork, into a mount and a PID namespace; as another user than root also into a user namespace, as that user. What
 * is refused is noted and left out; -1 when nothing remains. *is_first: in the child, whether it is process 1. */
pid_t clone_enclosed(int *is_first, struct refusal *refusal);

/* In the child: hides directories, whose `size` bytes of paths each end in a 0 byte, and with `is_first` the processes
 * outside. What is refused is noted. */
void furnish(const char *paths, size_t size, int is_first, struct refusal *refusal);

/* Gives up what root may do beyond a container's root, mounting and unmounting above all, for this process and all that it
 * becomes: what is hidden stays so. 0, or -1 with errno. As another user than root there is nothing to give up: exec
 * does that. */
int give_up_rights(void);

#endif
