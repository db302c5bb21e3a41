// The processor: architectural state as plain data, and what is derived from it.
//
// Time: an instruction costs one unit; `extra` counts the units charged beyond that (faults, exits, I/O, REP
// iterations). vtime = units * CPU_TICKS_PER_UNIT + skipped, in ticks of 2 GHz: a pure function of the
// instruction stream.
#ifndef CPU_VCPU_H
#define CPU_VCPU_H

#include <setjmp.h>
#include <signal.h>

#include "mmu/types.h"
#include "mmu/phys.h"
#include "mmu/tlb.h"
#include "mmu/walk.h"
#include "cpu/state/event.h"
#include "cpu/state/xcomponent.h"
#include "vmx/state.h"

#define CPU_TICKS_PER_UNIT 4
#define CPU_TSC_HZ         2000000000ull
#define CPU_CRYSTAL_HZ     25000000ull
#define CPU_APIC_BASE      0xFEE00000u // of the local APIC, at power-up

enum gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum seg_index { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

STATE_BEGIN
struct segment { // with its hidden part
    u64 base;
    u32 limit; // in bytes, scaled
    // VMX access-rights format: 3:0 type, 4 S, 6:5 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable
    u32 ar;
    u16 sel;
    u16 pad[3];
};
STATE_END
// clang-format off
enum {
    AR_ACCESSED = 1 << 0, AR_WRITABLE = 1 << 1 /* data */, AR_READABLE = 1 << 1 /* code */,
    AR_EXPAND_DOWN = 1 << 2, AR_CONFORMING = 1 << 2, AR_CODE = 1 << 3, AR_S = 1 << 4, AR_DPL = 3 << 5,
    AR_P = 1 << 7, AR_AVL = 1 << 12, AR_L = 1 << 13, AR_DB = 1 << 14, AR_G = 1 << 15, AR_UNUSABLE = 1 << 16,
};
// clang-format on
static inline unsigned ar_dpl(u32 ar) { return ar >> 5 & 3; }

STATE_BEGIN
// clang-format off
struct dtable { u64 base; u32 limit; u32 pad; };
STATE_END

// EFLAGS bits.
enum {
    FL_CF = 1, FL_PF = 4, FL_AF = 0x10, FL_ZF = 0x40, FL_SF = 0x80, FL_TF = 0x100, FL_IF = 0x200, FL_DF = 0x400,
    FL_OF = 0x800, FL_IOPL = 0x3000, FL_NT = 0x4000, FL_RF = 0x10000, FL_VM = 0x20000, FL_AC = 0x40000,
    FL_VIF = 0x80000, FL_VIP = 0x100000, FL_ID = 0x200000,
};
// clang-format on
#define FL_ARITH (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)
// The six arithmetic flags live in `fl`, as the host's own LAHF (high byte) and SETO (low byte) leave them:
// one 16-bit store writes them all, one bit test reads any. ARCHITECTURE.md says why.
enum { AX_OF = 1, AX_CF = 0x100, AX_PF = 0x400, AX_AF = 0x1000, AX_ZF = 0x4000, AX_SF = 0x8000 };

// clang-format off
enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_ET = 16, CR0_NE = 32, CR0_WP = 1 << 16, CR0_AM = 1 << 18,
       CR0_NW = 1 << 29, CR0_CD = 1 << 30 };
// clang-format on
#define CR0_PG 0x80000000u
// clang-format off
enum { CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 16, CR4_PAE = 32, CR4_MCE = 64, CR4_PGE = 128,
       CR4_PCE = 256, CR4_OSFXSR = 512, CR4_OSXMMEXCPT = 1024, CR4_UMIP = 2048, CR4_LA57 = 4096, CR4_VMXE = 8192,
       CR4_SMXE = 1 << 14, CR4_FSGSBASE = 1 << 16, CR4_PCIDE = 1 << 17, CR4_OSXSAVE = 1 << 18, CR4_SMEP = 1 << 20,
       CR4_SMAP = 1 << 21, CR4_PKE = 1 << 22, CR4_PKS = 1 << 24 };
// clang-format on
enum { EFER_SCE = 1, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11 };

// Blocking, in the bits of the VMX interruptibility state.
enum { BLOCKING_BY_STI = 1, BLOCKING_BY_MOV_SS = 2, BLOCKING_BY_SMI = 4, BLOCKING_BY_NMI = 8 };
// The VMX activity states, and one that no VMCS shows (SDM 27.4.2): waiting in MWAIT.
enum { ACTIVITY_ACTIVE, ACTIVITY_HLT, ACTIVITY_SHUTDOWN, ACTIVITY_WAIT_SIPI, ACTIVITY_MWAIT };

