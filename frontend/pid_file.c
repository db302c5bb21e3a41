#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/pid_file.h"

static const char *to_remove; // one a process

static void remove_at_end(void) { unlink(to_remove); }

bool pid_file_write(const char *path, char *why, size_t n)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    if (fd < 0) {
        snprintf(why, n, "cannot write %s: %s", path, strerror(errno));
        return false;
    }
    if (fcntl(fd, F_SETLK, &lock) != 0) {
        snprintf(why, n, "cannot lock %s: another machine has it", path);
        close(fd);
        return false;
    }
    char text[32];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || write(fd, text, (size_t)length) != length) {
        snprintf(why, n, "cannot write %s: %s", path, strerror(errno));
        close(fd);
        return false;
    }
    to_remove = path;
    atexit(remove_at_end);
    return true; // open until the process ends: closing it would give up the lock
}
