// A debugger's stops (cpu/system/stops.h): where each is, by the places of the instructions in the code
// below; that nothing of it is left in the state: a run with stops ends in the very bytes of one without.
// Every test runs in both engines.
#include "cpu_machine.h"
#include "vmx_machine.h"

#include "cpu/system/stops.h"
#include "devices/state_hash.h"
#include "machine_test.h"

static struct tm *t, *plain;
static struct cpu_stops stops;
static struct cpu_stop list[8];
#define S (t->v->s)

static void ask_vcpu(void *v) { cpu_ask_stop(v); }

static int setup(void **s)
{
    t = tm_new(TM_LONG), plain = tm_new(TM_LONG);
    t->v->loop_engine = plain->v->loop_engine = *s != NULL;
    stops = (struct cpu_stops){.list = list, .stopped = ask_vcpu, .opaque = t->v};
    t->v->stops = &stops;
    return 0;
}
static int teardown(void **s) { return tm_free(t), tm_free(plain), 0; }

static void stop_at(u8 on, u64 at, u64 size)
{
    list[stops.n++] = (struct cpu_stop){.on = on, .at = at, .size = size, .vmcs = VMX_NO_POINTER};
    stops_changed(t->v);
}
static void put(const u8 *code, size_t n)
{
    tm_write(t, CODE, code, n), tm_write(plain, CODE, code, n);
    t->v->s.rip = plain->v->s.rip = CODE;
}
#define PUT(...) put((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

// On to the next stop: why; STOPPED_NOT at a HLT.
static int on(bool step)
{
    cpu_stop_taken(t->v);
    stops_go_on(&stops, t->v, step);
    enum run_exit e = vcpu_run(t->v, 1000000);
    if (e == RUN_HALTED) return STOPPED_NOT;
    assert_int_equal(e, RUN_STOP);
    assert_int_equal(stops.met.cpu, 0);
    assert_int_equal(stops.met.retired, cpu_retired(t->v));
    return stops.met.why;
}
#define EXPECT(what, where) \
    do { \
        assert_int_equal(on(false), what); \
        assert_int_equal(S.rip, where); \
    } while (0)

// To the HLT both, and the same state.
static void same_end(void)
{
    assert_int_equal(on(false), STOPPED_NOT);
    assert_int_equal(vcpu_run(plain->v, 1000000), RUN_HALTED);
    assert_memory_equal(&t->v->s, &plain->v->s, sizeof t->v->s);
    assert_memory_equal(t->p.ram, plain->p.ram, 1 << 20);
}

static void code(void **state)
{
    // again: inc rax; dec rcx; jnz again; hlt
    PUT(0x48, 0xFF, 0xC0, 0x48, 0xFF, 0xC9, 0x75, 0xF8, 0xF4);
    S.gpr[RCX] = plain->v->s.gpr[RCX] = 3;
    stop_at(STOP_ON_CODE, CODE + 3, 1);
    for (u64 i = 1; i <= 3; i++) {
        EXPECT(STOPPED_CODE, CODE + 3);
        assert_int_equal(S.gpr[RAX], i); // before it
        assert_int_equal(S.gpr[RCX], 4 - i);
        assert_int_equal(stops.met.n, 0);
    }
    same_end();
}

static void not_within_an_instruction(void **state)
{
    PUT(0x48, 0xFF, 0xC0, 0xF4);
    stop_at(STOP_ON_CODE, CODE + 1, 2);
    same_end();
}

