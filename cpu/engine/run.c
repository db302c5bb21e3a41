// The run loop: the boundary between instructions, the slice, and the one landing pad.
#include "cpu/engine/exec.h"
#include "cpu/state/cost.h"
#include "cpu/system/debug.h"
#include "cpu/system/stops.h"
#include "cpu/system/system.h"
#include "cpu/engine/fp.h"
#include "cpu/state/trace.h"
#include "vmx/intercept.h"

// Units. Fast wrappers look at nothing but the budget, so this is also what a stop from outside may wait for
// in them: milliseconds.
enum { SLICE_MAX = 1 << 21 };
_Static_assert(SLICE_MAX < BLOCK_DROPPED, "a dropped block fails the check of the budget");

static void trace_interruption(const struct vcpu *v, const struct event *e)
{
    bool fault =
        e->type == EVT_HW_EXCEPTION || e->type == EVT_SW_EXCEPTION || e->type == EVT_PRIV_SW_EXCEPTION;
    if (!trace_wants(v, fault ? TRACE_FAULT : TRACE_INTERRUPT)) return;
    struct trace_event t;
    trace_begin(v, &t, fault ? TRACE_FAULT : TRACE_INTERRUPT);
    t.vector = e->vector, t.type = e->type, t.has_error = e->has_error, t.error = e->error;
    t.addr = e->cr2;
    trace_emit(v, &t);
}

// Through the IDT. May unwind to the landing pad, which comes back with what was raised on the way.
static void deliver(struct vcpu *v, const struct event *e, u64 cost)
{
    trace_interruption(v, e);
    cpu_charge(v, cost);
    vmx_vectoring_begin(v, e);
    v->d.delivering = *e;
    deliver_event(v, e);
    v->d.delivering.kind = EVENT_NONE;
    vmx_vectoring_end(v);
}

// An interruption that is due: delivers it, or makes the VM exit that it causes. What it woke is active when
// it is delivered; an exit still finds the state that it woke from (SDM 30.1).
static void handle_interruption(struct vcpu *v, const struct event *e)
{
    struct event exit;
    if (v->s.vmx.guest && vmx_event_exits(v, e, &exit)) {
        cpu_charge(v, COST_VMEXIT);
        vmx_exit(v, &exit);
        return;
    }
    v->s.activity = ACTIVITY_ACTIVE;
    deliver(v, e, e->type == EVT_EXTERNAL || e->type == EVT_NMI ? COST_INTERRUPT : COST_EXCEPTION);
    cpu_attention(v);
}

static bool shut_down(struct vcpu *v, const char *why)
{
    if (v->s.vmx.guest) {
        struct event e = {.kind = EVENT_VMEXIT, .exit_reason = 2}; // triple fault
        cpu_charge(v, COST_VMEXIT);
        vmx_exit(v, &e);
        return false;
    }
    if (trace_wants(v, TRACE_SHUTDOWN)) {
        struct trace_event t;
        trace_begin(v, &t, TRACE_SHUTDOWN);
        t.name = why;
        trace_emit(v, &t);
    }
    if (v->board && v->board->shutdown) v->board->shutdown(v->board_opaque, v->index, why);
    v->s.activity = ACTIVITY_SHUTDOWN;
    return true;
}

// Handles what was raised. Returns true when the processor shut down.
static bool handle_event(struct vcpu *v)
{
    struct event e = v->d.event;
    v->d.event.kind = EVENT_NONE;
    struct event first = v->d.delivering;
    v->d.delivering.kind = EVENT_NONE;
    switch (e.kind) {
    case EVENT_INTERRUPTION:
        if (first.kind != EVENT_NONE) { // a fault while delivering
            struct event exit, both;
            if (v->s.vmx.guest && vmx_event_exits(v, &e, &exit)) {
                cpu_charge(v, COST_VMEXIT);
                vmx_exit(v, &exit);
                return false;
            }
            if (e.vector == VEC_PF) v->s.cr2 = e.cr2; // seen even when a double fault or shutdown comes of it
            if (!deliver_combine(&first, &e, &both)) return shut_down(v, "triple fault");
            e = both;
        }
        handle_interruption(v, &e);
        return false;
    case EVENT_VMEXIT:
        cpu_charge(v, COST_VMEXIT);
        vmx_exit(v, &e);
        return false;
    case EVENT_SHUTDOWN: return shut_down(v, "shutdown");
    default: return false;
    }
}

static bool take_exit(struct vcpu *v, struct event *exit)
{
    cpu_charge(v, COST_VMEXIT);
    vmx_exit(v, exit);
    return true;
}

