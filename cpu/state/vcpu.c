// The life of a processor: creation, reset, signals from the board, exact time, and the count of what is
// missing.
#include <stdlib.h>
#include <string.h>

#include "cpu/engine/engine.h"
#include "cpu/state/mode.h"
#include "cpu/system/cpuid.h"
#include "cpu/system/debug.h"
#include "cpu/state/trace.h"
#include "cpu/system/system.h"
#include "vmx/intercept.h"

// ---- its subscription to the memory that it shares ----
static paddr monitored(const struct vcpu *v) { return v->s.monitor_addr & ~63ull; }

static void memory_written(void *opaque, paddr a, u64 size)
{
    struct vcpu *v = opaque;
    block_code_written(v, a, size);
    vmx_memory_written(v, a, size);
    if (unlikely(phys_is_table(v->phys, a)) && !v->phys->table_flags) cpu_tables_written(v);
    if (likely(!v->s.monitor_addr) || a >= monitored(v) + 64 || a + size <= monitored(v)) return;
    cpu_monitor_disarm(v);
    if (v->s.activity != ACTIVITY_MWAIT) return;
    v->s.activity = ACTIVITY_ACTIVE;
    if (v->board && v->board->monitor_hit) v->board->monitor_hit(v->board_opaque, v->index);
}

static void page_guarded(void *opaque, paddr page) { tlbops_drop_page(opaque, page); }

static u64 page_keeps(void *opaque, paddr page, bool *watched)
{
    const struct vcpu *v = opaque;
    if (vmx_watches(v, page)) *watched = true;
    if (v->s.monitor_addr && v->s.monitor_addr >> PAGE_SHIFT == page >> PAGE_SHIFT) *watched = true;
    return block_code_lines(v->d.engine, page);
}

struct vcpu *vcpu_new(unsigned index, struct phys *phys, const struct cpu_features *features)
{
    struct vcpu *v = aligned_alloc(64, (sizeof *v + 63) & ~63ull);
    if (!v) return NULL;
    memset(v, 0, sizeof *v);
    v->index = index;
    v->phys = phys;
    v->features = features;
    v->apic_id = topology_apic_id(&features->topology, index);
    v->d.engine = engine_new(phys);
    if (!v->d.engine) {
        free(v);
        return NULL;
    }
#if defined(MATRYOSHKA_SANITIZE) && !defined(__clang__)
    v->loop_engine = true; // gcc promises no sibling calls there; clang has musttail
#endif
    v->subscriber = (struct phys_subscriber){v, memory_written, page_guarded, page_keeps, NULL};
    phys_subscribe(phys, &v->subscriber);
    vcpu_reset(v, false);
    return v;
}

void vcpu_free(struct vcpu *v)
{
    if (!v) return;
    block_flush(v->d.engine, v->phys);
    vmx_free(v);
    phys_unsubscribe(v->phys, &v->subscriber);
    engine_free(v->d.engine);
    free(v);
}

static struct segment segment_reset(u16 sel, u64 base, u32 ar)
{
    return (struct segment){base, 0xFFFF, ar, sel, {0}};
}

// SDM table 11-1 (processor state following power-up, reset, or INIT).
void vcpu_reset(struct vcpu *v, bool init)
{
    struct vcpu_state *s = &v->s;
    if (v->vmx) vmx_unwatch(v);
    cpu_monitor_disarm(v);
    // clang-format off
    struct { // what INIT keeps: the whole state, with its TLBs, is more than a small stack holds
        u64 units, extra, skipped, cr0, xcr0, rng_state, xmm[16][2], ymm_high[16][2];
        struct fpu_state fpu;
        struct msr_state msr;
        u32 mxcsr, pkru;
        bool nmi_pending, sipi_pending, intr_line;
        u8 sipi_vector;
    } old = {.units = s->units, .extra = s->extra, .skipped = s->skipped, .cr0 = s->cr0, .xcr0 = s->xcr0, .rng_state = s->rng_state,
             .fpu = s->fpu, .msr = s->msr, .mxcsr = s->mxcsr, .pkru = s->pkru, .nmi_pending = s->nmi_pending,
             .sipi_pending = s->sipi_pending, .intr_line = s->intr_line, .sipi_vector = s->sipi_vector};
    // clang-format on
    memcpy(old.xmm, s->xmm, sizeof s->xmm);
    memcpy(old.ymm_high, s->ymm_high, sizeof s->ymm_high);
    memset(s, 0, sizeof *s);
    s->intr_line = old.intr_line; // the board's, over a RESET too
    u32 id[4];
    cpuid_query(v, 1, 0, id);
    s->gpr[RDX] = id[0]; // family, model, stepping
    s->rip = 0xFFF0;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        s->seg[i] = segment_reset(0, 0, AR_P | AR_S | AR_WRITABLE | AR_ACCESSED);
    s->seg[SEG_CS] = segment_reset(0xF000, 0xFFFF0000, AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED);
    s->seg[SEG_LDTR] = segment_reset(0, 0, AR_P | 2);
    s->seg[SEG_TR] = segment_reset(0, 0, AR_P | 11);
    s->gdtr.limit = s->idtr.limit = 0xFFFF;
    s->fl = fl_pack(0);
    s->rflags = 2;
    s->cr0 = 0x60000010;
    s->dr[6] = 0xFFFF0FF0;
    s->dr[7] = 0x400;
    s->vmx.vmxon_pointer = s->vmx.vmcs_pointer = VMX_NO_POINTER;
    s->vmx.timer_deadline = UINT64_MAX;
    if (init) { // INIT keeps these
        s->units = old.units, s->extra = old.extra, s->skipped = old.skipped;
        s->cr0 = (old.cr0 & (CR0_CD | CR0_NW)) | 0x10;
        s->fpu = old.fpu;
        memcpy(s->xmm, old.xmm, sizeof s->xmm);
        memcpy(s->ymm_high, old.ymm_high, sizeof s->ymm_high);
        s->mxcsr = old.mxcsr;
        s->pkru = old.pkru;
        s->xcr0 = old.xcr0;
        s->msr = old.msr;
        s->msr.efer = 0;
        s->rng_state = old.rng_state;
        s->nmi_pending = old.nmi_pending;
        s->sipi_pending = old.sipi_pending, s->sipi_vector = old.sipi_vector; // it came after the INIT
    } else {
        s->fpu.fcw = 0x40, s->fpu.ftw = 0x5555;
        s->mxcsr = 0x1F80;
        s->xcr0 = 1;
        s->rng_state = v->features->rng_seed;
        msr_reset(v, false);
    }
    tlb_reset(&s->itlb);
    tlb_reset(&s->dtlb);
    vmx_reset(v);
    if (v->index != 0) s->activity = ACTIVITY_WAIT_SIPI;
    v->d.in = NULL;
    v->d.units_end = s->units; // the slice that was running is over
    v->d.budget = 0;
    v->d.event.kind = EVENT_NONE;
    v->d.mode = mode_compute(v);
    v->d.cpl = 0;
    cpu_drop_derived(v);
    cpu_mode_changed(v);
    cpu_attention(v);
}