STATE_BEGIN
// clang-format off
struct fpu_state {
    struct { u64 m; u16 se; u16 pad[3]; } r[8]; // physical registers R0-R7 (MMi is r[i].m)
    u16 fcw, fsw; // fsw holds TOP
    u16 ftw;      // full tag word, two bits a physical register
    u16 fop;
    u16 fcs, fds;
    u32 pad;
    u64 fip, fdp;
};
// clang-format on

// What XRSTOR and XRSTORS leave for the optimizations of later saves (SDM volume 1, 13.6): XRSTOR_INFO, and
// the components as they were loaded. One that still equals its image counts as not modified since.
struct xrstor_state {
    u64 linear;     // of the area
    u64 xcomp_bv;   // of its header (0: the standard format)
    u64 loaded;     // the components whose images are below; 0: none, or there was no XRSTOR yet
    u64 in_use;     // components that XRSTOR loaded: they count as in use whatever they hold
    u32 cpl, guest; // CPL; 1 in VMX non-root operation
    u32 mxcsr;
    u32 registers; // XMM registers that there were: 8 outside 64-bit mode
    struct fpu_state fpu;
    u64 xmm[16][2];
    u8 extended[XSAVE_EXTENDED]; // the others, in the order of xcomponents[]
};

struct msr_state {
    u64 efer, star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 tsc_offset; // guest-visible TSC = vtime + tsc_offset (WRMSR 10h, TSC_ADJUST)
    u64 tsc_adjust;
    u64 apic_base; // mirror of the local APIC's, for speed of the check of the page
    u64 feature_control, misc_enable, debugctl, pat, spec_ctrl, xss, pkg_cst_config, power_ctl;
    u64 mtrr_def_type, mtrr_fix[11], mtrr_phys_base[10], mtrr_phys_mask[10];
    u64 mcg_status, mcg_ctl, bios_sign_id;
    u64 pkrs, umwait_control;
    u64 spare[6];
};

#define VCPU_STATE_VERSION \
    11 // of this struct and of those in it: one more with each change of layout or meaning

struct vcpu_state {
    u64 gpr[16];
    u64 zero; // always 0: the base or index that an address does not have
    u64 rip;  // inside a block: RIP of the block's first instruction; at every boundary: RIP
    struct segment seg[SEG_COUNT];
    u16 fl; // arithmetic flags, F_*
    u16 pad0[3];
    u64 rflags; // all other flags (bit 1 set, arithmetic bits 0)
    struct dtable gdtr, idtr;
    u64 cr0, cr2, cr3, cr4, xcr0;
    u64 pdpte[4];
    u64 dr[8];
    u32 pkru;
    u32 mxcsr; // while the run loop runs with all masks set, the host's register is ahead of this (fp_sync)
    u32 blocking; // BLOCKING_BY_*
    u32 activity;
    u64 units, extra, skipped; // time: see the head of this file; exact at boundaries
    bool nmi_pending, init_pending, sipi_pending, virtual_nmi_blocked;
    u8 sipi_vector;
    bool shadow_one; // the STI/MOV SS shadow covers the next instruction
    // level of the INTR pin, as the board drives it: what its local APIC's state implies, so hashes leave it
    // out
    bool intr_line;
    bool mwait_masked; // in ACTIVITY_MWAIT: an interrupt that IF keeps out ends the wait too
    // pending debug exceptions, in the format of the VMCS field (B0-B3, enabled 12, BS 14), and BT 15
    u64 pending_dbg;
    // event to deliver before the next instruction (VM-entry injection); kind EVENT_NONE if none
    struct event inject;
    u64 xmm[16][2];
    u64 ymm_high[16][2]; // bits 255:128 of the YMM registers
    struct fpu_state fpu;
    struct xrstor_state xrstor;
    struct msr_state msr;
    struct vmx_state vmx;
    u64 monitor_addr; // physical address of the line that MONITOR armed, bit 0 set; 0: not armed
    u64 rng_state;    // RDRAND/RDSEED: seeded by the command line
    struct tlb itlb, dtlb;
    struct walk_cache kept; // TLB_LAZY
};
STATE_END

