// Instruction bytes in every mode, with random registers, system state and tables: the threaded engine, the
// loop and an engine that keeps forgetting what is derived agree on all state, on memory and on every access
// to ports and devices. Nothing stops the program.
//
// Input: mode, kind, engine, handler; a count and changes of state; a count and changes of memory; the code.
#include "tests/fuzz/fuzz.h"
#include "tests/vmx_machine.h"

enum { RAM = 1 << 20, PT = 0xB0000, PD = 0xB1000, PDPT = 0xB2000, PML4 = 0xB3000, PML5 = 0xB4000 };
enum { PD32 = 0xB5000, PT32 = 0xB6000, PDPT_PAE = 0xB7000, EPT_PT = 0xB8000, EPT_PD = 0xB9000 };

enum mode { // of the code that begins
    REAL,
    PROT16,
    PROT32,
    PAGED16,
    PAGED32,
    PAE32,
    V86,
    V86_PAGED,
    LONG64,
    LONG57,
    COMPAT16,
    COMPAT32,
    MODES
};

struct side { // one engine's processor, and all that it does to its surroundings
    struct phys p;
    struct vcpu *v;
    u64 seen; // a hash of the accesses, which decides what they read
    int interrupt;
    bool down;
};

static u64 mix(u64 h, u64 x) { return (h ^ x) * 0x9E3779B97F4A7C15ull + (h >> 31); }
static u64 seen(struct side *s, u64 what, u64 where, u64 value)
{
    s->seen = mix(mix(mix(s->seen, what), where), value);
    return s->seen >> 7;
}
static u64 mmio_read(void *o, unsigned cpu, paddr a, unsigned n) { return seen(o, n, a, 0); }
static void mmio_write(void *o, unsigned cpu, paddr a, unsigned n, u64 x) { seen(o, 16 + n, a, x); }
static const struct phys_ops memory = {mmio_read, mmio_write};

static u64 port_read(void *o, unsigned cpu, u16 port, unsigned n)
{
    return seen(o, 32 + n, port, 0) & (n == 4 ? 0xFFFFFFFF : BIT(8 * n) - 1);
}
static void port_write(void *o, unsigned cpu, u16 port, unsigned n, u64 x) { seen(o, 48 + n, port, x); }
static int ack(void *o, unsigned cpu) { return ((struct side *)o)->interrupt; }
static u8 tpr_get(void *o, unsigned cpu) { return (u8)(seen(o, 64, 0, 0) & 0xF0); }
static void tpr_set(void *o, unsigned cpu, u8 x) { seen(o, 65, 0, x); }
static bool board_msr_read(void *o, unsigned cpu, u32 msr, u64 *x)
{
    *x = seen(o, 66, msr, 0);
    return *x & 1;
}
static bool board_msr_write(void *o, unsigned cpu, u32 msr, u64 x) { return seen(o, 67, msr, x) & 1; }
static void down(void *o, unsigned cpu, const char *why) { ((struct side *)o)->down = true; }
static void init_taken(void *o, unsigned cpu) { seen(o, 68, 0, 0); }
static const struct cpu_board_ops board = {.port_read = port_read,
                                           .port_write = port_write,
                                           .intr_ack = ack,
                                           .tpr_get = tpr_get,
                                           .tpr_set = tpr_set,
                                           .msr_read = board_msr_read,
                                           .msr_write = board_msr_write,
                                           .shutdown = down,
                                           .init_taken = init_taken};

struct fuzz {
    struct cpu_features features;
    struct side side[3]; // threaded, loop, forgetful
    u8 *blank;           // memory as every input finds it
};

// ---- memory and state that every input begins with ----

static void put64(struct side *s, paddr a, u64 x) { memcpy(s->p.ram + a, &x, 8); }
static void put32(struct side *s, paddr a, u32 x) { memcpy(s->p.ram + a, &x, 4); }