// Set while a loop runs at speed: in the page where it is, and in another that it calls by a link.
static void set_late(void **state)
{
    for (unsigned far = 0; far < 2; far++) {
        u64 sub = far ? DATA : CODE + 0x100;
        static const u8 called[] = {0x90, 0x48, 0xFF, 0xC6, 0xC3}; // nop; inc rsi; ret
        tm_write(t, sub, called, sizeof called), tm_write(plain, sub, called, sizeof called);
        PUT(0xFF, 0xD3, 0x48, 0xFF, 0xC9, 0x75, 0xF9, 0xF4); // again: call rbx; dec rcx; jnz again; hlt
        S.activity = plain->v->s.activity = ACTIVITY_ACTIVE;
        cpu_attention(t->v), cpu_attention(plain->v);
        S.gpr[RCX] = plain->v->s.gpr[RCX] = 1000;
        S.gpr[RBX] = plain->v->s.gpr[RBX] = sub;
        stops.n = 0, stops_changed(t->v);
        stops_go_on(&stops, NULL, false);
        cpu_stop_taken(t->v);
        assert_int_equal(vcpu_run(t->v, 2000), RUN_BUDGET);
        u64 left = S.gpr[RCX];
        assert_in_range(left, 1, 999);
        stop_at(STOP_ON_CODE, sub + 1, 1);
        EXPECT(STOPPED_CODE, sub + 1);
        assert_in_range(S.gpr[RCX], left - 1, left);
        EXPECT(STOPPED_CODE, sub + 1);
        stops.n = 0, stops_changed(t->v);
        same_end();
    }
}

static void accesses(void **state)
{
    // mov [DATA],rax; mov rbx,[DATA]; add [DATA+8],rax; hlt
    PUT(0x48, 0x89, 0x04, 0x25, 0, 0x90, 0, 0, 0x48, 0x8B, 0x1C, 0x25, 0, 0x90, 0, 0, 0x48, 0x01, 0x04, 0x25,
        8, 0x90, 0, 0, 0xF4);
    static const struct {
        u8 on;
        u64 at, size, rip;
        bool write;
        u64 first; // byte in common
    } rows[] = {
        {STOP_ON_WRITE, DATA + 7, 1, CODE + 8, true, DATA + 7},
        {STOP_ON_READ, DATA + 7, 1, CODE + 16, false, DATA + 7},
        {STOP_ON_READ | STOP_ON_WRITE, DATA - 100, 101, CODE + 8, true, DATA},
        {STOP_ON_READ, DATA + 8, 4000, CODE + 24, false, DATA + 8}, // the read of the read-modify-write
        {STOP_ON_WRITE, DATA + 15, 2, CODE + 24, true, DATA + 15},
    };
    for (unsigned physical = 0; physical < 2; physical++)
        for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
            S.rip = plain->v->s.rip = CODE;
            S.activity = plain->v->s.activity = ACTIVITY_ACTIVE;
            cpu_attention(t->v), cpu_attention(plain->v);
            stops.n = 0;
            list[0].physical = false;
            stop_at(rows[i].on, rows[i].at, rows[i].size);
            list[0].physical = physical;
            stops_changed(t->v);
            EXPECT(STOPPED_ACCESS, rows[i].rip); // after it
            assert_int_equal(stops.met.write, rows[i].write);
            assert_int_equal(stops.met.at, rows[i].first);
            if (rows[i].rip == CODE + 8 && rows[i].on == (STOP_ON_READ | STOP_ON_WRITE))
                EXPECT(STOPPED_ACCESS, CODE + 16);
            same_end();
        }
    list[0].physical = false;
}

// Linear and physical addresses that differ: page 6 MiB is mapped to 4 MiB.
static void physical(void **state)
{
    PUT(0x48, 0x89, 0x04, 0x25, 0, 0, 0x60, 0, 0xF4); // mov [600000h],rax; hlt
    tm_write64(t, 0x42000 + 8 * 3, 0x4000E7), tm_write64(plain, 0x42000 + 8 * 3, 0x4000E7);
    stop_at(STOP_ON_WRITE, 0x600000, 8);
    list[0].physical = true;
    stop_at(STOP_ON_WRITE, 0x400000, 8);
    list[1].physical = true;
    stops_changed(t->v);
    EXPECT(STOPPED_ACCESS, CODE + 8);
    assert_int_equal(stops.met.n, 1);
    list[0].physical = list[1].physical = false;
    same_end();
}