// The boundary between two instructions: takes at most one event, in the order of SDM table 7-2 and
// section 26.5 with what VMX adds. True if something was taken (look again).
static bool boundary(struct vcpu *v)
{
    struct vcpu_state *s = &v->s;
    struct event exit;
    bool guest = s->vmx.guest;
    if (s->inject.kind != EVENT_NONE) { // VM entry's injection comes before everything else
        struct event e = s->inject;
        s->inject.kind = EVENT_NONE;
        if (e.kind == EVENT_VMEXIT) return take_exit(v, &e); // pending MTF and the like
        deliver(v, &e, COST_INTERRUPT);
        return true;
    }
    if (guest && vmx_boundary_trap(v, &exit)) return take_exit(v, &exit);
    // INIT is held in root operation, and while a guest waits for a SIPI (SDM 26.8, 29.7.2).
    if (s->init_pending && !(s->vmx.on && (!guest || s->activity == ACTIVITY_WAIT_SIPI))) {
        s->init_pending = false;
        if (guest) {
            vmx_init_exit(&exit);
            return take_exit(v, &exit);
        }
        vcpu_reset(v, true);
        if (v->board && v->board->init_taken) v->board->init_taken(v->board_opaque, v->index);
        return true;
    }
    if (s->sipi_pending) {
        if (s->activity == ACTIVITY_WAIT_SIPI) {
            s->sipi_pending = false;
            if (guest) {
                vmx_sipi_exit(s->sipi_vector, &exit);
                return take_exit(v, &exit);
            }
            seg_load_real(v, SEG_CS, (u16)(s->sipi_vector << 8));
            s->rip = 0;
            s->activity = ACTIVITY_ACTIVE;
            cpu_mode_changed(v);
            return true;
        }
        s->sipi_pending = false; // lost in any other state
    }
    if (s->activity == ACTIVITY_WAIT_SIPI || (s->activity == ACTIVITY_SHUTDOWN && !guest)) return false;
    // a guest's: only NMIs, the timer and the NMI window get through
    bool shut = s->activity == ACTIVITY_SHUTDOWN;
    if (guest && vmx_boundary_mtf(v, &exit)) return take_exit(v, &exit);
    if (s->pending_dbg && !(s->blocking & BLOCKING_BY_MOV_SS) && !shut) {
        u64 p = s->pending_dbg;
        s->pending_dbg = 0;
        if (p & (DR6_BS | DR6_BT | PENDING_ENABLED)) {
            // clang-format off
            struct event e = {.kind = EVENT_INTERRUPTION, .vector = VEC_DB, .type = EVT_HW_EXCEPTION, .trap = true,
                              .dr6 = p & (0xF | DR6_BS | DR6_BT)};
            // clang-format on
            handle_interruption(v, &e);
            return true;
        }
    }
    if (guest && vmx_boundary_timer(v, &exit)) return take_exit(v, &exit);
    if (guest && vmx_boundary_nmi_window(v, &exit)) return take_exit(v, &exit);
    if (s->nmi_pending && !(s->blocking & (BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS | BLOCKING_BY_STI))) {
        struct event e = {.kind = EVENT_INTERRUPTION, .vector = VEC_NMI, .type = EVT_NMI};
        s->nmi_pending = false;
        if (guest && vmx_event_exits(v, &e, &exit)) return take_exit(v, &exit);
        s->blocking |= BLOCKING_BY_NMI;
        handle_interruption(v, &e);
        return true;
    }
    if (guest && vmx_boundary_guest_timer(v)) {
        cpu_charge(v, COST_POSTED);
        return true;
    }
    if (guest && vmx_boundary_interrupt_window(v, &exit)) return take_exit(v, &exit);
    if (guest && vmx_virtual_interrupt_due(v)) {
        struct event e = {.kind = EVENT_INTERRUPTION, .type = EVT_EXTERNAL};
        e.vector = vmx_virtual_interrupt_taken(v);
        s->activity = ACTIVITY_ACTIVE;
        deliver(v, &e, COST_INTERRUPT);
        return true;
    }
    if (v->s.intr_line && !shut && !(s->blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS))) {
        struct event e = {.kind = EVENT_INTERRUPTION, .type = EVT_EXTERNAL};
        if (guest && vmx_interrupt_exits(v)) {
            if (vmx_external_interrupt(v, &exit)) return take_exit(v, &exit);
            cpu_charge(v, COST_POSTED);
            return true;
        } else if (s->rflags & FL_IF) {
            int vector = v->board ? v->board->intr_ack(v->board_opaque, v->index) : -1;
            if (vector >= 0) {
                e.vector = (u8)vector;
                handle_interruption(v, &e);
                return true;
            }
        }
    }
    // MWAIT that was told so ends though the interrupt stays pending, and when nothing is monitored any more
    if (s->activity == ACTIVITY_MWAIT && ((v->s.intr_line && s->mwait_masked) || !s->monitor_addr)) {
        cpu_end_mwait(v);
        return true;
    }
    if (cpu_virtual_interrupt(v) && s->activity == ACTIVITY_ACTIVE) {
        struct event e = {
            .kind = EVENT_INTERRUPTION, .vector = VEC_GP, .type = EVT_HW_EXCEPTION, .has_error = true};
        handle_interruption(v, &e);
        return true;
    }
    return false;
}