// What the board does for a processor. Filled by machine.c; `opaque` is the machine.
struct cpu_board_ops {
    u64 (*port_read)(void *opaque, unsigned cpu, u16 port, unsigned size);
    void (*port_write)(void *opaque, unsigned cpu, u16 port, unsigned size, u64 value);
    int (*intr_ack)(void *opaque, unsigned cpu); // the vector of the interrupt now taken; -1 if it went away
    u8 (*tpr_get)(void *opaque, unsigned cpu);   // all 8 bits of the local APIC's TPR
    void (*tpr_set)(void *opaque, unsigned cpu, u8 tpr);
    // IA32_APIC_BASE, IA32_TSC_DEADLINE, 800h-8FFh. False: #GP(0).
    bool (*msr_read)(void *opaque, unsigned cpu, u32 msr, u64 *value);
    bool (*msr_write)(void *opaque, unsigned cpu, u32 msr, u64 value);
    // EOI of what intr_ack gave last, as by a write to the local APIC's register
    void (*eoi)(void *opaque, unsigned cpu);
    // a fixed interrupt to a physical APIC ID, as by its local APIC's ICR (xAPIC mode: the ID is in bits
    // 15:8)
    void (*ipi)(void *opaque, unsigned cpu, u32 destination, u8 vector);
    // triple fault or VMX abort: v->s still holds the state
    void (*shutdown)(void *opaque, unsigned cpu, const char *why);
    // an INIT was taken: the local APIC resets with the processor
    void (*init_taken)(void *opaque, unsigned cpu);
    // The FERR# pin has this level from now on (CR0.NE = 0). True: IGNNE# is asserted.
    bool (*ferr)(void *opaque, unsigned cpu, bool level);
    // PAUSE: whoever waits for another processor may let it run
    void (*pause)(void *opaque, unsigned cpu);
    // a store to the line that the processor waits for in MWAIT ended its wait
    void (*monitor_hit)(void *opaque, unsigned cpu);
    // its VMCS became current: what other processor has it current as well; -1: none
    int (*vmcs_elsewhere)(void *opaque, unsigned cpu, paddr vmcs);
};

// Notices from the board to a processor (any time between instructions or during an access of that
// processor).
// clang-format off
enum cpu_signal { CPU_SIGNAL_INTR_ON, CPU_SIGNAL_INTR_OFF, CPU_SIGNAL_NMI, CPU_SIGNAL_INIT, CPU_SIGNAL_SIPI, CPU_SIGNAL_STOP };
// clang-format on

struct block;
struct insn;
struct row;
struct engine;
// The enabled breakpoints of the debug registers (cpu/system/debug.h), a bit for each of DR0-DR3.
struct breakpoints {
    u8 any, code, read, write, port;
    u8 size[4];
    u8 pad[7];
    u64 address[4]; // aligned on their size
};
struct cpu_features; // cpu/system/cpuid.h
struct vmx_control;  // vmx/control.h: decoded controls of the current VMCS, derived
struct trace;        // cpu/state/trace.h
struct cpu_stops;    // cpu/system/stops.h
// Who wants to see each instruction that begins, by its RIP. The loop engine alone tells (vcpu.loop_engine).
struct cpu_path {
    void (*begun)(void *opaque, const struct vcpu *v, u64 rip, const struct insn *in);
    void *opaque;
};

#define UNIMPLEMENTED_MAX 64

// Everything below can be dropped and rebuilt with no effect that a guest can see.
struct vcpu_derived {
    struct fast_tlb *ft;   // of the context and view in use
    s64 budget;            // units left in the slice (may go negative by the length of a block)
    u64 units_end;         // s.units at the slice's end: s.units = units_end - budget at block boundaries
    u64 npc;               // checked bodies that branch put the target here
    const struct insn *in; // the instruction a checked body executes; NULL between instructions
    u32 mode;              // cpu/state/mode.h
    u32 fetch_gen;         // links and jump-cache entries of this generation are good,
    // and those of this one: to pages that are global, good in every context of the same (VPID, EPT view)
    u32 fetch_gen_global;
    u32 found_gen;     // generation under which block_find's last answer is good
    bool fetch_global; // the last fetch was translated by a global entry alone
    bool attention;    // leave the block after this instruction: something waits at the boundary
    // of what makes attention: the running block was written to, or the slice may end sooner now
    bool leave;
    bool rf_loaded; // the instruction being executed loaded RF: it does not clear it
    // the IRET being executed removed blocking by (virtual) NMI: an exit that it causes says so
    bool iret_unblocked;
    // the instruction being executed is one that looks at TF after it and not before (SYSCALL, SYSRET), or
    // not at all (a task switch)
    bool looked_at_tf;
    bool branched; // it went where a branch led (set by checked bodies)
    u8 break_hit;  // breakpoints of data and ports that it has met so far, a bit a register
    u32 cpl;       // of the mode word
    struct mmu_ctx mmu;
    struct event event;      // raised and not yet handled
    struct event delivering; // being delivered through the IDT (a fault now is a nested one)
    jmp_buf landing;
    struct engine *engine; // block cache, jump cache, fast tables
    u64 slice_deadline;    // the clock's next deadline when the slice began
    u64 deadline_units;    // first value of s.units at which an architectural deadline is due
    u64 host_mxcsr_valid;
    struct breakpoints breaks;
};

