// Numbers, sizes and switches as a user writes them: QEMU's forms.
#include "devices/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool text_number(const char *s, u64 *x)
{
    char *end;
    errno = 0;
    if (*s < '0' || *s > '9') return false;
    *x = strtoull(s, &end, 0);
    return errno == 0 && *end == 0;
}

bool text_size(const char *s, unsigned unit, u64 *bytes)
{
    static const char suffixes[] = "bkmgtpe";
    char *end;
    if (*s < '0' || *s > '9') return false;
    errno = 0;
    bool hex = s[0] == '0' && (s[1] | 0x20) == 'x';
    u64 whole = strtoull(s, &end, hex ? 16 : 10), part = 0, scale = 1;
    bool huge = errno == ERANGE, fraction = *end == '.' && !hex;
    if (fraction) {
        if (end[1] < '0' || end[1] > '9') return false;
        for (end++; *end >= '0' && *end <= '9'; end++)
            if (scale < 1000000000000000000) scale *= 10, part = part * 10 + (u64)(*end - '0');
    }
    const char *suffix = *end ? strchr(suffixes, *end | 0x20) : NULL;
    if (*end && (!suffix || end[1] || hex)) return false;
    if (fraction && (!suffix || suffix == suffixes)) return false; // half a byte
    if (suffix) unit = 10 * (unsigned)(suffix - suffixes);
    huge = huge || whole > UINT64_MAX >> unit;
    unsigned __int128 more = ((unsigned __int128)part << unit) / scale;
    *bytes = huge ? UINT64_MAX : (whole << unit) + (u64)more;
    return true;
}

static bool among(const char *const *words, unsigned n, const char *s)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(words[i], s) == 0) return true;
    return false;
}

bool text_switch(const char *s, bool *on)
{
    static const char *const yes[] = {"on", "yes", "true", "y"}, *const no[] = {"off", "no", "false", "n"};
    *on = among(yes, ARRAY_LEN(yes), s);
    return *on || among(no, ARRAY_LEN(no), s);
}
