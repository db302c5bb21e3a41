// CPUID, MSRs, the clock, random numbers, idle, flags of privilege: system instructions that need no
// descriptor.
#include "cpu/system/system.h"
#include "cpu/system/cpuid.h"
#include "cpu/state/cost.h"
#include "cpu/state/trace.h"
#include "cpu/engine/access.h"
#include "cpu/engine/exec.h"
#include "cpu/engine/fast.h"
#include "vmx/intercept.h"

// ---- CPUID, MSRs ----

void op_cpuid(struct vcpu *v, const struct insn *in)
{
    u32 out[4], leaf = (u32)v->s.gpr[RAX];
    cpuid_query(v, leaf, (u32)v->s.gpr[RCX], out);
    // CPUID.1 loads the microcode revision into IA32_BIOS_SIGN_ID
    if (leaf == 1) v->s.msr.bios_sign_id = 1ull << 32;
    v->s.gpr[RAX] = out[0];
    v->s.gpr[RBX] = out[1];
    v->s.gpr[RCX] = out[2];
    v->s.gpr[RDX] = out[3];
    cpu_charge(v, COST_CPUID);
}

static void trace_msr(const struct vcpu *v, u32 msr, u64 x, bool write, bool ok)
{
    if (likely(!trace_wants(v, TRACE_MSR))) return;
    struct trace_event t;
    trace_begin(v, &t, TRACE_MSR);
    t.rip = insn_rip(v, v->d.in);
    t.addr = msr, t.value = x, t.write = write, t.has_error = !ok;
    trace_emit(v, &t);
}

RAISES static u64 read_msr(struct vcpu *v, u32 msr)
{
    u64 x = 0;
    cpu_charge(v, COST_MSR);
    bool ok = vmx_msr_virtual(v, msr, false, &x);
    if (!ok && (ok = msr_read(v, msr, &x)) && msr == 0x10) x = vmx_tsc(v, x);
    trace_msr(v, msr, x, false, ok);
    if (!ok) raise_gp0(v);
    return x;
}

RAISES static void write_msr(struct vcpu *v, u32 msr, u64 x)
{
    cpu_charge(v, COST_MSR);
    u64 given = x;
    bool ok = vmx_msr_virtual(v, msr, true, &x) || msr_write(v, msr, x);
    trace_msr(v, msr, given, true, ok);
    if (!ok) raise_gp0(v);
}

void op_rdmsr(struct vcpu *v, const struct insn *in)
{
    u64 x = read_msr(v, (u32)v->s.gpr[RCX]);
    v->s.gpr[RAX] = (u32)x;
    v->s.gpr[RDX] = x >> 32;
}

void op_wrmsr(struct vcpu *v, const struct insn *in) // WRMSRNS too: what serializes cannot be seen here
{
    write_msr(v, (u32)v->s.gpr[RCX], (u64)(u32)v->s.gpr[RDX] << 32 | (u32)v->s.gpr[RAX]);
}

// RDMSRLIST and WRMSRLIST: the set bits of RCX choose entries of the table of MSRs at RSI and of the table of
// values at RDI, the lowest first. As with a REP, each one done is done, and the boundary has its turn.
RAISES static void msr_list(struct vcpu *v, bool write)
{
    u64 *left = &v->s.gpr[RCX];
    if ((v->s.gpr[RSI] | v->s.gpr[RDI]) & 7) raise_gp0(v);
    while (*left) {
        u64 n = (u64)__builtin_ctzll(*left), x = 0;
        u64 msr = lin_load(v, seg_linear(v, SEG_DS, v->s.gpr[RSI] + 8 * n, 8, ACC_READ), 8);
        laddr at = seg_linear(v, SEG_DS, v->s.gpr[RDI] + 8 * n, 8, write ? ACC_READ : ACC_WRITE);
        if (msr >> 32) raise_gp0(v);
        if (write) x = lin_load(v, at, 8);
        vmx_intercept_msr_list(v, write, (u32)msr, x);
        if (write)
            write_msr(v, (u32)msr, x);
        else
            lin_store(v, at, 8, read_msr(v, (u32)msr));
        *left &= *left - 1;
        if (*left) exec_rep_pause(v);
    }
}
void op_rdmsrlist(struct vcpu *v, const struct insn *in) { msr_list(v, false); }
void op_wrmsrlist(struct vcpu *v, const struct insn *in) { msr_list(v, true); }