// clang-format off
struct vcpu {
    struct vcpu_state s;
    struct vcpu_derived d;
    unsigned index;
    u32 apic_id; // initial APIC ID
    struct phys *phys;
    struct phys_subscriber subscriber; // to its notices
    const struct cpu_board_ops *board;
    void *board_opaque;
    const u64 *clock_next; // the board's next deadline, in ticks
    // the board's clock, where several processors have it in common: what one has read of it, none reads
    // less of later; NULL: this processor's own time
    u64 *clock_now;
    const struct cpu_features *features;
    struct vmx_control *vmx; // derived
    struct trace *trace;
    bool stop;        // asked to leave the run loop; by the host or the board, so neither state nor derived from it
    volatile sig_atomic_t stop_asked; // the same, by a signal handler of the host, at any instant (cpu_ask_stop)
    struct cpu_stops *stops; // of a debugger outside (cpu/system/stops.h); NULL: none
    bool loop_engine; // run every instruction in the loop
    u8 tlb_mode;      // enum tlb_mode; cpu_set_tlb
    u64 stale_uses;   // TLB_LAZY: translations that were used though memory says otherwise, as far as seen
    u64 *rows_run;    // a bit for each row that the loop has begun to run; NULL: nobody asks
    struct cpu_path *path; // NULL: nobody asks
    u64 fuzz_drop;    // drop all derived state about every so many units (0: never)
    // What a guest met that is not implemented, by name.
    struct { const char *name; u64 count; u64 detail; } unimplemented[UNIMPLEMENTED_MAX];
    unsigned unimplemented_n;
};
// clang-format on

// Reference a general register by its byte offset from the start of the vcpu (struct insn holds such
// offsets).
#define GPR_OFF(n)    ((u8)((n)*8))
#define GPR_ZERO_OFF  ((u8)(16 * 8))
#define GPR_RIP_OFF   ((u8)(17 * 8))
#define REG64(v, off) (*(u64 *)((u8 *)(v) + (off)))
#define REG32(v, off) (*(u32 *)((u8 *)(v) + (off)))
#define REG16(v, off) (*(u16 *)((u8 *)(v) + (off)))
#define REG8(v, off)  (*((u8 *)(v) + (off)))

// How long translations are kept (docs/tlb.md). All three are what the manual allows, so correct software
// sees no difference. STRICT: none outlives a change of what it was made from. LAZY: guest-physical mappings
// and a paging-structure cache beside the TLBs, and a look at what was kept, whenever it is used.
enum tlb_mode { TLB_NORMAL, TLB_STRICT, TLB_LAZY };

// ---- life (cpu/state/vcpu.c) ----
struct vcpu *vcpu_new(unsigned index, struct phys *phys, const struct cpu_features *features);
void vcpu_free(struct vcpu *v);
void vcpu_reset(struct vcpu *v, bool init); // power-up/RESET state, or INIT state
// v->s was put there whole, between slices: all else of the processor is made from it and from RAM
void cpu_loaded(struct vcpu *v);
// Of a saved state, before it is put there: what this processor cannot have been in, in a few words; NULL: it
// can
const char *cpu_state_impossible(const struct vcpu *v, const struct vcpu_state *s);
void cpu_signal(struct vcpu *v, enum cpu_signal what, u8 vector);
// From a signal handler of the host, too: the processor leaves its run loop at the next boundary that it
// comes to, of an instruction or of an iteration of REP, whatever its slice holds. Stays asked until
// cpu_stop_taken.
void cpu_ask_stop(struct vcpu *v);
void cpu_stop_taken(struct vcpu *v);
// MONITOR's line: armed, and disarmed by whatever the manual says ends it. A store to it, by anybody, disarms
// it too and ends MWAIT's wait; until then its page is watched.
void cpu_monitor_arm(struct vcpu *v, paddr line);
void cpu_monitor_disarm(struct vcpu *v);
void cpu_end_mwait(struct vcpu *v); // if it is in MWAIT: active, nothing monitored
void unimplemented(struct vcpu *v, const char *name, u64 detail); // counts, and names once in the log

