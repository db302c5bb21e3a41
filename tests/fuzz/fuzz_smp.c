// Several processors with random programs on the board: they share memory, lock, send each other interrupts,
// NMI, INIT and SIPI, wait in HLT, MONITOR/MWAIT and UMWAIT, write each other's code (by its own address and
// by an alias), change page tables with and without invalidating, move a VMCS about. The threaded engine, the
// loop, one that keeps forgetting what is derived, one that is stopped after every few instructions, and one
// whose state is moved into another machine now and then must end with equal state, memory and reason.
//
// Input: processors, how they begin; seed of the instants; for each processor a count of operations and
// these: which, and its numbers. An operation has a slot of 32 bytes in its processor's page of code; a fault
// goes on in the next slot.
#include "devices/machine_state.h"
#include "devices/state_hash.h"
#include "tests/fuzz/fuzz.h"
#include "tests/machine_test.h"
#include "vmx/vmcs.h"

// clang-format off
enum {
    RAM = 2 << 20, CPUS = 4, SLOT = 32, SLOTS = 4096 / SLOT,
    GDT = 0x1000, IDT = 0x2000, TRAMPOLINE = 0x4000, STUBS = 0x6000, HANDLERS = 0x7000, GDTR = 0x7F00, CODE = 0x8000,
    STACKS = 0x10000, SHARED = 0x20000, SHARED_PAGES = 2, FRAMES = 0x22000, VMX_PAGES = 0x26000,
    PML4 = 0x30000, PDPT = 0x31000, PD = 0x32000, PT = 0x33000, PD_TOP = 0x34000, PT_WINDOW = 0x35000,
    WINDOW = 0x400000, WINDOW_PAGES = 4,
};
enum variant { THREADED, LOOP, FORGETFUL, SLICED, MOVED, VARIANTS };
// clang-format on

struct world {
    struct machine *m[VARIANTS], *spare;
    u8 *blank[STATE_PARTS_MAX], *ram;
    struct state_bytes bytes;
};

// ---- what every input begins with ----

static struct machine *make(unsigned cpus)
{
    struct machine_config c = {.ram_size = RAM, .cpus = cpus};
    cpu_features_max(&c.features);
    c.features.feature_control = 5;
    return make_as(c);
}

static void put(u8 *ram, u32 at, u64 x) { memcpy(ram + at, &x, 8); }

