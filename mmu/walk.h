// Page-table and EPT walks: functions of a small context and of memory, in which they set accessed and dirty
// flags. They know no VMCS and never unwind.
#ifndef MMU_WALK_H
#define MMU_WALK_H

#include "mmu/types.h"
#include "mmu/phys.h"
#include "mmu/walk_cache.h"

enum paging_mode { PAGING_OFF, PAGING_32, PAGING_PAE, PAGING_4LEVEL, PAGING_5LEVEL };

// Everything that a translation depends on, besides memory. cpu_context_changed (cpu/engine/tlbops.c) fills
// it from the control registers, and in VMX non-root operation vmx_fill_mmu (vmx/control.c) from the
// controls.
struct mmu_ctx {
    u64 cr3;
    u64 pdpte[4]; // PAE: the four registers (loaded by MOV CR3 or from the VMCS)
    u64 eptp;     // EPT pointer when `ept`
    u64 ept_view; // identifies (ept, EP4TA) in TLB tags: EPTP bits 51:12 | 1, or 0 without EPT
    // The APIC-access page with bit 0 set, 0: none. No translation depends on it, but what an access does
    // there: that is the processor's part, and here that the paging structures behind EPT are not to be
    // there.
    u64 apic_access;
    u32 pkru, pkrs;
    u16 vpid;  // 0 when not in VMX non-root operation or "enable VPID" is 0
    u16 pcid;  // CR3[11:0] when CR4.PCIDE, else 0
    u8 paging; // enum paging_mode
    u8 maxphyaddr;
    u8 cpu; // index of the processor, for MMIO reads by walks
    bool wp, smep, smap, pke, pks, pse, nxe, pge;
    bool gib_pages;        // 1 GiB pages supported (CPUID.80000001H:EDX.26)
    bool ept;              // EPT in use
    bool ept_ad;           // EPTP bit 6
    bool ept_mbec;         // mode-based execute control
    bool ept_gib;          // 1 GiB EPT pages supported
    bool ept_exec_only;    // execute without read is legal in EPT entries (IA32_VMX_EPT_VPID_CAP bit 0)
    bool ept_advanced;     // advanced VM-exit information for EPT violations (bit 22 there)
    bool ept_pml;          // page-modification logging, with ept_ad
    bool ept_subpages;     // sub-page write permissions
    bool ept_paging_write; // EPT paging-write control
    bool ept_verify;       // guest-paging verification, with ept_paging_write
    bool hlat;             // HLAT paging (only looked at with 4-level and 5-level paging)
    bool hlat_upper;       // for addresses with bit 63 alone (HLAT prefix size 1)
    u64 hlatp;             // its root, in place of CR3
    paddr pml_index;       // where the PML index is kept, 16 bits in RAM (the field of the current VMCS)
    paddr pml_log;         // the log: 512 entries
    paddr spp_root;        // SPPTP
    // How long translations are kept (enum tlb_mode, cpu/state/vcpu.h): what walks keep for each other, NULL:
    // nothing; `coherent`: the pages of the structures that they read are noted (phys_table), so that who
    // writes there is seen.
    struct walk_cache *cache;
    bool coherent;
    bool notes;              // `coherent`, or in a peek
    struct walk_steps *peek; // walk_peek's alone: nothing is written, and the entries are noted here
};

// The entries that a walk read, in order: of both stages, those of the second before the one of the first
// that they lead to.
struct walk_steps {
    unsigned n;
    struct walk_step {
        bool second; // of the extended page tables
        u8 level;    // 0: page table, 1: page directory ...
        gpaddr gpa;  // of a first-stage entry
        paddr pa;
        u64 value;
    } step[68]; // 5 entries of stage 1, each behind 5 of stage 2, twice with HLAT, and 5 for the final
                // address
};

// What an access is.
enum {
    ACC_READ = 0,
    ACC_WRITE = 1,
    ACC_FETCH = 2,
    ACC_KIND = 3,
    ACC_USER =
        4, // CPL 3 and not an implicit supervisor access (walk_ept: the linear address is a user-mode one)
    ACC_IMPLICIT = 8, // implicit supervisor access (descriptor tables, TSS): SMAP without regard to EFLAGS.AC
    ACC_AC = 16,      // EFLAGS.AC is 1 (SMAP is overridden for explicit supervisor data accesses)
    // bits 31:8: how many bytes after its first one the access has on this page (sub-page permissions)
    ACC_SPAN_SHIFT = 8,
};
static inline u32 acc_span(unsigned bytes) { return (bytes - 1) << ACC_SPAN_SHIFT; }