static void tables(struct side *s)
{
    struct vmx_machine m = {.v = s->v, .phys = s->p};
    m_tables(&m);
    for (unsigned i = 0; i < 256; i++) { // real mode's vectors lead to the same stubs
        u16 e[2] = {(u16)(16 * i), M_STUBS >> 4};
        memcpy(s->p.ram + 4 * i, e, 4);
        put64(s, PT + 8 * i, (u64)i << 12 | 0x67);
        put32(s, PT32 + 4 * i, i << 12 | 0x67);
        put64(s, EPT_PT + 8 * i, (u64)i << 12 | 0x37);
    }
    put64(s, PD, PT | 0x67), put64(s, PDPT, PD | 0x67), put64(s, PML4, PDPT | 0x67),
        put64(s, PML5, PML4 | 0x67);
    for (unsigned i = 1; i < 4; i++) put64(s, PD + 8 * i, (u64)i << 21 | 0xE7);
    put32(s, PD32, PT32 | 0x67), put32(s, PD32 + 4, 0x4000E7);
    put64(s, PDPT_PAE, PD | 1);
    put64(s, M_EPT, (M_EPT + 0x1000) | 7), put64(s, M_EPT + 0x1000, EPT_PD | 7);
    put64(s, EPT_PD, EPT_PT | 7);
    static const u64 gdt[] = {// 28h: code and data of each width and level, an LDT, gates
                              0x00CF9B000000FFFF, 0x00009B000000FFFF, 0x000093000000FFFF, 0x00CFFB000000FFFF,
                              0x00CFF3000000FFFF, 0x00AFFB000000FFFF, 0x00008200000000FF, 0x0000EC0300080000,
                              0x0000000000000000, 0x0000E50000180000};
    for (unsigned i = 0; i < ARRAY_LEN(gdt); i++) put64(s, M_GDT + 0x28 + 8 * i, gdt[i]);
    put64(s, M_TSS + 4, M_STACK - 0x400);
    put32(s, M_TSS + 8, 16);
    put64(s, M_TSS + 0x24, M_STACK - 0x600);
    put32(s, M_TSS + 0x64, 0x68u << 16);
    memcpy(s->p.ram + M_HOST, I_VMRESUME "\xF4", 4);
}

static void gates(struct side *s, bool wide, u16 selector)
{
    for (unsigned i = 0; i < 256; i++) {
        u64 at = M_STUBS + 16 * i;
        u64 gate = (at & 0xFFFF) | (u64)selector << 16 | (at >> 16) << 48 |
                   (u64)(0x8E00 | (i == 3 || i >= 0x80 ? 0x6000 : 0)) << 32;
        put64(s, M_IDT + (wide ? 16 : 8) * i, gate);
        if (wide) put64(s, M_IDT + 16 * i + 8, 0);
    }
}

static const u8 *handler(unsigned kind, bool wide)
{
    static const u8 halt[] = {0xF4, 0xF4, 0xF4, 0xF4}, iret[] = {0x48, 0xCF, 0xF4, 0xF4},
                    near[] = {0xCF, 0xF4, 0xF4, 0xF4}, err[] = {0x58, 0xCF, 0xF4, 0xF4},
                    skip[] = {0x48, 0xFF, 0x04, 0x24}; // add one to RIP, and go on into the HLT
    switch (kind) {
    case 0: return halt;
    case 1: return wide ? iret : near;
    case 2: return err;
    default: return skip;
    }
}