static void across_a_page(void **state)
{
    // mov [DATA+0xFFC],rax; hlt
    PUT(0x48, 0x89, 0x04, 0x25, 0xFC, 0x9F, 0, 0, 0xF4);
    for (unsigned k = 0; k < 4; k++) { // either side of the border, linear and physical
        stops.n = 0;
        stop_at(STOP_ON_WRITE, DATA + (k & 1 ? 0x1003 : 0xFFC), 1);
        list[0].physical = k & 2;
        stops_changed(t->v);
        S.rip = plain->v->s.rip = CODE;
        S.activity = plain->v->s.activity = ACTIVITY_ACTIVE;
        cpu_attention(t->v), cpu_attention(plain->v);
        EXPECT(STOPPED_ACCESS, CODE + 8);
        list[0].physical = false;
        same_end();
    }
    // An instruction that lies across, and one behind it in the second page.
    static const u8 bytes[] = {0x90, 0x48, 0xC7, 0xC0, 1, 0, 0, 0, 0x48, 0xFF, 0xC0, 0xF4};
    tm_write(t, CODE + 0xFFC, bytes, sizeof bytes), tm_write(plain, CODE + 0xFFC, bytes, sizeof bytes);
    S.rip = plain->v->s.rip = CODE + 0xFFC;
    S.activity = plain->v->s.activity = ACTIVITY_ACTIVE;
    cpu_attention(t->v), cpu_attention(plain->v);
    stops.n = 0;
    stop_at(STOP_ON_CODE, CODE + 0xFFD, 1);
    stop_at(STOP_ON_CODE, CODE + 0x1004, 1);
    EXPECT(STOPPED_CODE, CODE + 0xFFD);
    EXPECT(STOPPED_CODE, CODE + 0x1004);
    same_end();
}

// Iterations of a REP: the stop is after the one that made the access, however much a chunk would do.
static void rep(void **state)
{
    PUT(0xF3, 0x48, 0xAB, 0xF4); // rep stosq; hlt
    for (unsigned i = 0; i < 2; i++) {
        struct vcpu_state *s = i ? &plain->v->s : &S;
        s->gpr[RDI] = DATA, s->gpr[RCX] = 600, s->gpr[RAX] = 7;
    }
    stop_at(STOP_ON_WRITE, DATA + 80, 1);
    EXPECT(STOPPED_ACCESS, CODE);
    assert_int_equal(S.gpr[RCX], 600 - 11);
    assert_int_equal(S.gpr[RDI], DATA + 88);
    assert_int_equal(tm_read(t, DATA + 88, 8), 0);
    // One step is the whole rest of it.
    stops.n = 0, stops_changed(t->v);
    assert_int_equal(on(true), STOPPED_STEP);
    assert_int_equal(S.rip, CODE + 3);
    assert_int_equal(S.gpr[RCX], 0);
    same_end();
}

// Code that writes the instruction with the stop, on its own page.
static void self_modifying(void **state)
{
    // again: mov byte [rip+2],90h; nop (was: hlt); dec rcx; jnz again; hlt
    PUT(0xC6, 0x05, 0, 0, 0, 0, 0x90, 0xF4, 0x48, 0xFF, 0xC9, 0x75, 0xF3, 0xF4);
    S.gpr[RCX] = plain->v->s.gpr[RCX] = 3;
    stop_at(STOP_ON_CODE, CODE + 7, 1);
    for (unsigned i = 3; i; i--) {
        EXPECT(STOPPED_CODE, CODE + 7);
        assert_int_equal(S.gpr[RCX], i);
    }
    same_end();
}

// What raises has made no access; the handler's first instruction ends a step.
static void faults(void **state)
{
    PUT(0x48, 0xA5, 0xF4); // movsq: reads, and its write faults
    for (unsigned i = 0; i < 2; i++) {
        struct tm *m = i ? plain : t;
        m->v->s.gpr[RSI] = DATA, m->v->s.gpr[RDI] = 0x800000;
        tm_write64(m, 0x42000 + 8 * 4, 0);
    }
    stop_at(STOP_ON_READ, DATA, 8);
    assert_int_equal(on(true), STOPPED_STEP);
    assert_int_equal(S.rip, HANDLER + 16 * VEC_PF);
    same_end();
}