// What is derived is what this makes anew: nothing of v->d is taken over but the engine's memory.
void cpu_loaded(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    v->d = (struct vcpu_derived){.engine = e, .units_end = v->s.units};
    if (v->s.monitor_addr && phys_is_ram(v->phys, monitored(v))) phys_watch(v->phys, monitored(v));
    cpu_drop_derived(v);
    if (v->tlb_mode == TLB_STRICT) cpu_tlb_forget(v); // which pages they were made from is not known any more
    cpu_attention(v);
}

void cpu_signal(struct vcpu *v, enum cpu_signal what, u8 vector)
{
    switch (what) {
    case CPU_SIGNAL_INTR_ON: v->s.intr_line = true; break;
    case CPU_SIGNAL_INTR_OFF: v->s.intr_line = false; break;
    case CPU_SIGNAL_NMI: v->s.nmi_pending = true; break;
    case CPU_SIGNAL_INIT:
        v->s.init_pending = true;
        v->s.sipi_pending = false; // one from before: it found no processor that waited for it
        break;
    case CPU_SIGNAL_SIPI:
        v->s.sipi_pending = true;
        v->s.sipi_vector = vector;
        break;
    case CPU_SIGNAL_STOP: v->stop = true; break;
    }
    cpu_attention(v);
}

void cpu_monitor_arm(struct vcpu *v, paddr line)
{
    cpu_monitor_disarm(v);
    v->s.monitor_addr = line | 1;
    if (phys_is_ram(v->phys, line)) phys_watch(v->phys, line);
}

void cpu_monitor_disarm(struct vcpu *v)
{
    paddr line = monitored(v);
    if (!v->s.monitor_addr) return;
    v->s.monitor_addr = 0;
    if (phys_is_ram(v->phys, line)) phys_release(v->phys, line);
}

void cpu_end_mwait(struct vcpu *v)
{
    if (v->s.activity != ACTIVITY_MWAIT) return;
    v->s.activity = ACTIVITY_ACTIVE;
    cpu_monitor_disarm(v);
}

void cpu_ask_stop(struct vcpu *v)
{
    v->stop_asked = 1;
    v->d.attention = true; // cpu_attention, if it is what was interrupted, looks again
}

void cpu_stop_taken(struct vcpu *v) { v->stop_asked = 0; }

u64 cpu_units(const struct vcpu *v)
{
    if (!v->d.in) return v->d.units_end - (u64)v->d.budget;
    // The block was charged whole on entry; what has not begun yet is not spent.
    return v->d.units_end - (u64)v->d.budget - (u64)(insn_block(v->d.in)->n - v->d.in->idx);
}

u64 cpu_vtime(const struct vcpu *v) { return cpu_units(v) * CPU_TICKS_PER_UNIT + v->s.skipped; }
u64 cpu_clock_now(const struct vcpu *v)
{
    u64 now = cpu_vtime(v);
    return v->clock_now && *v->clock_now > now ? *v->clock_now : now;
}
u64 cpu_clock(struct vcpu *v)
{
    u64 now = cpu_clock_now(v);
    if (v->clock_now) *v->clock_now = now;
    return now;
}
u64 cpu_retired(const struct vcpu *v) { return cpu_units(v) - v->s.extra; }

void cpu_drop_derived(struct vcpu *v)
{
    vmx_drop(v);
    block_flush(v->d.engine, v->phys);
    cpu_drop_fast(v);
    v->d.mode = mode_compute(v);
    v->d.cpl = mode_cpl(v->d.mode);
    debug_changed(v);
    cpu_context_changed(v);
}

void unimplemented(struct vcpu *v, const char *name, u64 detail)
{
    unsigned i = 0;
    while (i < v->unimplemented_n && strcmp(v->unimplemented[i].name, name) != 0) i++;
    if (i == UNIMPLEMENTED_MAX) i--; // the last row gathers the rest
    if (i == v->unimplemented_n) {
        v->unimplemented_n++;
        v->unimplemented[i].name = name;
    }
    v->unimplemented[i].count++;
    v->unimplemented[i].detail = detail;
    if (trace_wants(v, TRACE_UNIMPLEMENTED)) {
        struct trace_event t;
        trace_begin(v, &t, TRACE_UNIMPLEMENTED);
        t.name = name;
        t.addr = detail;
        trace_emit(v, &t);
    }
}
