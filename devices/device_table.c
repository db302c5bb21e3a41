// The table of devices, and configurations made by it. Not here: the words of -device
// (frontend/options_values.c).
#include "devices/device_table.h"

#include <stdio.h>
#include <string.h>

#include "devices/text.h"

const struct device_row *const device_rows[] = {
#define DEVICE(row) &row,
#include "devices/device_list.def"
#undef DEVICE
};
const unsigned device_rows_n = ARRAY_LEN(device_rows);

const char *const device_buses[DEVICE_BUSES] = {"ISA", "PCI"};

const struct device_row *device_row_find(const char *name)
{
    for (unsigned i = 0; i < device_rows_n; i++)
        if (strcmp(device_rows[i]->name, name) == 0) return device_rows[i];
    return NULL;
}

int device_row_property(const struct device_row *row, const char *name)
{
    for (int i = 0; row->property[i].type != PROPERTY_END; i++)
        if (strcmp(row->property[i].name, name) == 0) return i;
    return -1;
}

// ---- values ----

static u64 most_of(const struct device_property *p)
{
    if (p->most) return p->most;
    switch (p->type) {
    case PROPERTY_BOOL: return 1;
    case PROPERTY_U8: return UINT8_MAX;
    case PROPERTY_U16:
    case PROPERTY_PORT: return UINT16_MAX;
    case PROPERTY_U32: return UINT32_MAX;
    default: return UINT64_MAX;
    }
}

static bool has_choices(const struct device_property *p) { return p->choice[0] != 0; }

static bool may_be(const struct device_property *p, u64 n)
{
    if (!has_choices(p)) return n >= p->least && n <= most_of(p);
    for (unsigned i = 0; i < DEVICE_CHOICES && p->choice[i]; i++)
        if (p->choice[i] == n) return true;
    return false;
}

struct words { // a text that is written piece by piece
    char *at;
    size_t room; // 1 at least
};
#define SAY(w, ...) say((w), snprintf((w)->at, (w)->room, __VA_ARGS__))
static void say(struct words *w, int n)
{
    size_t written = (size_t)n < w->room ? (size_t)n : w->room - 1;
    w->at += written;
    w->room -= written;
}

static void say_number(struct words *w, enum property_type type, u64 n)
{
    static const char suffix[] = "KMGTPE";
    unsigned k = 0;
    if (type == PROPERTY_BOOL)
        SAY(w, n ? "on" : "off");
    else if (type == PROPERTY_SIZE) {
        while (k < sizeof suffix - 1 && n && n % 1024 == 0) n /= 1024, k++;
        SAY(w, "%llu%.1s", (unsigned long long)n, k ? &suffix[k - 1] : "");
    } else
        SAY(w, n < 10 ? "%llu" : "%#llx", (unsigned long long)n);
}

// "1, 2 or 4", "0 to 0xff", "on or off"; nothing for what needs no saying.
static void say_values(struct words *w, const struct device_property *p)
{
    if (p->type == PROPERTY_BOOL)
        SAY(w, "on or off");
    else if (has_choices(p))
        for (unsigned i = 0; i < DEVICE_CHOICES && p->choice[i]; i++) {
            bool last = i + 1 == DEVICE_CHOICES || !p->choice[i + 1];
            if (i) SAY(w, last ? " or " : ", ");
            say_number(w, p->type, p->choice[i]);
        }
    else {
        say_number(w, p->type, p->least);
        SAY(w, " to ");
        say_number(w, p->type, most_of(p));
    }
}

static bool is_text(const struct device_property *p)
{
    return p->type == PROPERTY_STRING || p->type == PROPERTY_CHARDEV;
}

void device_property_text(const struct device_property *p, char *text, size_t size)
{
    struct words w = {text, size};
    // Where any value of the type will do, its range tells nobody anything.
    bool range = !is_text(p) && (p->type == PROPERTY_BOOL || has_choices(p) || p->least || p->most);
    SAY(&w, "%s", p->help);
    if (p->needed || !is_text(p)) SAY(&w, " (");
    if (range) say_values(&w, p);
    if (range) SAY(&w, p->needed || !is_text(p) ? "; " : "");
    if (p->needed)
        SAY(&w, "needed)");
    else if (!is_text(p)) {
        SAY(&w, "default ");
        say_number(&w, p->type, p->standard);
        SAY(&w, ")");
    }
}

// ---- configurations ----

void device_config_begin(struct device_config *c, const struct device_row *row)
{
    *c = (struct device_config){.row = row};
    for (unsigned i = 0; row->property[i].type != PROPERTY_END; i++)
        c->value[i].n = row->property[i].standard;
}

static bool read_value(const struct device_property *p, const char *text, u64 *n)
{
    bool on;
    if (p->type == PROPERTY_SIZE) return text_size(text, 0, n);
    if (p->type != PROPERTY_BOOL) return text_number(text, n);
    if (!text_switch(text, &on)) return false;
    *n = on;
    return true;
}

bool device_config_set(struct device_config *c, unsigned property, const char *value, char *why,
                       size_t why_size)
{
    const struct device_property *p = &c->row->property[property];
    struct words w = {why, why_size};
    u64 n = 0;
    if (is_text(p))
        c->value[property].text = value;
    else if (!read_value(p, value, &n) || !may_be(p, n)) {
        SAY(&w, "%s=%.200s ", p->name, value);
        if (p->type == PROPERTY_PORT && !has_choices(p) && !p->least && !p->most) {
            SAY(&w, "is no port");
            return false;
        }
        SAY(&w, "must be ");
        say_values(&w, p);
        return false;
    }
    c->value[property].n = n;
    c->given |= 1u << property;
    return true;
}

const struct device_property *device_config_missing(const struct device_config *c)
{
    for (unsigned i = 0; c->row->property[i].type != PROPERTY_END; i++)
        if (c->row->property[i].needed && !(c->given >> i & 1)) return &c->row->property[i];
    return NULL;
}

static unsigned ports_of(const struct device_config *c, struct port_range *r)
{
    return c->row->ports ? c->row->ports(c->value, r) : 0;
}

// A port that is in both, or -1.
static s64 common_port(const struct device_config *a, const struct device_config *b)
{
    struct port_range of_a[DEVICE_RANGES], of_b[DEVICE_RANGES];
    unsigned na = ports_of(a, of_a), nb = ports_of(b, of_b);
    for (unsigned i = 0; i < na; i++)
        for (unsigned k = 0; k < nb; k++)
            if (of_a[i].first < of_b[k].first + of_b[k].n && of_b[k].first < of_a[i].first + of_a[i].n)
                return of_a[i].first > of_b[k].first ? of_a[i].first : of_b[k].first;
    return -1;
}

bool device_config_ports(const struct device_config *c, unsigned n, char *why, size_t why_size)
{
    for (unsigned i = 0; i < n; i++) {
        struct port_range r[DEVICE_RANGES];
        unsigned ranges = ports_of(&c[i], r);
        for (unsigned k = 0; k < ranges; k++)
            if (r[k].first + r[k].n > 0x10000) {
                snprintf(why, why_size, "%s: %u ports at iobase=%#x do not fit below 10000h", c[i].row->name,
                         r[k].n, r[k].first);
                return false;
            }
        for (unsigned k = 0; k < i; k++) {
            s64 port = common_port(&c[i], &c[k]);
            if (port < 0) continue;
            snprintf(why, why_size, "%s and %s are both at port %#x", c[k].row->name, c[i].row->name,
                     (unsigned)port);
            return false;
        }
    }
    return true;
}
