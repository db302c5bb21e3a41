// clang-format off
// The list of a machine's plain state, and copies of it.
//
//   header   "MATRYMEM", format, number of sections
//   section  name (24), index (32), version (32), size in bytes (64), contents, zeros up to a multiple of 8
//   "machine" comes first: what the two machines must have in common. Then the parts, in any order. "ram" comes last: each page
//   that is not all zeros, as its number (64) and its bytes, in ascending order.
// clang-format on
#include "devices/machine_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT      1
#define RAM_VERSION 1

struct header {
    char magic[8];
    u32 format, sections;
};
static const char magic[8] = "MATRYMEM";

struct section {
    char name[STATE_NAME_MAX];
    u32 index, version;
    u64 size;
};

struct ram_page {
    u64 number;
    u8 bytes[PAGE_SIZE];
};

#define COMMON_VERSION 1
STATE_BEGIN
// what both machines were made with, as far as state or the processor's behaviour depends on it
struct common {
    u64 ram_size, features[2], feature_control;
    u32 cpus, maxphyaddr;
};
STATE_END

// ---- the list ----

unsigned machine_state_parts(struct machine *m, struct state_part part[STATE_PARTS_MAX])
{
    unsigned n = 0;
    part[n++] = (struct state_part){"clock",      0, CLOCK_STATE_VERSION, sizeof m->clock.now, STATE_OF_BOARD,
                                    &m->clock.now};
    for (unsigned i = 0; i < m->cpus_n; i++)
        part[n++] = (struct state_part){
            "cpu", i, VCPU_STATE_VERSION, sizeof m->cpu[i]->s, STATE_OF_CPU, &m->cpu[i]->s};
    part[n++] =
        (struct state_part){"turns", 0, MACHINE_TURNS_VERSION, sizeof m->turns, STATE_OF_BOARD, &m->turns};
    for (const struct device *d = m->devices; d; d = d->next) {
        if (!d->state_size) continue;
        u32 index = 0;
        for (unsigned i = 0; i < n; i++) index += strcmp(part[i].name, d->ops->name) == 0;
        if (n == STATE_PARTS_MAX) panic("more than %d structs of state", STATE_PARTS_MAX);
        part[n++] = (struct state_part){d->ops->name,  index,           d->ops->state_version,
                                        d->state_size, STATE_OF_DEVICE, d->state};
    }
    return n;
}

static struct common common_of(const struct machine *m)
{
    const struct cpu_features *f = &m->config.features;
    return (struct common){.ram_size = m->phys.ram_size,
                           .features = {f->bits[0], f->bits[1]},
                           .feature_control = f->feature_control,
                           .cpus = m->cpus_n,
                           .maxphyaddr = f->maxphyaddr};
}

static bool refuse(char *why, size_t why_size, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(why, why_size, format, list);
    va_end(list);
    return false;
}

// ---- saving ----

// Room for n bytes more, zeroed; NULL if there is no memory.
static u8 *more(struct state_bytes *b, u64 n)
{
    if (b->room - b->size < n) {
        u64 room = b->room * 2 > b->size + n ? b->room * 2 : b->size + n;
        u8 *at = realloc(b->at, room);
        if (!at) return NULL;
        b->at = at, b->room = room;
    }
    u8 *at = b->at + b->size;
    memset(at, 0, n);
    b->size += n;
    return at;
}

static u64 padded(u64 n) { return (n + 7) & ~7ull; }

static bool put_section(struct state_bytes *b, const char *name, u32 index, u32 version, const void *data,
                        u64 size)
{
    u8 *at = more(b, sizeof(struct section) + padded(size));
    if (!at) return false;
    struct section s = {.index = index, .version = version, .size = size};
    snprintf(s.name, sizeof s.name, "%s", name);
    memcpy(at, &s, sizeof s);
    if (size) memcpy(at + sizeof s, data, size);
    return true;
}

static bool put_ram(struct state_bytes *b, struct machine *m)
{
    u64 section = b->size, size = 0;
    if (!put_section(b, "ram", 0, RAM_VERSION, NULL, 0)) return false;
    for (u64 n = 0; n < m->phys.pages; n++) {
        const u8 *host = phys_host(&m->phys, n << PAGE_SHIFT);
        if (!host || !phys_ever_written(&m->phys, n) || phys_page_is_zero(host)) continue;
        u8 *at = more(b, sizeof(struct ram_page));
        if (!at) return false;
        memcpy(at, &n, sizeof n);
        memcpy(at + sizeof n, host, PAGE_SIZE);
        size += sizeof(struct ram_page);
    }
    memcpy(b->at + section + offsetof(struct section, size), &size, sizeof size);
    return true;
}

