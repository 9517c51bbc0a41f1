/*
 * What the client asks for.
 */
#ifndef REQUESTS_H
#define REQUESTS_H

#include "command.h"

/* Receives what has come and does what its complete frames ask for. */
enum end receive(struct runner *r);

#endif
