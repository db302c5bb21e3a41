// The file of -pidfile: the process's number and a newline. It stays locked while the machine runs, so that a
// second machine cannot take it, and goes when the process ends by itself.
#ifndef FRONTEND_PID_FILE_H
#define FRONTEND_PID_FILE_H

#include <stdbool.h>
#include <stddef.h>

// False, and one line in `why`, if it cannot be written or another process has it.
bool pid_file_write(const char *path, char *why, size_t why_size);

#endif