static void steps(void **state)
{
    // inc rax; jmp on; on: rep movsb (rcx = 0); sti; nop; pushfq; hlt
    PUT(0x48, 0xFF, 0xC0, 0xEB, 0, 0xF3, 0xA4, 0xFB, 0x90, 0x9C, 0xF4);
    static const u8 at[] = {3, 5, 7, 8, 9, 10};
    for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
        assert_int_equal(on(true), STOPPED_STEP);
        assert_int_equal(S.rip, CODE + at[i]);
    }
    same_end();
    assert_int_equal(S.rflags & FL_TF, 0);
    assert_int_equal(tm_read(t, STACK - 8, 8) & FL_TF, 0);
}

// The guest's own breakpoint on the same page, on the same instruction: both are met, each its own way.
static void with_the_guests_own(void **state)
{
    PUT(0x90, 0x48, 0x89, 0x04, 0x25, 0, 0x90, 0, 0, 0xF4); // nop; mov [DATA],rax; hlt
    for (unsigned i = 0; i < 2; i++) {
        struct tm *m = i ? plain : t;
        m->v->s.dr[0] = CODE + 1, m->v->s.dr[7] = 0x402;
        cpu_mode_changed(m->v);
    }
    stop_at(STOP_ON_CODE, CODE + 1, 1);
    EXPECT(STOPPED_CODE, CODE + 1);
    same_end(); // in the handler of #DB
    assert_int_equal(S.rip, HANDLER + 16 * VEC_DB + 1);
}

// ---- VM entries and exits, levels ----
static void world_switches(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    struct cpu_stops s = {.list = list, .stopped = ask_vcpu, .opaque = m->v, .entry = true};
    m->v->loop_engine = *state != NULL;
    m_vmcs_64(m);
    m->v->stops = &s;
    trace_add(&m->trace, &(struct trace_sink){stops_trace, &s, STOPS_TRACE});
    m_poke(m, M_GUEST, "\x90\x0F\xA2\xF4", 4); // nop; cpuid; hlt
    m_poke(m, M_CODE, I_VMLAUNCH "\xF4", 4);
    m_poke(m, M_HOST, "\x90\xF4", 2);
    struct vcpu_state *v = &m->v->s;
#define GO(step, why_, rip_) \
    do { \
        cpu_stop_taken(m->v); \
        stops_go_on(&s, m->v, step); \
        assert_int_equal(vcpu_run(m->v, 100000), RUN_STOP); \
        assert_int_equal(s.met.why, why_); \
        assert_int_equal(v->rip, rip_); \
    } while (0)
    s.exits[0] = BIT(EXIT_REASON_CPUID);
    v->rip = M_CODE, v->activity = ACTIVITY_ACTIVE;
    cpu_mode_changed(m->v);
    cpu_attention(m->v);
    GO(false, STOPPED_ENTRY, M_GUEST);
    assert_true(v->vmx.guest);
    GO(false, STOPPED_EXIT, M_HOST);
    assert_false(v->vmx.guest);
    assert_int_equal(s.met.reason, EXIT_REASON_CPUID);

    // By steps; with a code stop in the guest alone, and one of another VMCS.
    s.entry = false, s.exits[0] = 0;
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_poke(m, M_HOST, I_VMRESUME, 3);
    v->rip = M_HOST;
    GO(true, STOPPED_STEP, M_GUEST);
    GO(true, STOPPED_STEP, M_GUEST + 1);
    GO(true, STOPPED_STEP, M_HOST);
    s.n = 0;
    u64 vmcs[] = {VMX_NO_POINTER, M_VMCS2, M_VMCS};
    u8 level[] = {STOP_ROOT, STOP_GUEST, STOP_GUEST};
    for (unsigned i = 0; i < 3; i++)
        list[s.n++] = (struct cpu_stop){
            .on = STOP_ON_CODE, .level = level[i], .at = M_GUEST + 1, .size = 1, .vmcs = vmcs[i]};
    stops_changed(m->v);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    GO(false, STOPPED_CODE, M_GUEST + 1);
    assert_int_equal(s.met.n, 2);

    // An entry that fails.
    s.n = 0, s.entry_failed = true;
    stops_changed(m->v);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_write(m, VMCS_HOST_CR4, 0);
    m_poke(m, M_HOST, I_VMRESUME "\xF4", 4);
    cpu_stop_taken(m->v);
    stops_go_on(&s, m->v, false);
    v->rip = M_HOST, v->vmx.guest = false;
    m_root_state(m);
    GO(false, STOPPED_ENTRY_FAILED, M_HOST + 3);
    m_free(m);
}

