// Whether a socket of the file system belongs to a program that is alive.
#ifndef FRONTEND_SOCKET_HEARD_H
#define FRONTEND_SOCKET_HEARD_H

#include <stdbool.h>
#include <sys/stat.h>

// Somebody listens at the socket that lstat found. Nobody is connected to, for that would be a client to
// them. False also where the host cannot tell: hosts other than Linux, a file system whose inodes have two
// numbers, a listener in another network namespace.
bool socket_heard(const struct stat *st);

#endif
