#define _GNU_SOURCE
#include "frontend/socket_heard.h"

#ifdef __linux__
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <unistd.h>

enum { LISTENS = 10 }; // TCP_LISTEN: the state's number for every family

static bool is_it(const struct nlmsghdr *h, const struct stat *st)
{
    const char *at = (const char *)NLMSG_DATA(h) + NLMSG_ALIGN(sizeof(struct unix_diag_msg));
    const char *end = (const char *)h + h->nlmsg_len;
    struct nlattr a;
    struct unix_diag_vfs vfs;
    for (; end - at >= (long)sizeof a; at += NLA_ALIGN(a.nla_len)) {
        memcpy(&a, at, sizeof a);
        if (a.nla_len < sizeof a || a.nla_len > end - at) return false;
        if (a.nla_type != UNIX_DIAG_VFS || a.nla_len < NLA_HDRLEN + sizeof vfs) continue;
        memcpy(&vfs, at + NLA_HDRLEN, sizeof vfs);
        // Both are of the kernel's own width and form: 32 bits, a major number above 20 bits of a minor one.
        return vfs.udiag_vfs_ino == (unsigned)st->st_ino &&
               vfs.udiag_vfs_dev == (major(st->st_dev) << 20 | minor(st->st_dev));
    }
    return false;
}

// The kernel's list of those that listen, message by message.
static bool among(int fd, const struct stat *st)
{
    union {
        char bytes[32768];
        struct nlmsghdr align;
    } got;
    for (;;) {
        ssize_t n = recv(fd, got.bytes, sizeof got.bytes, 0);
        if (n <= 0) return false;
        size_t left = (size_t)n;
        for (const struct nlmsghdr *h = &got.align; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) return false;
            if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY && is_it(h, st)) return true;
        }
    }
}

bool socket_heard(const struct stat *st)
{
    struct {
        struct nlmsghdr h;
        struct unix_diag_req r;
    } ask = {.h = {.nlmsg_len = sizeof ask,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
             .r = {.sdiag_family = AF_UNIX, .udiag_states = 1u << LISTENS, .udiag_show = UDIAG_SHOW_VFS}};
    memset(ask.r.udiag_cookie, 0xFF, sizeof ask.r.udiag_cookie); // INET_DIAG_NOCOOKIE
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0) return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 2}, sizeof(struct timeval));
    bool heard = send(fd, &ask, sizeof ask, 0) == (ssize_t)sizeof ask && among(fd, st);
    close(fd);
    return heard;
}
#else
bool socket_heard(const struct stat *st) { return false; }
#endif
