// Standard input and output as a serial line.
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "frontend/terminal.h"

void terminal_open(struct terminal *t)
{
    memset(t, 0, sizeof *t);
    t->is_tty = isatty(0) && tcgetattr(0, &t->old) == 0;
    if (t->is_tty) {
        struct termios raw = t->old;
        cfmakeraw(&raw);
        raw.c_oflag |= OPOST; // the host's own lines stay readable
        t->raw = tcsetattr(0, TCSANOW, &raw) == 0;
    }
}

void terminal_close(struct terminal *t)
{
    if (t->raw) tcsetattr(0, TCSANOW, &t->old);
    t->raw = false;
}

void terminal_write(const u8 *bytes, u32 n)
{
    while (n) {
        ssize_t k = write(1, bytes, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0 && errno == EAGAIN) { // a pipe or a terminal that somebody made non-blocking
            poll(&(struct pollfd){.fd = 1, .events = POLLOUT}, 1, 100);
            continue;
        }
        if (k <= 0) return;
        bytes += k, n -= (u32)k;
    }
}

static void say(const char *text) { terminal_write((const u8 *)text, (u32)strlen(text)); }

unsigned terminal_read(struct terminal *t, u8 *buf, unsigned n, int ms)
{
    struct pollfd p = {.fd = 0, .events = POLLIN};
    if (t->eof || poll(&p, 1, ms) <= 0) return 0;
    u8 in[256];
    if (n > sizeof in) n = sizeof in;
    ssize_t got = read(0, in, n);
    if (got <= 0) {
        t->eof = true;
        return 0;
    }
    if (!t->is_tty) {
        memcpy(buf, in, (size_t)got);
        return (unsigned)got;
    }
    unsigned out = 0;
    for (ssize_t i = 0; i < got; i++) {
        if (!t->escape) {
            if (in[i] == 1)
                t->escape = true;
            else
                buf[out++] = in[i];
            continue;
        }
        t->escape = false;
        switch (in[i]) {
        case 'x': t->quit = true; break;
        case 'h':
        case '?': say("\r\nCtrl-A x ends the machine, Ctrl-A Ctrl-A sends Ctrl-A, Ctrl-A h shows this.\r\n"); break;
        case 1: buf[out++] = 1; break;
        default: break;
        }
    }
    return out;
}