// Rights of a translation, cached in the TLB.
enum {
    TLB_USER = 1 << 0,  // U/S of all levels
    TLB_WRITE = 1 << 1, // R/W of all levels (1 where paging is off)
    TLB_EXEC = 1 << 2,  // no XD at any level
    TLB_GLOBAL = 1 << 3,
    TLB_DIRTY = 1 << 4, // stage 1's dirty bit was set (or paging is off): a write needs no walk
    TLB_S2_READ = 1 << 5,
    TLB_S2_WRITE = 1 << 6,
    TLB_S2_EXEC = 1 << 7,      // execute (supervisor-mode linear addresses if mode-based)
    TLB_S2_EXEC_USER = 1 << 8, // execute for user-mode linear addresses; meaningless unless mode-based
    TLB_S2_DIRTY = 1 << 9,     // EPT dirty bit was set, or EPT A/D not in use
    TLB_PKEY_SHIFT = 12,       // bits 15:12: protection key
};

enum walk_status {
    WALK_OK,
    WALK_PF,            // #PF with `error`
    WALK_EPT_VIOLATION, // exit 48 with `qualification`, `gpa`; linear address valid as the qualification says
    WALK_EPT_MISCONFIG, // exit 49 with `gpa`
    WALK_APIC_ACCESS,   // exit 44: a guest-physical access to the APIC-access page
    WALK_PML_FULL,      // exit 62: a flag of an EPT entry would have been set, and the log is full
    WALK_SPP,           // exit 66 with `gpa` and `qualification` (bit 11: a miss, else a misconfiguration)
    WALK_NOT_RAM,       // walk_peek only: an entry is not in RAM, and reading a device is no look without
                        // consequences
};

struct walk_result {
    u8 status; // enum walk_status
    // WALK_OK: log2 of the size of the page in stage 1 (12 where paging is off): what INVLPG on any
    // address of it must invalidate, however small the pieces are that the TLB holds
    u8 page_shift;
    // WALK_EPT_VIOLATION: bit 63 of the EPT entry that decides about it is 0, so that it may become #VE
    bool convertible;
    u32 rights; // TLB_*
    u32 error;  // WALK_PF: page-fault error code
    // WALK_EPT_VIOLATION: bits as in exit qualification (SDM table "Exit Qualification for EPT Violations")
    u64 qualification;
    gpaddr gpa; // of the access (WALK_OK), or the guest-physical address that failed
    paddr pa;   // WALK_OK
};

// Full translation of one linear address: permission checks, accessed and dirty updates in both stages as the
// manual orders them. `acc` is ACC_*. Never raises.
struct walk_result walk_linear(struct phys *p, const struct mmu_ctx *c, laddr la, u32 acc);
// The same by the same steps, for who looks from outside (debugger, monitor): what the access would do, with
// no accessed or dirty flag set and no device read. `steps` receives the entries that were read; NULL: not
// wanted.
struct walk_result walk_peek(const struct phys *p, const struct mmu_ctx *c, laddr la, u32 acc,
                             struct walk_steps *steps);
// Second stage alone (PAE PDPTE loads, guest-physical accesses that have no linear address). `acc` =
// ACC_READ/WRITE/FETCH; `linear`: the qualification bits 7 and 8 to report (0 = no linear address;
// EPT_Q_LINEAR, EPT_Q_LINEAR | EPT_Q_FINAL). Of the result's rights only the second stage's are set. Without
// EPT: identity with full rights.
struct walk_result walk_ept(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 acc, u64 linear);
#define EPT_Q_LINEAR       BIT(7)
#define EPT_Q_FINAL        BIT(8)
#define EPT_Q_USER         BIT(9) // this and the next two: advanced information
#define EPT_Q_WRITABLE     BIT(10)
#define EPT_Q_XD           BIT(11)
#define EPT_Q_VERIFICATION BIT(15)
#define SPP_Q_MISS         BIT(11)

// Whether cached rights still permit this access under the present CR0.WP, SMEP, SMAP, PKRU, IA32_PKRS,
// EFER.NXE. True means "grant"; false means nothing but "walk again". A write through a translation with a
// clear dirty bit in either stage is refused.
bool walk_rights_permit(const struct mmu_ctx *c, u32 rights, u32 acc);

// PAE: reads and checks the four PDPTEs at CR3; returns false if a present one has reserved bits set (the
// caller raises #GP or fails the entry). With EPT the read is translated; a failure there is returned in *r
// with status != WALK_OK (and false), so look at r->status first.
bool walk_load_pdptes(struct phys *p, const struct mmu_ctx *c, u64 cr3, u64 pdpte[4], struct walk_result *r);

// A PDPTE of PAE paging, where the processor loads it: bits 2:1, 8:5 and 63:MAXPHYADDR of a present one are
// reserved (SDM 5.4.1).
static inline bool walk_pdpte_valid(u64 pdpte, unsigned maxphyaddr)
{
    return !(pdpte & 1) || !(pdpte & (0x1E6 | UINT64_MAX << maxphyaddr));
}

static inline bool mmu_apic_access(const struct mmu_ctx *c,
                                   paddr a) // a linear access, translated, goes there
{
    return unlikely(((a & PAGE_MASK) | 1) == c->apic_access);
}

static inline bool laddr_canonical(u64 a, unsigned bits) // bits: 48 or 57
{
    return (u64)((s64)(a << (64 - bits)) >> (64 - bits)) == a;
}

#endif
