// A whole machine for a test, and a few bytes of real-mode code for it to run.
#ifndef TESTS_MACHINE_TEST_H
#define TESTS_MACHINE_TEST_H

#include "tests/device_test.h"
#include "devices/machine.h"

static inline struct machine *make_as(struct machine_config config)
{
    struct machine *m = calloc(1, sizeof *m);
    if (!config.features.bits[0]) cpu_features_max(&config.features);
    const char *why = NULL;
    assert_non_null(m);
    if (!machine_init(m, &config, &why)) fail_msg("%s", why);
    return m;
}
static inline void destroy(struct machine *m)
{
    machine_free(m);
    free(m);
}
// Real-mode code at 0:7C00, stack below it.
static inline void start(struct machine *m, const u8 *code, u32 n)
{
    struct vcpu_state *s = &m->cpu[0]->s;
    phys_write(&m->phys, 0, 0x7C00, code, n);
    s->seg[SEG_CS].base = 0;
    s->seg[SEG_CS].sel = 0;
    s->rip = 0x7C00;
    s->gpr[RSP] = 0x7C00;
    cpu_mode_changed(m->cpu[0]);
}
#define START(m, ...) start(m, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

#endif
