/*
 * Serves one connection: waits for its requests, the command's pipes and signals.
 */
#ifndef SERVING_H
#define SERVING_H

#include "command.h"

/* Serves a connection to its end and closes it. Nothing that it started or sent outlives it. */
enum end serve(struct runner *r, int connection);

enum end handle_signals(struct runner *r);

#endif