// The clock's next deadline, or that of a guest's timers.
static u64 next_deadline(const struct vcpu *v)
{
    u64 d = v->clock_next ? *v->clock_next : UINT64_MAX;
    if (v->s.vmx.guest) {
        u64 t = vmx_timer_deadline(v);
        if (t < d) d = t;
    }
    return d;
}

// As boundary() takes them.
u32 cpu_woken_by(const struct vcpu *v)
{
    const struct vcpu_state *s = &v->s;
    u32 by = 0;
    if (!(s->vmx.on && !s->vmx.guest)) by |= BIT(CPU_SIGNAL_INIT);
    if (s->activity == ACTIVITY_WAIT_SIPI) return by | BIT(CPU_SIGNAL_SIPI);
    if (s->activity == ACTIVITY_SHUTDOWN && !s->vmx.guest) return by;
    if (!(s->blocking & (BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS | BLOCKING_BY_STI))) by |= BIT(CPU_SIGNAL_NMI);
    bool waits = s->activity == ACTIVITY_HLT || s->activity == ACTIVITY_MWAIT;
    if ((waits && (s->rflags & FL_IF || vmx_interrupt_exits(v))) ||
        (s->activity == ACTIVITY_MWAIT && s->mwait_masked))
        by |= BIT(CPU_SIGNAL_INTR_ON);
    return by;
}

u64 cpu_own_deadline(const struct vcpu *v) { return v->s.vmx.guest ? vmx_timer_deadline(v) : UINT64_MAX; }

void cpu_skip_to(struct vcpu *v, u64 vtime)
{
    u64 now = v->s.units * CPU_TICKS_PER_UNIT + v->s.skipped;
    if (vtime > now) v->s.skipped += vtime - now;
}

// Starts a slice: how many units may pass before a deadline or the caller's limit.
static void slice_begin(struct vcpu *v, u64 limit)
{
    struct vcpu_state *s = &v->s;
    u64 d = next_deadline(v);
    v->d.slice_deadline = v->clock_next ? *v->clock_next : UINT64_MAX;
    v->d.deadline_units = UINT64_MAX;
    if (d != UINT64_MAX)
        v->d.deadline_units = d <= s->skipped ? 0 : (d - s->skipped - 1) / CPU_TICKS_PER_UNIT + 1;
    v->d.units_end = limit < v->d.deadline_units ? limit : v->d.deadline_units;
    if (v->d.units_end < s->units) v->d.units_end = s->units;
    // Shorter than a dropped block's count; the loop makes the next one.
    if (v->d.units_end - s->units > SLICE_MAX) v->d.units_end = s->units + SLICE_MAX;
    v->d.budget = (s64)(v->d.units_end - s->units);
}

// What holds between two instructions, whoever leaves a block here.
static void boundary_invariants(const struct vcpu *v)
{
    INVARIANT(!v->d.in);
    INVARIANT(v->d.mode == mode_compute(v) && v->d.cpl == mode_cpl(v->d.mode));
    INVARIANT(mode_long64(v->d.mode) || v->s.rip <= UINT32_MAX);
    INVARIANT(v->d.budget <= SLICE_MAX);
}

// To the caller's limit, and to the board's next deadline.
static bool time_left(const struct vcpu *v, u64 limit)
{
    u64 units = v->s.units;
    return units < limit && (!v->clock_next || units * CPU_TICKS_PER_UNIT + v->s.skipped < *v->clock_next);
}

static inline void slice_sync(struct vcpu *v) { v->s.units = v->d.units_end - (u64)v->d.budget; }

// The instruction whose block was just run, and which began at `rip`, was a branch that was taken.
static bool took_branch(const struct vcpu *v, const struct block *b, u64 rip)
{
    u64 next = rip + b->in[0].len;
    return v->d.branched || v->s.rip != (mode_long64(b->mode) ? next : (u32)next);
}