static void mode_of(struct side *p, enum mode mode, unsigned cpl)
{
    struct vcpu_state *s = &p->v->s;
    bool lng = mode >= LONG64, v86 = mode == V86 || mode == V86_PAGED;
    bool paged = mode >= PAGED16 && mode != V86;
    u32 code = mode == PROT16 || mode == PAGED16 || mode == COMPAT16 ? 0x9B
               : mode == LONG64 || mode == LONG57                    ? 0xA09B
                                                                     : 0xC09B;
    u32 data = code == 0x9B ? 0x93 : 0xC093;
    s->cr0 = (mode == REAL ? 0 : CR0_PE) | CR0_ET | CR0_NE | (paged ? CR0_PG | CR0_WP : 0);
    s->cr4 = CR4_VMXE | CR4_OSFXSR | CR4_PSE;
    if (lng || mode == PAE32) s->cr4 |= CR4_PAE;
    if (mode == LONG57) s->cr4 |= CR4_LA57;
    s->msr.efer = lng ? EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE : 0;
    s->cr3 = mode == LONG57 ? PML5 : lng ? PML4 : mode == PAE32 ? PDPT_PAE : PD32;
    for (unsigned i = 0; mode == PAE32 && i < 4; i++) memcpy(&s->pdpte[i], p->p.ram + PDPT_PAE + 8 * i, 8);
    if (v86) cpl = 3;
    u32 dpl = cpl << 5;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        s->seg[i] = (struct segment){.limit = data >> 15 ? 0xFFFFFFFF : 0xFFFF,
                                     .ar = data | dpl,
                                     .sel = (u16)(cpl ? 0x48 | cpl : 0x10)};
    u16 cs = code >> 13 & 1 ? (cpl ? 0x50 : 8) : cpl ? 0x40 : code == 0x9B ? 0x30 : 0x28;
    s->seg[SEG_CS] =
        (struct segment){.limit = s->seg[SEG_DS].limit, .ar = code | dpl, .sel = (u16)(cs | cpl)};
    if (code == 0xA09B) s->seg[SEG_CS].limit = 0xFFFFFFFF;
    s->seg[SEG_TR] = (struct segment){.sel = 24, .base = M_TSS, .limit = 0x2067, .ar = 0x8B};
    s->seg[SEG_LDTR] = (struct segment){.ar = AR_UNUSABLE};
    s->gdtr = (struct dtable){.base = M_GDT, .limit = 0x7F};
    s->idtr = (struct dtable){.base = M_IDT, .limit = lng ? 0xFFF : 0x7FF};
    s->rip = M_CODE & 0xFFFF, s->gpr[RSP] = M_STACK - 0x800;
    s->rflags = 2 | (v86 ? FL_VM | FL_IOPL : 0);
    if (mode == REAL || v86) {
        if (!v86) s->idtr = (struct dtable){.limit = 0x3FF};
        for (unsigned i = SEG_ES; i <= SEG_GS; i++)
            s->seg[i] = (struct segment){.limit = 0xFFFF, .ar = v86 ? 0xF3 : 0x93};
    }
    if (mode == REAL || v86)
        s->seg[SEG_CS].sel = M_CODE >> 4, s->seg[SEG_CS].base = M_CODE, s->rip = 0;
    else if (code == 0x9B)
        s->seg[SEG_CS].base = M_CODE, s->rip = 0;
    else
        s->rip = M_CODE;
    gates(p, lng, lng ? 8 : 0x28);
}

