/* Numbers drawn from a seed, and the steps of a case. */
#include "fuzz.h"

static uint64_t state;

static bool left_out[STEPS_MAX];
static bool printing;
static int one_left_out = -1;

uint64_t random64(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

unsigned below(unsigned n) { return (unsigned)((random64() >> 32) * n >> 32); }

uint64_t random_bit(uint64_t among)
{
    unsigned count = 0, n = (unsigned)(random64() >> 40);
    for (uint64_t left = among; left; left &= left - 1) count++;
    for (n = count ? n % count : 0; n; n--) among &= among - 1;
    return among & -among;
}

void random_begin(uint64_t seed, uint64_t number, unsigned section)
{
    state = ((seed << 40) ^ (number << 8) ^ section) * 0x9e3779b97f4a7c15 + 1;
    if (!state) state = 1;
    for (unsigned i = 0; i < 4; i++) random64();
}

unsigned list_read(const char *key, unsigned base, uint64_t *to, unsigned max)
{
    size_t length = strlen(key);
    unsigned n = 0;
    for (const char *p = cmdline(); *p;) {
        while (*p == ' ') p++;
        bool found = strlen(p) > length && memcmp(p, key, length) == 0 && p[length] == '=';
        if (found) p += length + 1;
        while (*p && *p != ' ') {
            uint64_t v = 0;
            const char *begin = p;
            for (;; p++) {
                unsigned digit = *p >= '0' && *p <= '9' ? (unsigned)(*p - '0')
                                 : *p >= 'a'            ? (unsigned)(*p - 'a') + 10
                                                        : 99;
                if (digit >= base) break;
                v = v * base + digit;
            }
            if (found && p > begin && n < max) to[n++] = v;
            if (*p && *p != ' ') p++;
        }
    }
    return n;
}

void steps_read(void)
{
    uint64_t list[STEPS_MAX];
    unsigned n = list_read("keep", 10, list, STEPS_MAX);
    if (cmdline_has("keep=") || n)
        for (unsigned i = 0; i < STEPS_MAX; i++) left_out[i] = true;
    for (unsigned i = 0; i < n; i++)
        if (list[i] < STEPS_MAX) left_out[list[i]] = false;
    n = list_read("skip", 10, list, STEPS_MAX);
    for (unsigned i = 0; i < n; i++)
        if (list[i] < STEPS_MAX) left_out[list[i]] = true;
}

void steps_leave_out(int one) { one_left_out = one; }
void steps_print(bool yes) { printing = yes; }
void steps_begin(void) { kase.steps = 0; }

bool step(const char *name, const char *more, uint64_t value)
{
    unsigned n = kase.steps++;
    if (n >= STEPS_MAX) return false;
    bool apply = !left_out[n] && (int)n != one_left_out;
    if (printing && apply) print("  step %u %s%s %lx\n", n, name, more, value);
    return apply;
}
