/*
 * Ends and reaps the processes of a command, those it left behind among them.
 */
#ifndef REAPING_H
#define REAPING_H

#include "command.h"

/* Kills and reaps all processes of the command. Returns when none is left that may be killed. */
void end_processes(struct runner *r);

/* Reaps one child like wait4, and counts what it used. */
pid_t reap(struct runner *r, pid_t which, int options);

#endif