// In VMX non-root operation, as an entry would have left it; back out of it with VMRESUME, again and again.
static void guest_of(struct side *p, struct input *in, bool lng)
{
    struct vmx_machine m = {.v = p->v, .phys = p->p};
    struct vcpu_state *s = &p->v->s;
    const struct vmx_caps *c = vmx_capabilities(p->v);
    struct vcpu_state root = *s;
    u32 pin = (u32)take(in, 1) << 3, proc = (u32)take(in, 4), proc2 = (u32)take(in, 4);
    m.v->s.vmx.vmcs_pointer = VMX_NO_POINTER;
    m_root_state(&m); // what the exit goes back to
    m_vmcs_64(&m);
    s->units = root.units;
    bool paged = root.cr0 & CR0_PG;
    proc |= PROC_ACTIVATE_SECONDARY_CONTROLS;
    proc2 &= (u32)c->allowed1[GROUP_PROC2];
    if (!paged || proc2 & PROC2_UNRESTRICTED_GUEST) proc2 |= PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST;
    proc = (proc | (u32)c->true_allowed0[GROUP_PROC]) & (u32)c->allowed1[GROUP_PROC];
    pin = (pin | (u32)c->true_allowed0[GROUP_PIN]) & (u32)c->allowed1[GROUP_PIN];
    if (!(pin & PIN_NMI_EXITING)) pin &= ~(u32)PIN_VIRTUAL_NMIS;
    if (!(pin & PIN_VIRTUAL_NMIS)) proc &= ~(u32)PROC_NMI_WINDOW_EXITING;
    m_write(&m, VMCS_PIN_BASED_CONTROLS, pin);
    m_write(&m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc);
    m_write(&m, VMCS_SECONDARY_PROC_BASED_CONTROLS, proc2);
    u32 entry = (u32)m_read(&m, VMCS_VM_ENTRY_CONTROLS);
    if (!lng) m_write(&m, VMCS_VM_ENTRY_CONTROLS, entry & ~(u32)ENTRY_IA32E_MODE_GUEST);
    m_write(&m, VMCS_EPTP, M_EPT | 6 | 3 << 3 | (proc2 >> 24 & 1 ? 64 : 0));
    m_write(&m, VMCS_VPID, proc2 & PROC2_ENABLE_VPID ? 7 : 0);
    m_write(&m, VMCS_EXCEPTION_BITMAP, take(in, 4));
    m_write(&m, VMCS_ADDRESS_OF_IO_BITMAP_A, M_BITMAP);
    m_write(&m, VMCS_ADDRESS_OF_IO_BITMAP_B, M_BITMAP + 0x1000);
    m_write(&m, VMCS_ADDRESS_OF_MSR_BITMAPS, M_BITMAP + 0x2000);
    m_write(&m, VMCS_VIRTUAL_APIC_ADDRESS, M_VAPIC);
    m_write(&m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 100);
    root.vmx = s->vmx;
    *s = root;
    s->vmx.on = s->vmx.guest = true;
    s->vmx.vmxon_pointer = M_VMXON, s->vmx.vmcs_pointer = M_VMCS;
    put32(p, M_VMCS + 8, VMCS_LAUNCH_LAUNCHED);
    s->vmx.vpid = proc2 & PROC2_ENABLE_VPID ? 7 : 0;
    s->vmx.eptp = proc2 & PROC2_ENABLE_EPT ? m_read(&m, VMCS_EPTP) : 0;
    s->cr0 |= CR0_NE, s->cr4 |= CR4_VMXE;
}

// ---- what the input changes ----

static u64 canonical(u64 x) { return (u64)((s64)(x << 16) >> 16); }