// ---- the clock ----

static u64 read_tsc(struct vcpu *v) { return vmx_tsc(v, cpu_clock(v) + v->s.msr.tsc_offset); }

void op_rdtsc(struct vcpu *v, const struct insn *in)
{
    u64 t = read_tsc(v);
    v->s.gpr[RAX] = (u32)t;
    v->s.gpr[RDX] = t >> 32;
}

void op_rdtscp(struct vcpu *v, const struct insn *in)
{
    u64 t = read_tsc(v);
    v->s.gpr[RAX] = (u32)t;
    v->s.gpr[RDX] = t >> 32;
    v->s.gpr[RCX] = (u32)v->s.msr.tsc_aux;
}

void op_rdpid(struct vcpu *v, const struct insn *in) { REG64(v, in->m) = (u32)v->s.msr.tsc_aux; }

void op_rdpmc(struct vcpu *v, const struct insn *in)
{
    raise_gp0(v); // no counter exists
}

// ---- random numbers: a function of the seed and of how many were drawn ----

static u64 next_random(struct vcpu *v)
{
    // An additive sequence whose terms are scrambled by two multiplications: any seed will do, 0 too.
    u64 x = v->s.rng_state += 0x9E3779B97F4A7C15ull;
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93ull;
    x = (x ^ x >> 29) * 0xA0761D6478BD642Full;
    return x ^ x >> 32;
}

void op_rdrand(struct vcpu *v, const struct insn *in)
{
    reg_set(v, in->m, in->osz, next_random(v));
    v->s.fl = fl_pack(FL_CF);
}

// ---- idle ----

void op_hlt(struct vcpu *v, const struct insn *in)
{
    v->s.activity = ACTIVITY_HLT;
    cpu_attention(v);
}

RAISES static void monitor(struct vcpu *v, laddr la)
{
    paddr pa;
    lin_host(v, la, ACC_READ, &pa); // checked as a load of a byte
    if (mmu_apic_access(&v->d.mmu, pa)) {
        vmx_apic_check(v, la, 1, ACC_READ);
        pa = vmx_apic_redirect(v, pa);
    }
    cpu_monitor_arm(v, pa & ~63ull);
}

void op_monitor(struct vcpu *v, const struct insn *in)
{
    if ((u32)v->s.gpr[RCX]) raise_gp0(v); // no extensions
    u64 offset = in->asz == W64 ? v->s.gpr[RAX] : in->asz == W32 ? (u32)v->s.gpr[RAX] : (u16)v->s.gpr[RAX];
    laddr la = seg_linear(v, in->seg, offset, 1, ACC_READ);
    monitor(v, la);
}

void op_mwait(struct vcpu *v, const struct insn *in)
{
    // EAX asks for a C-state: all are alike here. ECX[0]: an interrupt ends the wait also with IF=0.
    u32 extensions = (u32)v->s.gpr[RCX];
    if (extensions & ~1u) raise_gp0(v);
    // Waits only while the monitor is armed: an interrupt, exception or VM transition since MONITOR disarms
    // it, and a store to the line is what it waits for. Else until an interrupt, NMI, INIT.
    if (!v->s.monitor_addr) return;
    // a guest that has an interrupt window to exit at, or a virtual interrupt, goes on (SDM 28.3)
    if (extensions & 1 && !(v->s.rflags & FL_IF) && vmx_mwait_goes_on(v)) return;
    v->s.activity = ACTIVITY_MWAIT;
    v->s.mwait_masked = extensions & 1;
    cpu_attention(v);
}

// ---- WAITPKG ----
enum { USER_WAIT_UNITS = 250 }; // the longest that one of them waits, so that an interrupt is not late

// UMONITOR: at any CPL, of the address in a register
void op_umonitor(struct vcpu *v, const struct insn *in)
{
    u64 offset = REG64(v, in->m);
    if (in->asz != W64) offset = in->asz == W32 ? (u32)offset : (u16)offset;
    monitor(v, seg_linear(v, in->seg, offset, 1, ACC_READ));
}

// Another processor, for which this one may wait, has its turn.
static void give_way(const struct vcpu *v)
{
    if (v->board && v->board->pause) v->board->pause(v->board_opaque, v->index);
}

