#include "frontend/state_file.h"

#include <stdlib.h>
#include <string.h>

#include "devices/machine_state.h"
#include "frontend/container.h"

#define DEVICES_VERSION 1
#define NAMES_MAX       1024
#define COUNTS_VERSION  1
#define STATE_VERSION   1 // of the whole; its parts have versions of their own

// The devices that were added, by name, in order: some have no state, so nothing else would miss them.
static void name_devices(const struct machine_config *c, char *names, size_t n)
{
    size_t at = 0;
    names[0] = 0;
    for (unsigned i = 0; i < c->devices && at < n; i++)
        at += (size_t)snprintf(names + at, n - at, "%s%s", i ? ", " : "", c->device[i].row->name);
}

static bool devices_fit(const struct machine *m, struct container_in *c, char *why, size_t n)
{
    char here[NAMES_MAX];
    u64 size;
    name_devices(&m->config, here, sizeof here);
    u8 *there = container_take(c, "devices", DEVICES_VERSION, NAMES_MAX, &size, why, n);
    if (!there) return false;
    bool good = strcmp((const char *)there, here) == 0;
    for (u64 i = 0; i < size; i++) // it may come from anywhere, and is printed
        if (there[i] && (there[i] < ' ' || there[i] > '~')) there[i] = '?';
    if (!good)
        snprintf(why, n, "%s: the saved machine has added devices: %s; this one: %s (-device)", c->path,
                 size ? (const char *)there : "none", *here ? here : "none");
    free(there);
    return good;
}

bool state_file_save(struct journal *j, const char *path, char *why, size_t n)
{
    struct state_bytes state = {0};
    struct container_out c;
    bool good =
        machine_state_save(j->m, &state, why, n) && container_create(&c, path, CONTAINER_STATE, why, n);
    if (good) {
        const u64 counts[2] = {j->at.units, j->at.retired}; // used before the machine's last reset
        char names[NAMES_MAX];
        name_devices(&j->m->config, names, sizeof names);
        container_put(&c, "devices", DEVICES_VERSION, names, strlen(names));
        container_put(&c, "counts", COUNTS_VERSION, counts, sizeof counts);
        container_put(&c, "machine", STATE_VERSION, state.at, state.size);
        good = container_finish(&c, why, n);
    }
    state_bytes_free(&state);
    return good;
}

static bool load(struct journal *j, struct container_in *c, char *why, size_t n)
{
    u64 counts[2], counts_size = 0, size = 0;
    char line[384];
    // every page with its number, and the parts, of which no machine has so much
    u64 most = j->m->phys.ram_size + j->m->phys.ram_size / PAGE_SIZE * 8 + (256ull << 20);
    if (!devices_fit(j->m, c, why, n)) return false;
    u8 *counted = container_take(c, "counts", COUNTS_VERSION, sizeof counts, &counts_size, why, n);
    u8 *state = counted ? container_take(c, "machine", STATE_VERSION, most, &size, why, n) : NULL;
    bool good = state != NULL; // and with that all of the file was looked at
    if (good && counts_size != sizeof counts) {
        snprintf(why, n, "%s: its counts are not two", c->path);
        good = false;
    }
    if (good) memcpy(counts, counted, sizeof counts);
    if (good && (counts[0] >= CLOCK_END || counts[1] >= CLOCK_END)) {
        snprintf(why, n, "%s: its counts cannot be", c->path);
        good = false;
    }
    if (good && !machine_state_load(j->m, state, size, line, sizeof line)) {
        snprintf(why, n, "%s: %s", c->path, line);
        good = false;
    }
    if (good) j->at.units = counts[0], j->at.retired = counts[1];
    free(counted);
    free(state);
    return good;
}

bool state_file_load(struct journal *j, const char *path, char *why, size_t n)
{
    struct container_in c;
    if (!container_open(&c, path, CONTAINER_STATE, why, n)) return false;
    bool good = load(j, &c, why, n);
    container_close(&c);
    return good;
}

bool state_file_load_bytes(struct journal *j, const u8 *data, u64 size, const char *path, char *why, size_t n)
{
    struct container_in c = {.path = path};
    return container_of_bytes(&c, data, size, CONTAINER_STATE, why, n) && load(j, &c, why, n);
}