static void change_state(struct vcpu *v, struct input *in)
{
    struct vcpu_state *s = &v->s;
    unsigned what = below(in, 40);
    u64 x = take_number(in);
    bool real = !(s->cr0 & CR0_PE) || s->rflags & FL_VM;
    switch (what) {
    default: s->gpr[what & 15] = x; break; // 0 to 15
    case 16:                               // low flags; VM is the mode's
        s->fl = fl_pack(x);
        s->rflags = (s->rflags & FL_VM) | (x & 0x3C7F00 & ~(u64)FL_ARITH) | 2;
        if (s->rflags & FL_VM) s->rflags |= FL_IOPL * (x & 1);
        break;
    case 17: s->cr0 = (s->cr0 & ~0x5000Eull) | (x & 0x5000E); break; // AM, WP, TS, EM, MP
    case 18: {                                                       // what may change without another mode
        u64 may = cr4_valid_mask(v) & ~(u64)(CR4_PAE | CR4_LA57 | CR4_PCIDE | CR4_VMXE);
        s->cr4 = (s->cr4 & ~may) | (x & may);
        break;
    }
    case 19: s->mxcsr = x & 0xFFFF; break;
    case 20: s->fpu.fcw = (u16)((x & 0x1F3F) | 0x40); break;
    case 21: s->fpu.fsw = (u16)x, s->fpu.ftw = (u16)(x >> 16); break;
    case 22: s->fpu.r[x & 7].m = take(in, 8), s->fpu.r[x & 7].se = (u16)take(in, 2); break;
    case 23: s->xmm[x & 15][0] = take(in, 8), s->xmm[x & 15][1] = take(in, 8); break;
    case 24: s->dr[x & 3] = take(in, 8); break;
    case 25: s->dr[7] = (x & 0xFFFF2BFF) | 0x400; break;
    case 26: s->blocking = x & (BLOCKING_BY_STI | BLOCKING_BY_NMI); break;
    case 27:
        if (!real) s->seg[x % 6 == SEG_CS ? SEG_ES : x % 6].limit = (u32)(x >> 3) | 0xFFF;
        break;
    case 28: {
        unsigned i = x & 1 ? SEG_FS : SEG_GS;
        if (!(s->rflags & FL_VM))
            s->seg[i].base = canonical(x >> 1) & (s->msr.efer & EFER_LMA ? ~0ull : 0xFFFFFFFF);
        break;
    }
    case 29: {
        unsigned i = x & 1 ? SEG_ES : SEG_DS;
        if (!real) s->seg[i].ar = (s->seg[i].ar & ~6u) | (x & 6);
        break;
    }
    case 30: s->msr.sysenter_cs = x & 0xFFFF; break;
    case 31: s->msr.lstar = canonical(x), s->msr.star = (u64)0x0038000800000000 ^ (x & 0x18) << 32; break;
    case 32: s->msr.sysenter_eip = canonical(x) & (s->msr.efer & EFER_LMA ? ~0ull : 0xFFFFFFFF); break;
    case 33: s->pkru = (u32)x; break;
    case 34:
        s->xcr0 = (x & xcomponents_user(v->features)) | 1;
        if (!(s->xcr0 & XCOMP_SSE)) s->xcr0 &= ~(u64)XCOMP_AVX;
        break;
    case 35: s->nmi_pending = x & 1; break;
    case 36: s->intr_line = x & 1; break;
    case 37: s->dr[6] = (x & 0xE00F) | 0xFFFF0FF0; break;
    case 38: s->gdtr.limit = x & 0xFFFF; break;
    case 39: s->gpr[RSP] = x; break;
    }
}

static void change_memory(struct side *p, struct input *in)
{
    static const struct {
        u32 at, slots;
    } region[] = {
        {M_GDT, 16},   {M_IDT, 256},    {M_TSS, 16},
        {PT, 256},     {PT32, 128},     {EPT_PT, 256},
        {PD, 4},       {PD32, 2},       {PML4, 2},
        {PDPT_PAE, 4}, {M_BITMAP, 256}, {M_BITMAP + 0x2000, 256},
        {M_VAPIC, 64}, {M_DATA, 64},    {M_STACK - 0x800, 16},
        {M_VMCS, 256}, {EPT_PD, 2},     {M_MSR_AREA, 16},
    };
    unsigned r = below(in, ARRAY_LEN(region));
    paddr a = region[r].at + 8 * (take8(in) % region[r].slots);
    u64 x = take_number(in), old;
    memcpy(&old, p->p.ram + a, 8);
    put64(p, a, take8(in) & 1 ? x : old ^ x); // whole, or bits of it
}

// ---- a run ----

static void prepare(struct fuzz *f, struct side *p, struct input in)
{
    struct vcpu_state *s = &p->v->s;
    enum mode mode = below(&in, MODES);
    unsigned kind = take8(&in); // 1:0 CPL; 2 guest; 3 the code ends a page; 5:4 handlers
    take8(&in);                 // the engines'
    bool lng = mode >= LONG64;
    memcpy(p->p.ram, f->blank, RAM);
    vcpu_reset(p->v, false);
    p->seen = 1, p->interrupt = kind, p->down = false;
    for (unsigned i = 0; i < 256; i++) {
        bool code = i == 8 || (i >= 10 && i <= 14) || i == 17;
        unsigned h = kind >> 4 & 3;
        memcpy(p->p.ram + M_STUBS + 16 * i, handler(code && h == 1 ? 2 : h, lng), 4);
    }
    mode_of(p, mode, mode == REAL ? 0 : (kind & 1) * 3);
    if (kind & 4) guest_of(p, &in, lng);
    for (unsigned n = below(&in, 16); n; n--) change_state(p->v, &in);
    for (unsigned n = below(&in, 16); n; n--) change_memory(p, &in);
    u64 at = kind & 8 ? 0xFFC : 0;
    s->rip += at;
    size_t n = (size_t)(in.end - in.at);
    if (n > 512) n = 512;
    memcpy(p->p.ram + M_CODE + at, in.at, n);
    memset(p->p.ram + M_CODE + at + n, 0xF4, 32);
    cpu_loaded(p->v);
}