static void tables(u8 *ram)
{
    put(ram, GDT + 8, 0x00AF9B000000FFFF), put(ram, GDT + 16, 0x00CF93000000FFFF);
    for (unsigned i = 0; i < 512; i++) put(ram, PT + 8 * i, (u64)i << 12 | 3);
    put(ram, PML4, PDPT | 3);
    put(ram, PDPT, PD | 3), put(ram, PDPT + 24, PD_TOP | 3);
    put(ram, PD, PT | 3), put(ram, PD + 16, PT_WINDOW | 3);
    put(ram, PD_TOP + 8 * 0x1F7, 0xFEE00000 | 0x9B); // the local APIC
    for (unsigned i = 0; i < WINDOW_PAGES; i++) put(ram, PT_WINDOW + 8 * i, FRAMES | i << 12 | 0x103);
    for (unsigned v = 0; v < 256; v++) {
        u32 at = STUBS + 16 * v;
        put(ram, IDT + 16 * v, (at & 0xFFFF) | 8 << 16 | (u64)0x8E00 << 32);
        bool error = v == 8 || (v >= 10 && v <= 14) || v == 17;
        unsigned n = error ? 4 : 0, to = v == 2 ? 1 : v < 32 ? 0 : 2;
        if (error) memcpy(ram + at, "\x48\x83\xC4\x08", 4); // add rsp, 8
        u32 far = HANDLERS + 0x40 * to - (at + n + 5);
        ram[at + n] = 0xE9, memcpy(ram + at + n + 1, &far, 4);
    }
    for (unsigned i = 0; i < 6; i++) {
        u32 revision = VMCS_REVISION;
        memcpy(ram + VMX_PAGES + i * 0x1000, &revision, 4);
    }
    // cli; flat; lgdt; CR4, CR3, EFER, CR0; ljmp 8:4080
    static const u8 real[] = {0xFA, 0x31, 0xC0, 0x8E, 0xD8, 0x66, 0x0F, 0x01, 0x16, 0x00, 0x7F, 0x66, 0xB8,
                              0xA0, 0x26, 0x00, 0x00, 0x0F, 0x22, 0xE0, 0x66, 0xB8, 0x00, 0x00, 0x03, 0x00,
                              0x0F, 0x22, 0xD8, 0x66, 0xB9, 0x80, 0x00, 0x00, 0xC0, 0x0F, 0x32, 0x66, 0x0D,
                              0x00, 0x01, 0x00, 0x00, 0x0F, 0x30, 0x66, 0xB8, 0x33, 0x00, 0x01, 0x80, 0x0F,
                              0x22, 0xC0, 0x66, 0xEA, 0x80, 0x40, 0x00, 0x00, 0x08, 0x00};
    // data segments; lidt; CPUID 1: ESP and where to by the APIC ID; lock inc dword [SHARED]; jmp rax
    static const u8 wide[] = {0xB8, 0x10, 0x00, 0x00, 0x00, 0x8E, 0xD0, 0x8E, 0xD8, 0x8E, 0xC0,
                              0x0F, 0x01, 0x1C, 0x25, 0x10, 0x7F, 0x00, 0x00, 0xB8, 0x01, 0x00,
                              0x00, 0x00, 0x0F, 0xA2, 0xC1, 0xEB, 0x18, 0xC1, 0xE3, 0x0C, 0x8D,
                              0xA3, 0xF0, 0x0F, 0x01, 0x00, 0x8D, 0x83, 0x00, 0x80, 0x00, 0x00,
                              0xF0, 0xFF, 0x04, 0x25, 0x00, 0x00, 0x02, 0x00, 0xFF, 0xE0};
    memcpy(ram + TRAMPOLINE, real, sizeof real), memcpy(ram + TRAMPOLINE + 0x80, wide, sizeof wide);
    u16 limit[2] = {23, 0xFFF};
    u64 base[2] = {GDT, IDT};
    for (unsigned i = 0; i < 2; i++)
        memcpy(ram + GDTR + 16 * i, &limit[i], 2), memcpy(ram + GDTR + 16 * i + 2, &base[i], 8);
    // A fault: on in the next slot. An NMI. An interrupt: forgets the window's first page, and ends (put by
    // the mode).
    memcpy(ram + HANDLERS, "\x48\x83\x24\x24\xE0\x48\x83\x04\x24\x20\xFF\x04\x25\x10\0\x02\0\x48\xCF", 19);
    memcpy(ram + HANDLERS + 0x40, "\xFF\x04\x25\x14\0\x02\0\x48\xCF", 9);
}

static void wide_state(struct vcpu *v)
{
    struct vcpu_state *s = &v->s;
    s->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP, s->cr3 = PML4;
    s->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_VMXE;
    s->msr.efer = EFER_LME | EFER_LMA;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        s->seg[i] = (struct segment){
            .limit = 0xFFFFFFFF, .ar = i == SEG_CS ? 0xA09B : 0xC093, .sel = i == SEG_CS ? 8 : 16};
    s->gdtr = (struct dtable){.base = GDT, .limit = 23},
    s->idtr = (struct dtable){.base = IDT, .limit = 0xFFF};
    s->rip = CODE + 0x1000 * v->index, s->gpr[RSP] = STACKS + 0x1000 * v->index + 0xFF0;
    s->activity = ACTIVITY_ACTIVE;
}