// ---- flags ----
static inline u16 fl_pack(u64 rflags) { return (u16)((rflags & 0xD5) << 8 | (rflags >> 11 & 1) | 0x200); }
static inline u64 fl_unpack(u16 fl) { return (fl >> 8 & 0xD5) | (u64)(fl & 1) << 11; }
static inline u64 cpu_rflags(const struct vcpu *v) { return v->s.rflags | fl_unpack(v->s.fl); }
// no checks; cpu_mode_changed() if TF, RF, AC, VM, IF changed
static inline void cpu_set_rflags(struct vcpu *v, u64 f)
{
    v->s.fl = fl_pack(f);
    v->s.rflags = (f & ~(u64)FL_ARITH) | 2;
}

// ---- time (exact anywhere, also inside a checked body) ----
u64 cpu_units(const struct vcpu *v);     // units before the instruction being executed
u64 cpu_vtime(const struct vcpu *v);     // the same in ticks
u64 cpu_clock(struct vcpu *v);           // what clocks that processors have in common (the TSC) are read by
u64 cpu_clock_now(const struct vcpu *v); // what that would be, for who does not read one
u64 cpu_retired(const struct vcpu *v);   // instructions retired before the one being executed
static inline void cpu_charge(struct vcpu *v, u64 units) // beyond the one unit of the instruction
{
    v->s.extra += units;
    v->d.budget -= (s64)units;
}

// ---- consequences of a change of state: call after writing the fields ----
// CS/SS/DS/ES attributes, CR0, CR4, EFER, RFLAGS.VM/TF/AC, CPL, MXCSR masks, non-root
void cpu_mode_changed(struct vcpu *v);
void cpu_segment_loaded(struct vcpu *v); // a data segment alone: nothing but the mode word can follow
// CR3, PCID, VPID, EPTP, PDPTEs: what translations depend on (flushes nothing)
// (so are WP, SMEP, SMAP, PKE, PKRU, PKS, PKRS, NXE: fast tables are found by them too)
void cpu_context_changed(struct vcpu *v);
// The part of a translation context that control registers decide, without a second stage; PDPTEs are the
// caller's.
void mmu_of_registers(struct mmu_ctx *c, u64 cr0, u64 cr3, u64 cr4, u64 efer);
// fast tables and fetch links of all contexts (APIC base, watched pages)
void cpu_drop_fast(struct vcpu *v);
// of a page, by its address: no direct stores by this processor (phys_subscriber.guarded)
void tlbops_drop_page(struct vcpu *v, paddr page);
void tlbops_drop_writes(struct vcpu *v); // no direct stores anywhere (dirty tracking starts anew)
// after any invalidation of the architectural TLBs: what mirrored it goes
void cpu_tlb_flushed(struct vcpu *v);
void cpu_set_tlb(struct vcpu *v,
                 enum tlb_mode mode); // before it runs, and after phys_tables_begin unless NORMAL
// by which struct walk_cache knows the context in use
static inline u64 cpu_tlb_tag(const struct vcpu *v)
{
    return (u64)v->s.dtlb.restarts << 32 | v->s.dtlb.serial;
}
// Every translation that is kept, and what mirrors it, at any time; the translation context stays as it is.
void cpu_tlb_forget(struct vcpu *v);
void cpu_tables_written(struct vcpu *v); // a page that walks have read (phys_is_table)
void cpu_a20_changed(struct vcpu *v);    // after phys->a20_masked changed
// recompute: does anything wait at the boundary? (IF, INTR, NMI, pending ...)
void cpu_attention(struct vcpu *v);
void cpu_drop_derived(struct vcpu *v); // everything derived

// ---- running (cpu/engine/run.c) ----
enum run_exit { RUN_BUDGET, RUN_STOP, RUN_HALTED, RUN_SHUTDOWN };
// Runs until `units` more units are used, the clock's next deadline is due, a stop is asked, or the processor
// is idle.
enum run_exit vcpu_run(struct vcpu *v, u64 units);
// Idle (RUN_HALTED): which signals of the board would wake it (BIT(CPU_SIGNAL_...)), the vtime at which a
// timer of its own does, and going there.
u32 cpu_woken_by(const struct vcpu *v);
u64 cpu_own_deadline(const struct vcpu *v); // UINT64_MAX: no such timer runs
void cpu_skip_to(struct vcpu *v, u64 vtime);

#endif
