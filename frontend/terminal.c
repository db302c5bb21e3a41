// Standard input and output as a serial line.
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend/terminal.h"

enum { LOOK_AGAIN = 50 }; // milliseconds: a signal that comes just before a wait is seen after it

void terminal_init(struct terminal *t, const volatile sig_atomic_t *ended)
{
    memset(t, 0, sizeof *t);
    t->ended = ended;
    t->eof = true;
}

void terminal_open(struct terminal *t)
{
    struct stat st;
    t->eof = false;
    t->regular = fstat(0, &st) == 0 && S_ISREG(st.st_mode);
    t->is_tty = isatty(0) && tcgetattr(0, &t->old) == 0;
    if (!t->is_tty) return;
    t->set = t->old;
    cfmakeraw(&t->set);
    t->set.c_oflag |= OPOST; // the host's own lines stay readable
    t->raw = true;           // before it is: whatever ends the process now restores it
    if (tcsetattr(0, TCSANOW, &t->set) != 0) t->raw = false;
}

void terminal_close(struct terminal *t)
{
    if (t->raw) tcsetattr(0, TCSANOW, &t->old);
    t->raw = false;
}

void terminal_suspend(struct terminal *t)
{
    if (t->raw) tcsetattr(0, TCSANOW, &t->old);
}

void terminal_resume(struct terminal *t)
{
    pid_t foreground = tcgetpgrp(0);
    if (t->raw && (foreground < 0 || foreground == getpgrp())) tcsetattr(0, TCSANOW, &t->set);
}

static void say(struct terminal *t, const char *text)
{
    terminal_write(t, (const u8 *)text, (u32)strlen(text));
}

// What is typed at a guest that reads nothing is dropped in the end, as on any line; the escape keys are not.
static void keep(struct terminal *t, u8 byte)
{
    if (t->monitor) {
        if (t->commands_n < sizeof t->commands) t->commands[t->commands_n++] = byte;
        return;
    }
    if (t->held_n < TERMINAL_HELD) t->held[(t->first + t->held_n++) % TERMINAL_HELD] = byte;
}

static void typed(struct terminal *t, u8 byte)
{
    if (!t->escape) {
        if (byte == 1)
            t->escape = true;
        else
            keep(t, byte);
        return;
    }
    t->escape = false;
    switch (byte) {
    case 'x': t->quit = true; break;
    case 'c': t->monitor = !t->monitor || t->monitor_alone; break;
    case 'h':
    case '?':
        say(t, "\r\nCtrl-A x ends the machine, Ctrl-A c changes between it and the monitor, Ctrl-A Ctrl-A "
               "sends Ctrl-A, Ctrl-A h shows this.\r\n");
        break;
    case 1: keep(t, 1); break;
    default: break;
    }
}

static bool takes_more(const struct terminal *t)
{
    return !t->eof && (t->is_tty || t->held_n < TERMINAL_HELD);
}

// There are bytes, or the end.
static void read_more(struct terminal *t)
{
    u8 in[256];
    size_t room = t->is_tty ? sizeof in : TERMINAL_HELD - t->held_n;
    ssize_t got = read(0, in, room < sizeof in ? room : sizeof in);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) t->eof = true;
    for (ssize_t i = 0; i < got; i++) {
        if (t->is_tty)
            typed(t, in[i]);
        else
            keep(t, in[i]);
    }
}

void terminal_poll(struct terminal *t, int ms)
{
    struct pollfd p = {.fd = takes_more(t) ? 0 : -1, .events = POLLIN};
    if (p.fd < 0 && !ms) return;
    if (poll(&p, 1, ms) > 0) read_more(t);
}

unsigned terminal_take(struct terminal *t, u8 *buf, unsigned n)
{
    unsigned taken = 0;
    while (taken < n && t->held_n) {
        buf[taken++] = t->held[t->first];
        t->first = (t->first + 1) % TERMINAL_HELD;
        t->held_n--;
    }
    return taken;
}

unsigned terminal_command(struct terminal *t, u8 *buf, unsigned n)
{
    if (n > t->commands_n) n = t->commands_n;
    memcpy(buf, t->commands, n);
    memmove(t->commands, t->commands + n, t->commands_n -= n);
    return n;
}

bool terminal_open_ended(const struct terminal *t) { return !t->eof || t->held_n; }
bool terminal_waits(const struct terminal *t) { return !t->regular && takes_more(t); }

void terminal_write(struct terminal *t, const u8 *bytes, u32 n)
{
    while (n && !t->lost && !t->gone) {
        bool ends = *t->ended || t->quit;
        // A write may sleep; who is at the keyboard is listened to meanwhile.
        if (ends || t->is_tty) {
            struct pollfd p[2] = {{.fd = 1, .events = POLLOUT},
                                  {.fd = t->is_tty && takes_more(t) ? 0 : -1, .events = POLLIN}};
            if (poll(p, 2, ends ? 0 : LOOK_AGAIN) < 0) p[0].revents = p[1].revents = 0;
            if (p[1].revents) read_more(t);
            if (!p[0].revents) {
                if (ends) return;
                continue;
            }
        }
        ssize_t k = write(1, bytes, n < 512 ? n : 512);
        if (k > 0) {
            bytes += k, n -= (u32)k;
        } else if (errno == EAGAIN) { // a pipe or a terminal that somebody made non-blocking
            if (ends) return;
            poll(&(struct pollfd){.fd = 1, .events = POLLOUT}, 1, LOOK_AGAIN);
        } else if (errno == EPIPE) {
            t->gone = true;
        } else if (errno != EINTR) {
            t->lost = k < 0 ? errno : ENOSPC;
        }
    }
}