// One instruction, under the STI/MOV SS shadow, TF or RF, or at a page with an instruction breakpoint.
static void step_one(struct vcpu *v)
{
    struct vcpu_state *s = &v->s;
    bool tf = s->rflags & FL_TF, shadow = s->blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS),
         guest = s->vmx.guest, btf = s->msr.debugctl & DEBUGCTL_BTF,
         looks = v->d.breaks.code && debug_code_page(v);
    u64 rip = s->rip;
    if (looks) debug_before_instruction(v);
    s->shadow_one = v->d.rf_loaded = v->d.looked_at_tf = v->d.branched = false;
    struct block *b = looks ? block_here(v) : block_find(v);
    block_run_loop(v, b, true);
    v->d.leave = false;
    if (s->vmx.guest != guest) { // a VM entry: RF, the shadow and what is pending are as it loaded them
        cpu_attention(v);
        return;
    }
    // every instruction clears it but the IRET that loads it (SDM 19.3.1.1)
    if (!v->d.rf_loaded) s->rflags &= ~(u64)FL_RF;
    if (shadow && !s->shadow_one) s->blocking &= ~(u32)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    // After a MOV to SS its own trap is none any more, and this instruction's is the same again (SDM 7.8.3).
    if (!v->d.looked_at_tf) {
        s->pending_dbg &= ~(u64)DR6_BS;
        if (tf && (!btf || took_branch(v, b, rip))) s->pending_dbg |= DR6_BS;
    }
    cpu_attention(v);
}

enum { ENDLESS = 16 };

enum run_exit vcpu_run(struct vcpu *v, u64 units)
{
    struct vcpu_state *s = &v->s;
    enum run_exit why = RUN_BUDGET;
    u64 limit = s->units + units < s->units ? UINT64_MAX : s->units + units;
    v->d.in = NULL;
    v->d.leave = false;
    v->d.event.kind = EVENT_NONE;
    fp_enter(v);
    slice_begin(v, limit);
    cpu_attention(v);
    if (_setjmp(v->d.landing)) {
        // Raised. Inside an instruction: nothing of it happened, and it and what follows it in its block are
        // not spent.
        INVARIANT(!v->d.in || v->d.mode == mode_compute(v));
        if (v->d.in) block_leave(v, v->d.in);
        v->d.leave = false;
        if (v->d.event.kind != EVENT_RESTART) v->d.break_hit = 0; // it did not complete
        // what an event between two iterations pushes (SDM 19.3.1.1)
        if (v->d.event.kind == EVENT_RESTART) s->rflags |= FL_RF;
        if (v->d.event.kind == EVENT_INTERRUPTION || v->d.event.kind == EVENT_VMEXIT ||
            v->d.event.kind == EVENT_SHUTDOWN) {
            if (handle_event(v)) {
                why = RUN_SHUTDOWN;
                goto out;
            }
        }
        slice_sync(v);
        cpu_attention(v);
    }
    for (unsigned in_a_row = 0;;) { // events
        boundary_invariants(v);
        slice_sync(v);
        if (unlikely(v->d.break_hit)) debug_completed(v); // before anybody may take the state
        if (unlikely(v->stops != NULL)) stops_boundary(v);
        // One that is halted finds out first whether it still is, so that a stop leaves no trace in that.
        if ((v->stop || v->stop_asked) && s->activity == ACTIVITY_ACTIVE) {
            why = RUN_STOP;
            break;
        }
        // Events may follow each other for ever without an instruction: a #DB whose frame meets a data
        // breakpoint. A few come together, so that a run ends where all that was due is taken, however it
        // is sliced.
        if (unlikely(in_a_row >= ENDLESS) && !time_left(v, limit)) break;
        slice_begin(v, limit);
        if (v->d.attention) {
            bool taken = boundary(v);
            cpu_attention(v);
            if (taken) {
                in_a_row++;
                continue;
            }
            if (s->activity != ACTIVITY_ACTIVE) {
                why = s->activity == ACTIVITY_SHUTDOWN && !s->vmx.guest ? RUN_SHUTDOWN : RUN_HALTED;
                break;
            }
        }
        in_a_row = 0;
        if (v->d.budget <= 0) {
            // A deadline or the limit. A guest's timers are this processor's own; the board's is the
            // caller's.
            if (time_left(v, limit)) {
                v->d.attention = true;
                struct event exit;
                if (s->vmx.guest && vmx_boundary_timer(v, &exit)) take_exit(v, &exit);
                continue;
            }
            break;
        }
        if (unlikely((s->blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) || (s->rflags & FL_RF) ||
                     (v->d.mode & MODE_STEP) || vmx_single_steps(v) ||
                     (v->d.breaks.code && debug_code_page(v)))) {
            if (unlikely(v->d.breaks.code & BREAKS_HOST) && stops_before_instruction(v)) {
                why = RUN_STOP;
                break;
            }
            step_one(v);
            continue;
        }
        v->d.attention = false;
        // by a signal handler, since this turn began: its attention was just lost
        if (unlikely(v->stop_asked)) continue;
        struct block *b = block_find(v);
        if (unlikely(v->loop_engine || v->d.budget < b->n))
            block_run_loop(v, b, false);
        else {
            v->d.budget -= b->n;
            b->in[0].exec(v, b->in);
        }
        v->d.leave = false;
        cpu_attention(v);
    }
out:
    slice_sync(v);
    v->d.budget = 0;
    v->d.units_end = s->units;
    fp_leave(v);
    return why;
}