// ---- processors of a whole machine ----
static void ask_machine(void *m) { machine_ask_stop(m); }

static u64 hash_of(struct machine *m)
{
    struct state_hash h = {0};
    u64 x = state_hash(&h, m);
    state_hash_free(&h);
    return x;
}

// Four processors count the same word up, with LOCK, until each has done its share. Stopped at the count's
// every write by whoever it is, the machine ends in the state of one that was not.
static void four_processors(void **state)
{
    // again: lock inc dword [600h]; dec ecx; jnz again; hlt
    static const u8 code[] = {0xF0, 0x66, 0xFF, 0x06, 0x00, 0x06, 0x66, 0x49, 0x75, 0xF6, 0xFA, 0xF4};
    struct machine *m[2];
    for (unsigned i = 0; i < 2; i++) {
        m[i] = make_as((struct machine_config){.ram_size = 4 << 20, .cpus = 4});
        for (unsigned c = 0; c < 4; c++) {
            struct vcpu *v = m[i]->cpu[c];
            v->loop_engine = *state != NULL;
            start(m[i], code, sizeof code);
            v->s.seg[SEG_CS] = m[i]->cpu[0]->s.seg[SEG_CS];
            v->s.rip = 0x7C00, v->s.gpr[RCX] = 100;
            v->s.activity = ACTIVITY_ACTIVE;
            cpu_mode_changed(v);
            cpu_attention(v);
        }
    }
    struct cpu_stops s = {.list = list, .n = 1, .stopped = ask_machine, .opaque = m[0]};
    list[0] = (struct cpu_stop){.on = STOP_ON_WRITE, .at = 0x602, .size = 1, .vmcs = VMX_NO_POINTER};
    for (unsigned c = 0; c < 4; c++) m[0]->cpu[c]->stops = &s, stops_changed(m[0]->cpu[c]);
    unsigned n = 0, of[4] = {0};
    for (;; n++) {
        stops_go_on(&s, NULL, false);
        if (machine_run(m[0], 1000000) != MACHINE_STOPPED) break;
        assert_int_equal(s.met.why, STOPPED_ACCESS);
        assert_int_equal(phys_read32(&m[0]->phys, 0, 0x600), n + 1);
        of[s.met.cpu]++;
    }
    assert_int_equal(n, 400);
    for (unsigned c = 0; c < 4; c++) assert_int_equal(of[c], 100);
    machine_run(m[1], 1000000);
    assert_int_equal(phys_read32(&m[1]->phys, 0, 0x600), 400);
    assert_int_equal(hash_of(m[0]), hash_of(m[1]));
    for (unsigned i = 0; i < 2; i++) destroy(m[i]);
}

int main(void)
{
    static int loop;
#define BOTH(f) \
    {#f, f, setup, teardown, NULL}, { #f "_loop", f, setup, teardown, &loop }
    const struct CMUnitTest tests[] = {BOTH(code),
                                       BOTH(not_within_an_instruction),
                                       BOTH(set_late),
                                       BOTH(accesses),
                                       BOTH(physical),
                                       BOTH(across_a_page),
                                       BOTH(rep),
                                       BOTH(self_modifying),
                                       BOTH(faults),
                                       BOTH(steps),
                                       BOTH(with_the_guests_own),
                                       BOTH(world_switches),
                                       BOTH(four_processors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