static struct world *world_of(unsigned cpus)
{
    static struct world *all[CPUS + 1];
    if (all[cpus]) return all[cpus];
    struct world *w = calloc(1, sizeof *w);
    for (unsigned i = 0; i < VARIANTS; i++) w->m[i] = make(cpus);
    w->spare = make(cpus);
    struct state_part part[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(w->m[0], part);
    for (unsigned i = 0; i < n; i++) w->blank[i] = memcpy(malloc(part[i].size), part[i].data, part[i].size);
    w->ram = memcpy(malloc(RAM), w->m[0]->phys.ram, RAM);
    tables(w->ram);
    return all[cpus] = w;
}

// ---- the programs ----

struct slot {
    u8 *at;
    u32 address;
    unsigned n;
};
static void byte(struct slot *s, unsigned x)
{
    if (s->n < SLOT - 2) s->at[s->n++] = (u8)x;
}
static void four(struct slot *s, u32 x)
{
    for (unsigned i = 0; i < 4; i++) byte(s, x >> 8 * i);
}
static void bytes(struct slot *s, const char *text, unsigned n)
{
    for (unsigned i = 0; i < n; i++) byte(s, (u8)text[i]);
}
#define BYTES(s, text) bytes(s, text, sizeof(text) - 1)
static void jump(struct slot *s, u32 to) { four(s, to - (s->address + s->n + 4)); }
static void apic_write(struct slot *s, bool x2apic, u32 reg, u32 x)
{
    if (x2apic) {
        byte(s, 0xB9), four(s, 0x800 + reg / 16); // mov ecx; mov eax; cdq; wrmsr
        byte(s, 0xB8), four(s, x);
        BYTES(s, "\x99\x0F\x30");
    } else {
        BYTES(s, "\x67\xC7\x04\x25"), four(s, 0xFEE00000 + reg), four(s, x); // mov dword [reg], x
    }
}

static u32 shared(struct input *in, unsigned align)
{
    unsigned a = take8(in);
    return SHARED + ((a & 1) << 12) + (a >> 1 & 3) * 64 + ((a >> 3) * 4 & 63 & ~(align - 1)) +
           (a >> 7) * (4096 - 64 - 192);
}
static u32 window(struct input *in)
{
    unsigned a = take8(in);
    return WINDOW + (a & 3) * 4096 + (a >> 2) * 4;
}
static u32 code_byte(struct input *in, unsigned cpus)
{
    unsigned a = take8(in), b = take8(in);
    return CODE + a % cpus * 0x1000 + (b % 24) * SLOT + (a >> 3) % SLOT;
}
static u32 anything(struct input *in, unsigned cpus)
{
    switch (take8(in) % 4) {
    case 0: return window(in);
    case 1: return code_byte(in, cpus);
    case 2: return PT_WINDOW + 8 * below(in, WINDOW_PAGES);
    default: return shared(in, 4);
    }
}

static void operation(struct slot *s, struct input *in, unsigned cpus, bool x2apic)
{
    unsigned what = below(in, 40);
    switch (what) {
    case 0: // mov dword [shared], imm
    case 1: BYTES(s, "\xC7\x04\x25"), four(s, shared(in, 4)), four(s, (u32)take_number(in)); break;
    case 2:
        BYTES(s, "\x8B\x04\x25"), four(s, shared(in, 4)), BYTES(s, "\x01\xC3");
        break;                                                                    // mov eax, []; add ebx, eax
    case 3: BYTES(s, "\xF0\x0F\xC1\x1C\x25"), four(s, shared(in, 1)); break;      // lock xadd [], ebx
    case 4: BYTES(s, "\x87\x0C\x25"), four(s, shared(in, 4)); break;              // xchg [], ecx
    case 5: BYTES(s, "\xF0\x48\x0F\xC7\x0C\x25"), four(s, shared(in, 16)); break; // lock cmpxchg16b []
    case 6:
    case 7:
    case 8: { // an IPI of any kind
        static const u16 kinds[] = {0x4000, 0x4000, 0x4000, 0x4100, 0x4800, 0x4400, 0x4500, 0x4600,
                                    0x4600, 0x4600, 0x4000, 0x4900, 0x8500, 0x4700, 0x4300, 0xC500};
        unsigned k = take8(in), to = take8(in);
        u32 low = kinds[k % ARRAY_LEN(kinds)] | (u32)(k >> 6) << 18;
        low |= (low >> 8 & 7) == 6 ? TRAMPOLINE >> 12 : 0x20 + below(in, 0xE0);
        u32 who = to < 200 ? low >> 11 & 1 ? 1u << to % cpus : to % cpus : to;
        if (x2apic) {
            byte(s, 0xB9), four(s, 0x830), byte(s, 0xB8), four(s, low), byte(s, 0xBA), four(s, who);
            BYTES(s, "\x0F\x30");
        } else {
            apic_write(s, false, 0x310, who << 24);
            apic_write(s, false, 0x300, low);
        }
        break;
    }
    case 9: // monitor and mwait
    case 10: {
        u32 at = shared(in, 4);
        unsigned how = take8(in);
        byte(s, 0xB8), four(s, at), BYTES(s, "\x31\xC9\x31\xD2\x0F\x01\xC8");
        if (how & 2) BYTES(s, "\xFF\x00"); // inc dword [rax]
        BYTES(s, "\x31\xC0\xB1"), byte(s, how & 1),
            BYTES(s, "\x0F\x01\xC9"); // xor eax, eax; mov cl, imm; mwait
        break;
    }
    case 11: BYTES(s, "\xFB\xF4"); break; // sti; hlt
    case 12: BYTES(s, "\xFB\x90"); break;
    case 13: byte(s, 0xFA); break;
    case 14: BYTES(s, "\xF3\x90"); break;
    case 15: // mov byte [code], imm
    case 16: BYTES(s, "\xC6\x04\x25"), four(s, code_byte(in, cpus)), byte(s, take8(in)); break;
    case 17: BYTES(s, "\xC7\x04\x25"), four(s, code_byte(in, cpus)), four(s, (u32)take(in, 4)); break;
    case 18: // an entry of the window's page table: to a frame, to the code of somebody, absent, read-only
    case 19: {
        static const u32 flags[] = {0x3, 0x103, 0x63, 0x1, 0, 0x101, 0x23, 0x43};
        unsigned e = take8(in), f = take8(in);
        u32 to = f & 8 ? CODE + (f >> 4) % cpus * 0x1000 : f & 16 ? SHARED : FRAMES + ((f >> 5 & 3) << 12);
        BYTES(s, "\x48\xC7\x04\x25"), four(s, PT_WINDOW + 8 * (e & 3)), four(s, to | flags[f & 7]);
        if (e & 4) BYTES(s, "\x0F\x01\x3C\x25"), four(s, WINDOW + ((e & 3) << 12)); // invlpg
        if (e & 8) BYTES(s, "\x0F\x20\xD8\x0F\x22\xD8"); // mov rax, cr3; mov cr3, rax
        break;
    }
    case 20: BYTES(s, "\x0F\x01\x3C\x25"), four(s, window(in)); break;
    case 21: BYTES(s, "\x0F\x20\xD8\x0F\x22\xD8"); break;
    case 22: BYTES(s, "\x8B\x04\x25"), four(s, window(in)), BYTES(s, "\x01\xC3"); break;
    case 23: BYTES(s, "\x89\x1C\x25"), four(s, window(in)); break;
    case 24:
    case 25: // dec r15d; jnz slot
        BYTES(s, "\x41\xFF\xCF\x0F\x85"),
            jump(s, CODE + ((s->address - CODE) & 0x3000) + below(in, 24) * SLOT);
        break;
    case 26: // until somebody writes another value
        BYTES(s, "\x80\x3C\x25"), four(s, shared(in, 1)), byte(s, take8(in) & 3),
            BYTES(s, "\xF3\x90\x74\xF4");
        break;
    case 27: BYTES(s, "\x0F\x31\x01\xC3"); break; // rdtsc
    case 28: apic_write(s, x2apic, 0xB0, 0); break;
    case 29: { // the timer
        unsigned how = take8(in);
        apic_write(s, x2apic, 0x320, (how & 1 ? 0x20000u : 0) | 0x50);
        apic_write(s, x2apic, 0x380, 50 + 40 * (how >> 1));
        break;
    }
    case 30: // its TSC deadline: rdtsc; add eax, imm; mov ecx, 6E0h; wrmsr, with LVT as it is
        BYTES(s, "\x0F\x31\x05"), four(s, (u32)take(in, 2) & 0x3FFF), BYTES(s, "\xB9\xE0\x06\0\0\x0F\x30");
        break;
    case 31: // into somebody's code
        byte(s, 0xE9), jump(s, CODE + below(in, cpus) * 0x1000 + below(in, 24) * SLOT);
        break;
    case 32: // into code behind the window
        byte(s, 0xE9), jump(s, WINDOW + below(in, WINDOW_PAGES) * 0x1000 + below(in, 24) * SLOT);
        break;
    case 33: // rep movsd, rep stosb
        byte(s, 0xBE), four(s, anything(in, cpus)), byte(s, 0xBF), four(s, anything(in, cpus)), byte(s, 0xB9);
        four(s, take8(in) & 63), BYTES(s, "\xF3\xA5");
        break;
    case 34:
        byte(s, 0xBF), four(s, anything(in, cpus)), byte(s, 0xB9), four(s, take8(in)),
            BYTES(s, "\xB0\x90\xF3\xAA");
        break;
    case 35: { // umonitor; umwait, or tpause
        unsigned how = take8(in);
        byte(s, 0xB8), four(s, shared(in, 4));
        BYTES(s, "\xF3\x0F\xAE\xF0\x0F\x31\x05"), four(s, (u32)how * 8), BYTES(s, "\x31\xC9");
        byte(s, how & 1 ? 0xF2 : 0x66), BYTES(s, "\x0F\xAE\xF1");
        break;
    }
    case 36: { // whatever bytes
        for (unsigned n = below(in, 16); n; n--) byte(s, take8(in));
        break;
    }
    case 37: {
        static const char some[8][6] = {"\x0F\x01\xE8", "\x0F\xA2", "\x0F\x09",     "\x0F\xAE\xF0",
                                        "\x0F\x20\xE0", "\x0F\x31", "\x0F\x01\xF9", "\x0F\x06"};
        unsigned how = take8(in);
        for (unsigned i = 0; i < 6 && some[how & 7][i]; i++) byte(s, (u8)some[how & 7][i]);
        if (how & 8) BYTES(s, "\x0F\x20\xE0\x34\x80\x0F\x22\xE0"); // CR4.PGE the other way
        if (how & 16) BYTES(s, "\xB8"), four(s, how >> 5), BYTES(s, "\x44\x0F\x22\xC0"); // CR8
        break;
    }
    case 38: { // vmxon, vmclear, vmptrld, vmptrst, vmread, vmwrite, vmlaunch, vmxoff
        unsigned how = take8(in);
        u32 page = VMX_PAGES + (how >> 4) % 6 * 0x1000;
        BYTES(s, "\x68"), four(s, page), BYTES(s, "\x90");
        switch (how & 7) {
        case 0:
        case 1: BYTES(s, "\xF3\x0F\xC7\x34\x24"); break;
        case 2: BYTES(s, "\x66\x0F\xC7\x34\x24"); break;
        case 3: BYTES(s, "\x0F\xC7\x34\x24"); break;
        case 4: BYTES(s, "\x0F\xC7\x3C\x24"); break;
        case 5:
            BYTES(s, "\xB9"), four(s, 0x6800 + 2 * (how >> 4)), BYTES(s, "\x0F\x78\xC8\x0F\x79\xCB");
            break;
        case 6: BYTES(s, "\x0F\x01\xC2"); break;
        default: BYTES(s, "\x0F\x01\xC4"); break;
        }
        BYTES(s, "\x58");
        break;
    }
    default: // mov dword [anything], imm; lock inc of it
        BYTES(s, "\xC7\x04\x25"), four(s, anything(in, cpus)), four(s, (u32)take_number(in));
        BYTES(s, "\xF0\xFF\x04\x25"), four(s, anything(in, cpus));
        break;
    }
}

static void program(u8 *ram, unsigned cpu, unsigned cpus, bool x2apic, struct input *in)
{
    unsigned n = 1 + below(in, 24);
    for (unsigned k = 0; k < SLOTS; k++) {
        struct slot s = {ram + CODE + cpu * 0x1000 + k * SLOT, CODE + cpu * 0x1000 + k * SLOT, 0};
        if (k < n)
            operation(&s, in, cpus, x2apic);
        else
            byte(&s, 0xE9), jump(&s, CODE + cpu * 0x1000);
        s.at[s.n] = 0xEB, s.at[s.n + 1] = (u8)(SLOT - 2 - s.n); // to the next one
    }
}

// ---- a run ----

struct how {
    unsigned cpus, flags, budget;
    u64 seed;
};

static void prepare(struct world *w, struct machine *m, struct how h, struct input in)
{
    struct state_part part[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(m, part);
    bool x2apic = h.flags & 1;
    for (unsigned i = 0; i < n; i++) memcpy(part[i].data, w->blank[i], part[i].size);
    for (paddr a = 0; a < RAM; a += PAGE_SIZE)
        phys_mark_dirty(&m->phys, a); // what never is written, is not saved
    memcpy(m->phys.ram, w->ram, RAM);
    m->request = (struct machine_request){.what = MACHINE_RUN};
    u8 *irq = m->phys.ram + HANDLERS + 0x80; // inc dword [SHARED + 18h]; invlpg [WINDOW]; EOI; iretq
    memcpy(irq, "\xFF\x04\x25\x18\0\x02\0\x0F\x01\x3C\x25\0\0\x40\0", 15);
    if (x2apic)
        memcpy(irq + 15, "\x50\x51\x52\x31\xC0\x31\xD2\xB9\x0B\x08\0\0\x0F\x30\x5A\x59\x58\x48\xCF", 19);
    else
        memcpy(irq + 15, "\x67\xC7\x04\x25\xB0\0\xE0\xFE\0\0\0\0\x48\xCF", 14);
    for (unsigned i = 0; i < h.cpus; i++) program(m->phys.ram, i, h.cpus, x2apic, &in);
    for (unsigned i = 0; i < h.cpus; i++) {
        if (i && h.flags >> (4 + i) & 1) continue; // waits for a SIPI
        wide_state(m->cpu[i]);
        m->cpu[i]->s.gpr[R15] = 20;
        if (h.flags & 2) m->cpu[i]->s.rflags |= FL_IF;
    }
    machine_loaded(m);
    for (unsigned i = 0; i < h.cpus; i++) {
        struct lapic *l = &m->lapic[i];
        if (x2apic) lapic_msr_write(l, 0x1B, l->st.apic_base | 0x400);
        l->st.svr |= 0x100, l->st.ldr = x2apic ? l->st.ldr : 0x1000000u << i;
    }
    machine_loaded(m);
}

static enum machine_end run_to(struct world *w, enum variant variant, u64 until, u64 *random)
{
    for (;;) {
        struct machine *m = w->m[variant];
        u64 done = machine_units(m), slice = until - done;
        if (done >= until) return MACHINE_RUN;
        *random = *random * 6364136223846793005ull + 1442695040888963407ull;
        if (variant == SLICED) slice = *random >> 40 & 31 ? 1 + (*random >> 33) % 40 : slice;
        if (variant == MOVED) slice = 1 + (*random >> 33) % (until / 2);
        if (slice > until - done) slice = until - done;
        enum machine_end end = machine_run(m, slice);
        if (end != MACHINE_RUN) return end;
        if (variant != MOVED) continue;
        char why[200];
        MUST(machine_state_save(m, &w->bytes, why, sizeof why), "%s", why);
        MUST(machine_state_load(w->spare, w->bytes.at, w->bytes.size, why, sizeof why), "%s", why);
        w->m[variant] = w->spare, w->spare = m;
    }
}

static void compare(struct machine *a, struct machine *b, const char *name)
{
    struct state_part pa[STATE_PARTS_MAX], pb[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(a, pa);
    machine_state_parts(b, pb);
    for (unsigned i = 0; i < n; i++) {
        bool same = true;
        if (pa[i].owner == STATE_OF_CPU)
            same = state_hash_cpu(a->cpu[pa[i].index]) == state_hash_cpu(b->cpu[pb[i].index]);
        if (pa[i].owner == STATE_OF_DEVICE) same = !memcmp(pa[i].data, pb[i].data, pa[i].size);
        MUST(same, "%s: %s %u differs; rip %#llx, %#llx", name, pa[i].name, pa[i].index,
             pa[i].owner == STATE_OF_CPU ? (unsigned long long)a->cpu[pa[i].index]->s.rip : 0,
             pa[i].owner == STATE_OF_CPU ? (unsigned long long)b->cpu[pa[i].index]->s.rip : 0);
    }
    if (!memcmp(a->phys.ram, b->phys.ram, RAM)) return;
    size_t at = 0;
    while (a->phys.ram[at] == b->phys.ram[at]) at++;
    MUST(false, "%s: memory differs at %#zx", name, at);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static const char *const names[] = {"threaded", "loop", "forgetful", "sliced", "moved"};
    struct input in = {data, data + size};
    struct how h = {.cpus = 2 + below(&in, CPUS - 1), .flags = take8(&in)};
    h.budget = 400 + 16 * take8(&in), h.seed = take8(&in);
    unsigned also = take8(&in);
    struct world *w = world_of(h.cpus);
    enum machine_end end[VARIANTS];
    for (enum variant i = 0; i < VARIANTS; i++) {
        if (i > LOOP && !(also >> (i - FORGETFUL) & 1)) continue; // those are slow
        u64 random = h.seed;
        for (unsigned k = 0; k < h.cpus; k++) {
            w->m[i]->cpu[k]->loop_engine = i == LOOP;
            w->m[i]->cpu[k]->fuzz_drop = i == FORGETFUL ? 30 : 0;
        }
        prepare(w, w->m[i], h, in);
        u64 from = machine_units(w->m[i]);
        for (unsigned k = 1; k <= 2; k++) {
            end[i] = run_to(w, i, from + h.budget * h.cpus * k / 2, &random);
            if (end[i] != MACHINE_RUN) break;
        }
        if (!i) continue;
        MUST(end[i] == end[0], "%s: ends with %d, threaded with %d", names[i], (int)end[i], (int)end[0]);
        compare(w->m[0], w->m[i], names[i]);
    }
    return 0;
}