// UMWAIT and TPAUSE wait until the TSC reaches EDX:EAX, at the most as long as IA32_UMWAIT_CONTROL[31:2]
// says, which CF tells. What else ends a wait is left to the processor: here it is 1,000 ticks of the
// clock's at the latest, or the monitored line's being written.
RAISES static void user_wait(struct vcpu *v, const struct insn *in, bool monitored)
{
    if (REG32(v, in->m) & ~1u) raise_gp0(v); // bit 0: C0.1 instead of C0.2, which are alike here
    u64 now = read_tsc(v), until = (u64)(u32)v->s.gpr[RDX] << 32 | (u32)v->s.gpr[RAX];
    u64 ticks = until > now ? until - now : 0, limit = v->s.msr.umwait_control & ~3ull;
    bool limited = limit && ticks > limit;
    if (limited) ticks = limit;
    ticks = vmx_delay(v, ticks);
    u64 units = ticks / CPU_TICKS_PER_UNIT + (ticks % CPU_TICKS_PER_UNIT != 0);
    if (monitored && !v->s.monitor_addr) units = 0, limited = false;
    if (units > USER_WAIT_UNITS) units = USER_WAIT_UNITS, limited = false;
    v->s.fl = fl_pack(limited ? FL_CF : 0);
    cpu_charge(v, units);
    give_way(v);
}
void op_umwait(struct vcpu *v, const struct insn *in) { user_wait(v, in, true); }
void op_tpause(struct vcpu *v, const struct insn *in) { user_wait(v, in, false); }

void op_pause(struct vcpu *v, const struct insn *in)
{
    cpu_charge(v, COST_PAUSE);
    give_way(v);
}

// ---- flags ----

// Which flag CLI and STI change: IOPL decides whether it may be IF. Otherwise it is VIF in virtual-8086 mode
// with CR4.VME and at level 3 with CR4.PVI, or #GP(0) (SDM 22.3, 22.4).
static u32 interrupt_flag(struct vcpu *v)
{
    if (!(v->d.mode & MODE_PE) || v->d.cpl <= (v->s.rflags & FL_IOPL) >> 12) return FL_IF;
    bool virtual_if = v->d.mode & MODE_VM ? v->s.cr4 & CR4_VME : v->d.cpl == 3 && v->s.cr4 & CR4_PVI;
    if (!virtual_if) raise_gp0(v);
    return FL_VIF;
}

void op_cli(struct vcpu *v, const struct insn *in)
{
    v->s.rflags &= ~(u64)interrupt_flag(v);
    cpu_attention(v);
}

void op_sti(struct vcpu *v, const struct insn *in)
{
    if (interrupt_flag(v) == FL_VIF) {
        if (v->s.rflags & FL_VIP) raise_gp0(v);
        v->s.rflags |= FL_VIF;
        return;
    }
    if (!(v->s.rflags & FL_IF)) { // the next instruction runs before any interrupt
        v->s.blocking = (v->s.blocking & ~(u32)BLOCKING_BY_MOV_SS) | BLOCKING_BY_STI;
        v->s.shadow_one = true;
    }
    v->s.rflags |= FL_IF;
    cpu_attention(v);
}

static void set_ac(struct vcpu *v, u64 ac)
{
    if (v->d.cpl > 0) raise_ud(v);
    v->s.rflags = (v->s.rflags & ~(u64)FL_AC) | ac;
    cpu_mode_changed(v);
}
// CLAC
void op_clac(struct vcpu *v, const struct insn *in) { set_ac(v, 0); }
// STAC
void op_stac(struct vcpu *v, const struct insn *in) { set_ac(v, FL_AC); }

static bool v86_below_iopl3(const struct vcpu *v)
{
    return v->d.mode & MODE_VM && (v->s.rflags & FL_IOPL) != FL_IOPL;
}

// PUSHF and POPF of virtual-8086 mode: true if VIF stands in for IF.
static bool virtual_if(struct vcpu *v, const struct insn *in)
{
    if (!v86_below_iopl3(v)) return false;
    if (in->osz != W16 || !(v->s.cr4 & CR4_VME)) raise_gp0(v);
    return true;
}

void op_pushf(struct vcpu *v, const struct insn *in)
{
    u64 f = cpu_rflags(v) & ~(u64)(FL_RF | FL_VM);
    if (virtual_if(v, in)) f = (f & ~(u64)FL_IF) | FL_IOPL | (f & FL_VIF ? FL_IF : 0);
    stack_push(v, in->osz, f);
}

