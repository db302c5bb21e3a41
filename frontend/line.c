#define _GNU_SOURCE
#include "frontend/line.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "frontend/socket_heard.h"

enum { PATIENCE = 5000 }; // milliseconds that a client may take to read what it asked for

static bool fail(char *why, size_t n, const char *where, const char *what)
{
    snprintf(why, n, "%s: %s", where, what);
    return false;
}

// Options that QEMU takes behind an address, and that say what is so anyway.
static bool options_known(const char *o)
{
    static const char *const known[] = {"server", "server=on", "nowait", "wait=off", "nodelay", "nodelay=on"};
    while (*o == ',') {
        size_t k = strcspn(++o, ","), i = 0;
        while (i < ARRAY_LEN(known) && (strlen(known[i]) != k || strncmp(known[i], o, k) != 0)) i++;
        if (i == ARRAY_LEN(known)) return false;
        o += k;
    }
    return !*o;
}

static bool listen_tcp(struct line *l, const char *where, const char *address, char *why, size_t n)
{
    char host[256] = "127.0.0.1", port[16];
    size_t whole = strcspn(address, ",");
    const char *colon = memrchr(address, ':', whole);
    if (!colon) return fail(why, n, where, "it takes tcp:[HOST]:PORT, as tcp::1234");
    size_t h = (size_t)(colon - address), p = whole - h - 1;
    if (h >= sizeof host || !p || p >= sizeof port || strspn(colon + 1, "0123456789") < p)
        return fail(why, n, where, "it takes tcp:[HOST]:PORT with a number for PORT, as tcp::1234");
    if (strtoul(colon + 1, NULL, 10) > 0xFFFF) return fail(why, n, where, "65535 is the highest port");
    if (!options_known(address + whole))
        return fail(why, n, where, "behind the port it takes server=on and wait=off (-S waits)");
    if (h && address[0] == '[' && colon[-1] == ']') address++, h -= 2;
    if (h) memcpy(host, address, h), host[h] = 0;
    memcpy(port, colon + 1, p), port[p] = 0;

    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    int e = getaddrinfo(host, port, &hints, &found);
    if (e) return fail(why, n, where, gai_strerror(e));
    l->listener = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(l->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    bool good = l->listener >= 0 && bind(l->listener, found->ai_addr, found->ai_addrlen) == 0 &&
                listen(l->listener, 1) == 0;
    freeaddrinfo(found);
    if (!good) return fail(why, n, where, strerror(errno));
    union {
        struct sockaddr any;
        struct sockaddr_storage room;
    } at;
    socklen_t size = sizeof at;
    if (getsockname(l->listener, &at.any, &size) == 0 &&
        getnameinfo(&at.any, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) ==
            0)
        snprintf(l->name, sizeof l->name, at.any.sa_family == AF_INET6 ? "[%.100s]:%s" : "%.100s:%s", host,
                 port);
    return true;
}

static bool listen_unix(struct line *l, const char *where, const char *path, char *why, size_t n)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct stat st;
    size_t k = strlen(path);
    const char *comma = strchr(path, ',');
    if (comma && options_known(comma)) k = (size_t)(comma - path);
    if (!k) return fail(why, n, where, "it takes unix:PATH");
    if (k >= sizeof a.sun_path) return fail(why, n, where, "the path is too long for a socket");
    memcpy(a.sun_path, path, k);
    if (lstat(a.sun_path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return fail(why, n, where, "something is there already, and it is no socket");
        if (socket_heard(&st))
            return fail(why, n, where, "somebody listens there already; give another path");
        unlink(a.sun_path); // of a run that is over
    }
    l->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l->listener < 0 || bind(l->listener, (struct sockaddr *)&a, sizeof a) != 0 ||
        listen(l->listener, 1) != 0)
        return fail(why, n, where, strerror(errno));
    if (lstat(a.sun_path, &st) == 0) {
        memcpy(l->path, a.sun_path, sizeof l->path);
        l->device = st.st_dev, l->inode = st.st_ino;
    }
    snprintf(l->name, sizeof l->name, "%.*s", (int)k, path);
    return true;
}

static bool open_(struct line *l, const char *where, char *why, size_t n)
{
    *l = (struct line){.listener = -1, .in = -1, .out = -1};
    if (strcmp(where, "stdio") == 0) {
        l->in = 0, l->out = 1;
        strcpy(l->name, "stdio");
        return true;
    }
    if (strncmp(where, "tcp:", 4) == 0) return listen_tcp(l, where, where + 4, why, n);
    if (strncmp(where, "unix:", 5) == 0) return listen_unix(l, where, where + 5, why, n);
    return fail(why, n, where, "it takes tcp:[HOST]:PORT, unix:PATH, stdio or none");
}

bool line_open(struct line *l, const char *option, const char *where, char *why, size_t n)
{
    char what[512];
    if (open_(l, where, what, sizeof what)) return true;
    snprintf(why, n, "%s %s", option, what);
    line_close(l);
    return false;
}

int line_fd(const struct line *l) { return line_connected(l) ? l->in : l->listener; }

void line_hang_up(struct line *l)
{
    if (l->socket) close(l->in);
    l->in = l->out = -1;
    l->socket = false;
}

void line_close(struct line *l)
{
    line_hang_up(l);
    if (l->listener >= 0) close(l->listener);
    l->listener = -1;
    struct stat st;
    if (l->path[0] && lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
        unlink(l->path);
    l->path[0] = 0;
}

bool line_connected(const struct line *l) { return l->in >= 0; }

bool line_wait(const struct line *l, int ms)
{
    struct pollfd p = {.fd = line_fd(l), .events = POLLIN};
    return poll(&p, 1, ms) > 0;
}

bool line_accept(struct line *l)
{
    if (line_connected(l) || l->listener < 0 || !line_wait(l, 0)) return false;
    int fd = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return false;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1},
               sizeof(int)); // fails on other sockets, which need none
    l->in = l->out = fd;
    l->socket = true;
    return true;
}

int line_read(struct line *l, u8 *buf, size_t n)
{
    if (!line_wait(l, 0)) return 0;
    ssize_t got = read(l->in, buf, n);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
    return got > 0 ? (int)got : -1;
}

static long long milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

bool line_write(struct line *l, const u8 *bytes, size_t n)
{
    // Signals, of our own timer too, come more often than patience ends.
    for (long long end = milliseconds() + PATIENCE, now; n;) {
        if ((now = milliseconds()) >= end) return false;
        struct pollfd p = {.fd = l->out, .events = POLLOUT};
        int ready = poll(&p, 1, (int)(end - now));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return false;
        ssize_t put =
            l->socket ? send(l->out, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) : write(l->out, bytes, n);
        if (put < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (put <= 0) return false;
        bytes += put;
        n -= (size_t)put;
    }
    return true;
}
