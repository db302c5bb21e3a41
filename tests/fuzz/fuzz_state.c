// Saved state of any content: it is refused with a line and nothing is changed, or the machine goes on from
// it without a crash, as far as the state was saved and loaded again to the same bytes.
//
// Input: which machine's state; then changes of its bytes, each with a place.
#include "devices/machine_state.h"
#include "tests/fuzz/fuzz.h"
#include "tests/machine_test.h"
#include "tests/vmx_machine.h"

enum { BASES = 3, PARTS = 64 };

struct base { // a state to begin with, and where in it the parts are
    struct state_bytes bytes;
    struct {
        u64 at, size;
    } part[PARTS];
    unsigned parts;
};
struct world {
    struct machine *m;
    struct base base[BASES];
    struct state_bytes bytes, again;
};

static struct machine *blank(void)
{
    struct machine_config c = {.ram_size = 2 << 20,
                               .cpus = 1,
                               .devices = 4,
                               .device = {device_of("pc-testdev"), device_of("piix3-usb-uhci"),
                                          device_of("isa-debug-exit,iobase=0xf4,iosize=4"),
                                          device_of("isa-debugcon,iobase=0x402")}};
    cpu_features_max(&c.features);
    c.features.feature_control = 5;
    return make_as(c);
}

// Ports are read and written, memory too; interrupts are on.
static const u8 code[] = {
    0xFB,                         // sti
    0xBA, 0x40, 0x00, 0x00, 0x00, // mov edx, 40h (16 bits wide: dx, and add [bx+si], al)
    0xEC, 0xEE,                   // in al, dx; out dx, al
    0xB2, 0x43, 0xB0, 0x34, 0xEE, // counter 0: mode 2
    0xB2, 0x40, 0xB0, 0x90, 0xEE, // its count
    0xEE, 0xB2, 0x60, 0xEC,       // the keyboard's port
    0xB2, 0x21, 0xB0, 0x00, 0xEE, // no mask
    0x0F, 0xA2, 0x0F, 0x31,       // cpuid; rdtsc
    0x50, 0x58, 0xD9, 0xEB,       // push, pop, fldpi
    0xEB, 0xDA,                   // back
};

static void put(struct machine *m, paddr a, const void *p, u64 n) { phys_write(&m->phys, 0, a, p, n); }

static struct machine *running(unsigned kind)
{
    struct machine *m = blank();
    struct vmx_machine x = {.v = m->cpu[0], .phys = m->phys};
    struct vcpu_state *s = &m->cpu[0]->s;
    if (kind == 0) {
        for (unsigned i = 0; i < 256; i++) put(m, 4 * i, "\x00\x7A\x00\x00", 4);
        put(m, 0x7A00, "\xB0\x20\xE6\x20\xCF", 5); // EOI
        start(m, code, sizeof code);
        machine_run(m, 2000);
        return m;
    }
    m_tables(&x);
    for (unsigned i = 0; i < 256; i++) put(m, M_STUBS + 16 * i, "\xB0\x20\xE6\x20\x48\xCF", 6);
    m_root_state(&x);
    put(m, M_CODE, code, sizeof code);
    s->rip = M_CODE;
    if (kind == 2) {
        s->vmx.on = s->vmx.guest = true;
        s->vmx.vmxon_pointer = M_VMXON, s->vmx.vmcs_pointer = M_VMCS;
        m_vmcs_64(&x);
        m_write(&x, VMCS_PRIMARY_PROC_BASED_CONTROLS,
                m_read(&x, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_USE_TSC_OFFSETTING);
        phys_write32(&m->phys, 0, M_VMCS + 8, VMCS_LAUNCH_LAUNCHED);
        put(m, M_HOST, I_VMRESUME "\xF4", 4);
    }
    cpu_loaded(m->cpu[0]);
    machine_run(m, 2000);
    return m;
}

static void find_parts(struct base *b)
{
    for (u64 at = 16, size; at < b->bytes.size && b->parts < PARTS;
         b->parts++) { // the header; name, index, version, size
        memcpy(&size, b->bytes.at + at + 32, 8);
        b->part[b->parts].at = at + 40;
        b->part[b->parts].size = size;
        at += 40 + ((size + 7) & ~7ull);
    }
}

static void begin(struct world *w)
{
    char why[256];
    for (unsigned i = 0; i < BASES; i++) {
        struct machine *m = running(i);
        MUST(machine_state_save(m, &w->base[i].bytes, why, sizeof why), "%s", why);
        find_parts(&w->base[i]);
        destroy(m);
    }
    w->m = blank();
}

static void change(struct world *w, const struct base *b, struct input *in)
{
    unsigned p = below(in, b->parts + 1);
    u64 x = take_number(in), size = 1ull << (take8(in) & 3), at;
    if (p == b->parts)
        at = take(in, 3) % b->bytes.size; // anywhere: the frame too
    else if (!b->part[p].size)
        return;
    else { // mostly near its beginning: the processor's registers come before its TLBs, which are long
        u64 where = take(in, 2);
        at = b->part[p].at + (where & 0x8000 ? where * 7 : where & 0x7FF) % b->part[p].size;
    }
    if (at + size > b->bytes.size) size = b->bytes.size - at;
    memcpy(w->bytes.at + at, &x, size);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct world w;
    if (!w.m) begin(&w);
    struct input in = {data, data + size};
    const struct base *b = &w.base[below(&in, BASES)];
    u64 n = b->bytes.size, cut = take8(&in);
    free(w.bytes.at);
    w.bytes.at = malloc(n); // exactly: what lies behind it is nobody's
    memcpy(w.bytes.at, b->bytes.at, n);
    for (unsigned k = 0; k < 12 && more(&in); k++) change(&w, b, &in);
    if (cut & 0x80) n = n * (cut & 0x7F) / 128;
    char why[256] = "";
    if (!machine_state_load(w.m, w.bytes.at, n, why, sizeof why)) {
        MUST(*why && !strchr(why, '\n'), "refused without a reason, or with more than a line of it");
        return 0;
    }
    MUST(machine_state_save(w.m, &w.again, why, sizeof why), "%s", why);
    for (unsigned k = 0; k < 3; k++)
        if (machine_run(w.m, 500) != MACHINE_RUN) break;
    return 0;
}