static void run(struct side *p, struct input in)
{
    take(&in, 2);
    unsigned how = take8(&in);
    for (unsigned k = 0; k < 4 && !p->down; k++) {
        if (how >> (2 * k) & 1) {
            switch (how >> 6) {
            case 0: cpu_signal(p->v, CPU_SIGNAL_NMI, 0); break;
            case 1: cpu_signal(p->v, CPU_SIGNAL_INTR_ON, 0); break;
            case 2: cpu_signal(p->v, CPU_SIGNAL_INIT, 0); break;
            default: cpu_signal(p->v, CPU_SIGNAL_SIPI, 0x10);
            }
        }
        enum run_exit why = vcpu_run(p->v, 40 + 60 * k);
        seen(p, 100 + why, p->v->s.rip, 0);
        const char *bad = cpu_state_impossible(p->v, &p->v->s);
        MUST(!bad, "a state that could not be loaded again: %s", bad);
        if (why == RUN_HALTED && !(how >> (2 * k) & 2)) break;
        cpu_signal(p->v, CPU_SIGNAL_INTR_OFF, 0);
    }
    cpu_signal(p->v, CPU_SIGNAL_INTR_OFF, 0);
}

static void compare(const struct side *a, const struct side *b, const char *name)
{
    if (memcmp(&a->v->s, &b->v->s, sizeof a->v->s)) {
        const u8 *x = (const u8 *)&a->v->s, *y = (const u8 *)&b->v->s;
        size_t i = 0;
        while (x[i] == y[i]) i++;
        MUST(false, "%s: the state differs at byte %zu; rip %#llx, %#llx, units %llu, %llu", name, i,
             (unsigned long long)a->v->s.rip, (unsigned long long)b->v->s.rip,
             (unsigned long long)a->v->s.units, (unsigned long long)b->v->s.units);
    }
    MUST(a->seen == b->seen, "%s: another access to a port or a device", name);
    if (memcmp(a->p.ram, b->p.ram, RAM)) {
        size_t i = 0;
        while (a->p.ram[i] == b->p.ram[i]) i++;
        MUST(false, "%s: memory differs at %#zx", name, i);
    }
}

static struct fuzz *begin(void)
{
    struct fuzz *f = calloc(1, sizeof *f);
    const char *why;
    cpu_features_max(&f->features);
    f->features.feature_control = 5;
    for (unsigned i = 0; i < 3; i++) {
        struct side *p = &f->side[i];
        MUST(phys_init(&p->p, RAM, &why), "%s", why);
        p->p.ops = &memory, p->p.ops_opaque = p;
        p->v = vcpu_new(0, &p->p, &f->features);
        p->v->board = &board, p->v->board_opaque = p;
    }
    f->side[1].v->loop_engine = true;
    f->side[2].v->fuzz_drop = 20;
    tables(&f->side[0]);
    f->blank = malloc(RAM);
    memcpy(f->blank, f->side[0].p.ram, RAM);
    return f;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct fuzz *f;
    if (!f) f = begin();
    struct input in = {data, data + size};
    unsigned third = size > 2 && data[2] & 1 ? 2 : 1; // the forgetful one now and then: it is slow
    for (unsigned i = 0; i <= third; i++) {
        if (i == 1 && third == 2 && !(data[2] & 2)) continue;
        prepare(f, &f->side[i], in);
        run(&f->side[i], in);
        if (i) compare(&f->side[0], &f->side[i], i == 1 ? "loop" : "forgetful");
    }
    return 0;
}