void op_popf(struct vcpu *v, const struct insn *in)
{
    bool vif = virtual_if(v, in);
    u64 x = stack_peek(v, in->osz, 0), old = cpu_rflags(v);
    if (vif && cpu_virtual_if_refused(v, x)) raise_gp0(v);
    unsigned iopl = (unsigned)(old & FL_IOPL) >> 12;
    u64 may = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID;
    if (vif) {
        may |= FL_VIF;
        old &= ~(u64)FL_VIF;
        x = (x & ~(u64)FL_VIF) | (x & FL_IF ? FL_VIF : 0);
    } else if (v->d.mode & MODE_VM)
        may |= FL_IF;
    else {
        if (v->d.cpl <= iopl) may |= FL_IF;
        if (v->d.cpl == 0) may |= FL_IOPL;
    }
    if (in->osz == W16) may &= 0xFFFF | FL_VIF;
    u64 keep = ~may & ~(u64)FL_RF; // VIF and VIP too: older editions of the manual have them cleared
    stack_add(v, W_BYTES(in->osz));
    cpu_set_rflags(v, (old & keep) | (x & may));
    if ((old ^ x) & may & (FL_TF | FL_AC)) cpu_mode_changed(v);
    cpu_attention(v);
}

// ---- what is #UD by nature, and what is nothing ----

void op_rsm(struct vcpu *v, const struct insn *in) { raise_ud(v); } // there is no system-management mode

// ---- software interrupts ----

static struct event software_event_of(struct vcpu *v, const struct insn *in, u8 vector, u8 type)
{
    v->s.rflags &= ~(u64)FL_RF; // at its start: it is pushed as 0 (SDM 19.3.1.1)
    return (struct event){
        .kind = EVENT_INTERRUPTION, .vector = vector, .type = type, .insn_len = in->len, .trap = true};
}

_Noreturn static void software_event(struct vcpu *v, const struct insn *in, u8 vector, u8 type)
{
    struct event e = software_event_of(v, in, vector, type);
    raise_event(v, &e);
}

void op_int3(struct vcpu *v, const struct insn *in) { software_event(v, in, VEC_BP, EVT_SW_EXCEPTION); }
void op_int1(struct vcpu *v, const struct insn *in) { software_event(v, in, VEC_DB, EVT_PRIV_SW_EXCEPTION); }
void op_into(struct vcpu *v, const struct insn *in)
{
    if (v->s.fl & AX_OF) software_event(v, in, VEC_OF, EVT_SW_EXCEPTION);
}

// Delivery asks again. What is met at the bitmap is met by the delivery, unlike the #GP of one that may not
// be made (SDM 30.2.4).
static bool redirected(struct vcpu *v, const struct insn *in)
{
    struct event e = software_event_of(v, in, (u8)in->imm, EVT_SW_INTERRUPT);
    u32 blocking = v->s.blocking;
    v->s.blocking &= ~(u32)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    vmx_vectoring_begin(v, &e);
    v->d.delivering = e;
    bool yes = deliver_v86_redirects(v, (u8)in->imm);
    v->d.delivering.kind = EVENT_NONE;
    vmx_vectoring_put_off(v);
    v->s.blocking = blocking;
    return yes;
}

void op_int(struct vcpu *v, const struct insn *in)
{
    bool vme = v->d.mode & MODE_VM && v->s.cr4 & CR4_VME && redirected(v, in);
    if (v86_below_iopl3(v) && !vme) raise_gp0(v);
    software_event(v, in, (u8)in->imm, EVT_SW_INTERRUPT);
}

void op_bound(struct vcpu *v, const struct insn *in)
{
    unsigned n = W_BYTES(in->osz);
    u64 ea = insn_ea(v, in), mask = in->asz == W16 ? 0xFFFF : 0xFFFFFFFF;
    s64 index = in->osz == W16 ? (s16)REG16(v, in->r) : (s32)REG32(v, in->r);
    for (unsigned i = 0; i < 2; i++) { // below the lower bound, the upper one is not read
        u64 x = lin_load(v, seg_linear(v, in->seg, (ea + i * n) & mask, n, ACC_READ), n);
        s64 bound = in->osz == W16 ? (s16)x : (s32)x;
        if (i ? index > bound : index < bound) raise_fault(v, VEC_BR);
    }
}