bool machine_state_save(struct machine *m, struct state_bytes *to, char *why, size_t why_size)
{
    if (m->request.what != MACHINE_RUN)
        return refuse(why, why_size, "the machine was asked to end (%s)",
                      m->request.why ? m->request.why : "?");
    struct state_part part[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(m, part);
    struct header h = {.format = FORMAT, .sections = n + 2};
    struct common c = common_of(m);
    memcpy(h.magic, magic, sizeof h.magic);
    to->size = 0;
    u8 *at = more(to, sizeof h);
    if (at) memcpy(at, &h, sizeof h);
    bool room = at && put_section(to, "machine", 0, COMMON_VERSION, &c, sizeof c);
    for (unsigned i = 0; i < n && room; i++)
        room = put_section(to, part[i].name, part[i].index, part[i].version, part[i].data, part[i].size);
    if (!room || !put_ram(to, m)) return refuse(why, why_size, "no memory for a copy of the machine's state");
    return true;
}

void state_bytes_free(struct state_bytes *b)
{
    free(b->at);
    *b = (struct state_bytes){0};
}

// ---- loading: everything is looked at before anything is changed ----

struct found { // a section, and where its contents are
    struct section s;
    const u8 *data;
};

// The section at *at, which moves behind it. False: the bytes end in it.
static bool next_section(const u8 **at, const u8 *end, struct found *f)
{
    if ((u64)(end - *at) < sizeof f->s) return false;
    memcpy(&f->s, *at, sizeof f->s);
    f->data = *at + sizeof f->s;
    f->s.name[sizeof f->s.name - 1] = 0;
    u64 left = (u64)(end - f->data);
    if (f->s.size > left || padded(f->s.size) > left) return false;
    *at = f->data + padded(f->s.size);
    return true;
}

static bool common_fits(const struct machine *m, const struct found *f, char *why, size_t why_size)
{
    struct common here = common_of(m), there;
    if (strcmp(f->s.name, "machine") != 0 || f->s.version != COMMON_VERSION || f->s.size != sizeof there)
        return refuse(why, why_size,
                      "the saved state does not begin with what machine it is of, as version %d has it",
                      COMMON_VERSION);
    memcpy(&there, f->data, sizeof there);
    if (there.ram_size != here.ram_size)
        return refuse(why, why_size, "the saved machine has %llu bytes of memory, this one %llu",
                      (unsigned long long)there.ram_size, (unsigned long long)here.ram_size);
    if (there.cpus != here.cpus)
        return refuse(why, why_size, "the numbers of processors differ: -smp %u saved, -smp %u here",
                      there.cpus, here.cpus);
    if (memcmp(&there, &here, sizeof here) != 0)
        return refuse(why, why_size, "the saved machine's processors have other features than this one's");
    return true;
}

static bool ram_fits(const struct machine *m, const struct found *f, char *why, size_t why_size)
{
    if (f->s.version != RAM_VERSION || f->s.size % sizeof(struct ram_page))
        return refuse(why, why_size, "the saved memory is not as version %d has it", RAM_VERSION);
    u64 last = 0;
    for (u64 i = 0; i < f->s.size; i += sizeof(struct ram_page)) {
        u64 n;
        memcpy(&n, f->data + i, sizeof n);
        if (n >= m->phys.pages || !phys_is_ram(&m->phys, n << PAGE_SHIFT) || (i && n <= last))
            return refuse(why, why_size,
                          "the saved memory has a page %#llx that is not memory or comes twice",
                          (unsigned long long)n);
        last = n;
    }
    return true;
}

// The part that a section is of; its number, or -1.
static int part_fits(const struct state_part *part, unsigned n, const struct found *f, char *why,
                     size_t why_size)
{
    for (unsigned i = 0; i < n; i++) {
        const struct state_part *p = &part[i];
        if (p->index != f->s.index || strcmp(p->name, f->s.name) != 0) continue;
        if (p->version == f->s.version && p->size == f->s.size) return (int)i;
        refuse(why, why_size, "\"%s\" %u was saved as version %u of %llu bytes; here it is version %u of %u",
               p->name, p->index, f->s.version, (unsigned long long)f->s.size, p->version, p->size);
        return -1;
    }
    refuse(why, why_size, "this machine has no \"%s\" %u, which the saved one has", f->s.name, f->s.index);
    return -1;
}

// What cannot be of the saved state, or NULL. The parts are looked at where they lie aligned.
static const char *part_impossible(struct machine *m, const struct state_part *p, const void *data,
                                   void *aligned)
{
    memcpy(aligned, data, p->size);
    const struct machine_turns *t = aligned;
    if (p->data == &m->turns) {
        bool whose = t->cpu < m->cpus_n && !(m->cpus_n < 64 && t->asleep >> m->cpus_n);
        return whose && *(const u8 *)&t->going <= 1 ? NULL : "it is nobody's turn";
    }
    if (p->owner == STATE_OF_CPU) return cpu_state_impossible(m->cpu[p->index], aligned);
    for (const struct device *d = m->devices; d; d = d->next)
        if (d->state == p->data) return d->ops->impossible ? d->ops->impossible(d, aligned) : NULL;
    return NULL;
}

// The times that the parts have in common: the board's, and each processor's own.
static bool times_fit(const struct state_part *part, unsigned n, const u8 *const *data, char *why,
                      size_t why_size)
{
    u64 now;
    memcpy(&now, data[0], sizeof now); // the clock comes first
    if (now >= CLOCK_END) return refuse(why, why_size, "the saved clock has run for longer than one can");
    for (unsigned i = 0; i < n; i++) {
        u64 units, skipped;
        if (part[i].owner != STATE_OF_CPU) continue;
        memcpy(&units, data[i] + offsetof(struct vcpu_state, units), sizeof units);
        memcpy(&skipped, data[i] + offsetof(struct vcpu_state, skipped), sizeof skipped);
        if (units >= CLOCK_END / CPU_TICKS_PER_UNIT || skipped >= CLOCK_END ||
            units * CPU_TICKS_PER_UNIT + skipped > now + BIT(24))
            return refuse(why, why_size, "the saved time of processor %u is not that of its board",
                          part[i].index);
    }
    return true;
}

static bool states_fit(struct machine *m, const struct state_part *part, unsigned n, const u8 *const *data,
                       char *why, size_t why_size)
{
    u32 largest = 0;
    u64 now = m->clock.now;
    const char *bad = NULL;
    if (!times_fit(part, n, data, why, why_size)) return false;
    for (unsigned i = 0; i < n; i++)
        if (part[i].size > largest) largest = part[i].size;
    void *aligned = malloc(largest);
    if (!aligned) return refuse(why, why_size, "no memory to look at the saved state");
    memcpy(&m->clock.now, data[0], sizeof m->clock.now); // by which the devices' times are judged
    for (unsigned i = 0; i < n && !bad; i++) {
        bad = part_impossible(m, &part[i], data[i], aligned);
        if (bad) refuse(why, why_size, "the saved \"%s\" %u cannot be: %s", part[i].name, part[i].index, bad);
    }
    m->clock.now = now;
    free(aligned);
    return !bad;
}

static void load_ram(struct machine *m, const struct found *f)
{
    const u8 *page = f->data, *end = f->data + f->s.size;
    for (u64 n = 0; n < m->phys.pages; n++) {
        u8 *host = phys_host(&m->phys, n << PAGE_SHIFT);
        u64 next = UINT64_MAX;
        if (page < end) memcpy(&next, page, sizeof next);
        if (!host || (next != n && !phys_ever_written(&m->phys, n))) continue; // zeros then and now
        phys_mark_dirty(&m->phys, n << PAGE_SHIFT); // whoever keeps hashes of the pages begins anew
        if (next == n) {
            memcpy(host, page + sizeof next, PAGE_SIZE);
            page += sizeof(struct ram_page);
        } else if (!phys_page_is_zero(host)) {
            memset(host, 0, PAGE_SIZE);
        }
    }
}

bool machine_state_load(struct machine *m, const u8 *from, u64 size, char *why, size_t why_size)
{
    struct state_part part[STATE_PARTS_MAX];
    const u8 *data[STATE_PARTS_MAX] = {NULL}, *at = from, *end = from + size;
    unsigned n = machine_state_parts(m, part);
    struct header h;
    struct found f, ram = {.data = NULL};
    if (size < sizeof h) return refuse(why, why_size, "these bytes are no saved state");
    memcpy(&h, at, sizeof h);
    at += sizeof h;
    if (memcmp(h.magic, magic, sizeof magic) != 0)
        return refuse(why, why_size, "these bytes are no saved state");
    if (h.format != FORMAT)
        return refuse(why, why_size, "the saved state has format %u, not %d", h.format, FORMAT);
    for (u32 i = 0; i < h.sections; i++) {
        if (!next_section(&at, end, &f))
            return refuse(why, why_size, "the saved state ends in its section %u", i);
        if (i == 0) {
            if (!common_fits(m, &f, why, why_size)) return false;
        } else if (strcmp(f.s.name, "ram") == 0) {
            if (!ram_fits(m, &f, why, why_size)) return false;
            ram = f;
        } else {
            int k = part_fits(part, n, &f, why, why_size);
            if (k < 0) return false;
            if (data[k])
                return refuse(why, why_size, "the saved state has \"%s\" %u twice", f.s.name, f.s.index);
            data[k] = f.data;
        }
    }
    for (unsigned i = 0; i < n; i++)
        if (!data[i])
            return refuse(why, why_size, "the saved machine has no \"%s\" %u, which this one has",
                          part[i].name, part[i].index);
    if (!ram.data) return refuse(why, why_size, "the saved state has no memory in it");
    if (!states_fit(m, part, n, data, why, why_size)) return false;

    for (unsigned i = 0; i < n; i++) memcpy(part[i].data, data[i], part[i].size);
    load_ram(m, &ram);
    m->request = (struct machine_request){.what = MACHINE_RUN};
    machine_loaded(m);
    return true;
}
