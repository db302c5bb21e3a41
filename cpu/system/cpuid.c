// CPUID: every leaf follows from the one feature list, live where the architecture says so.
//
// Who we say we are: GenuineIntel, family 6, model 80h, stepping 0, a model number that no processor carries.
// The errata lists of Linux, KVM, Xen and Windows go by model: an unlisted one gets no workaround for
// another's bug (a TSC-deadline erratum, a broken preemption timer, a microcode revision to be at least),
// while family 6 keeps everything that is keyed to the family (constant TSC, SEP, fast strings) and keeps the
// P4 and P6 performance-counter drivers away. So the hypervisor bit can stay clear, as it does on the bare
// machine that this is; +hypervisor sets it.
//
// IA32_ARCH_CAPABILITIES says which speculation flaws an interpreter does not have, so that kernels leave out
// what would only cost time here (page-table isolation, buffer clearing, retpolines); BHI_CTRL spares them
// the loops that clear the branch history, which Linux runs at each system call whatever BHI_NO says.
//
// Missing: leaf 0Ah beyond version 0 (no performance counters), leaf 18h, processor serial number, thermal
// leaf 6 bits.
#include <string.h>

#include "cpu/system/cpuid.h"
#include "cpu/engine/fp.h"
#include "cpu/host/features.h"
#include "cpu/state/mode.h"
#include "cpu/state/xcomponent.h"

enum { BASIC_MAX = 0x1F, EXTENDED_MAX = 0x80000008 };
enum { FAMILY = 6, MODEL = 0x80, STEPPING = 0 };
static const char brand[48] = "Matryoshka x86-64 processor @ 2.00GHz";

static const struct feature_row {
    const char *name;
    u32 leaf;
    u8 subleaf, reg, bit;
} feature_rows[FEATURE_COUNT] = {
#define FEATURE_ROW(e, n, l, s, r, b) [FEATURE_##e] = {n, l, s, r, b},
    FEATURES(FEATURE_ROW)
#undef FEATURE_ROW
};

// Turning the first off turns the second off: the second is built on it.
// clang-format off
static const struct { u8 base, derived; } depends[] = {
    {FEATURE_FXSR, FEATURE_SSE}, {FEATURE_MMX, FEATURE_SSE}, {FEATURE_SSE, FEATURE_SSE2}, {FEATURE_SSE2, FEATURE_SSE3},
    {FEATURE_SSE2, FEATURE_AES}, {FEATURE_SSE2, FEATURE_GFNI}, {FEATURE_SSE2, FEATURE_PCLMULQDQ}, {FEATURE_SSE2, FEATURE_SHA_NI}, {FEATURE_SSE3, FEATURE_SSSE3}, {FEATURE_SSSE3, FEATURE_SSE41}, {FEATURE_SSE41, FEATURE_SSE42},
    {FEATURE_FXSR, FEATURE_XSAVE}, {FEATURE_XSAVE, FEATURE_XSAVEOPT}, {FEATURE_XSAVE, FEATURE_XSAVEC},
    {FEATURE_XSAVE, FEATURE_XGETBV1}, {FEATURE_XSAVE, FEATURE_PKU}, {FEATURE_XSAVE, FEATURE_AVX}, {FEATURE_SSE42, FEATURE_AVX}, {FEATURE_AVX, FEATURE_F16C}, {FEATURE_AVX, FEATURE_FMA}, {FEATURE_AVX, FEATURE_AVX2},
    {FEATURE_AVX, FEATURE_VAES}, {FEATURE_AES, FEATURE_VAES}, {FEATURE_AVX, FEATURE_VPCLMULQDQ}, {FEATURE_PCLMULQDQ, FEATURE_VPCLMULQDQ}, {FEATURE_XSAVEC, FEATURE_XSAVES}, {FEATURE_APIC, FEATURE_X2APIC},
    {FEATURE_APIC, FEATURE_TSC_DEADLINE}, {FEATURE_TSC, FEATURE_TSC_DEADLINE}, {FEATURE_TSC, FEATURE_TSC_ADJUST},
    {FEATURE_TSC, FEATURE_RDTSCP}, {FEATURE_RDTSCP, FEATURE_RDPID}, {FEATURE_TSC, FEATURE_INVTSC}, {FEATURE_PAE, FEATURE_NX}, {FEATURE_PAE, FEATURE_LM},
    {FEATURE_LM, FEATURE_SYSCALL}, {FEATURE_LM, FEATURE_LAHF_LM}, {FEATURE_LM, FEATURE_LA57}, {FEATURE_LM, FEATURE_PCID},
    {FEATURE_LM, FEATURE_FSGSBASE}, {FEATURE_LM, FEATURE_PKU}, {FEATURE_LM, FEATURE_PKS}, {FEATURE_LM, FEATURE_PDPE1GB}, {FEATURE_LM, FEATURE_CX16},
    {FEATURE_SPEC_CTRL, FEATURE_BHI_CTRL}, {FEATURE_SPEC_CTRL, FEATURE_STIBP}, {FEATURE_SPEC_CTRL, FEATURE_SSBD}, {FEATURE_TSC, FEATURE_WAITPKG}, {FEATURE_CX8, FEATURE_CX16}, {FEATURE_PCID, FEATURE_INVPCID}, {FEATURE_PSE, FEATURE_PSE36}, {FEATURE_MCE, FEATURE_MCA},
};
// clang-format on

const char *cpu_feature_name(unsigned n) { return n + 1 < FEATURE_COUNT ? feature_rows[n + 1].name : NULL; }

static void feature_set(struct cpu_features *f, unsigned n, bool on)
{
    if (on)
        f->bits[n / 64] |= 1ull << (n % 64);
    else
        f->bits[n / 64] &= ~(1ull << (n % 64));
}

void cpu_feature_switch(struct cpu_features *f, unsigned n, bool on)
{
    feature_set(f, n, on);
    for (unsigned i = 0; i < ARRAY_LEN(depends) && !on; i++)
        if (depends[i].base == n && feature_on(f, depends[i].derived))
            cpu_feature_switch(f, depends[i].derived, false);
}

bool cpu_features_complete(const struct cpu_features *f, unsigned *derived, unsigned *base)
{
    for (unsigned i = 0; i < ARRAY_LEN(depends); i++) {
        *derived = depends[i].derived, *base = depends[i].base;
        if (feature_on(f, depends[i].derived) && !feature_on(f, depends[i].base)) return false;
    }
    return true;
}

bool cpuid_host(enum feature n)
{
    const struct feature_row *r = &feature_rows[n];
    u32 reg[4];
    host_cpuid(r->leaf, r->subleaf, reg);
    return reg[r->reg] >> r->bit & 1;
}

// The host's own YMM state, without which its VEX instructions are #UD.
static bool host_has_avx(void)
{
    u32 reg[4];
    host_cpuid(1, 0, reg);
    return cpuid_host(FEATURE_AVX) && reg[2] >> 27 & 1 && (host_xcr0() & 6) == 6;
}

bool cpu_feature_possible(enum feature n)
{
    // AVX2, VAES and VPCLMULQDQ are made of what SSE has (cpu/instructions/sse.h); compares of AVX are not.
    if (n == FEATURE_AVX || n == FEATURE_AVX2) return host_has_avx();
    if (n == FEATURE_F16C || n == FEATURE_FMA) return host_has_avx() && cpuid_host(n);
    if (n == FEATURE_VAES || n == FEATURE_VPCLMULQDQ)
        return host_has_avx() && cpuid_host(n == FEATURE_VAES ? FEATURE_AES : FEATURE_PCLMULQDQ);
    bool by_host = n == FEATURE_AES || n == FEATURE_PCLMULQDQ || n == FEATURE_SHA_NI || n == FEATURE_GFNI;
    return !by_host || cpuid_host(n);
}

void cpu_features_max(struct cpu_features *f)
{
    memset(f, 0, sizeof *f);
    f->maxphyaddr = 40;
    f->feature_control = 5; // locked, VMX outside SMX
    f->rng_seed = 1;
    for (unsigned i = 1; i < FEATURE_COUNT; i++) feature_set(f, i, cpu_feature_possible((enum feature)i));
    feature_set(f, FEATURE_HYPERVISOR, false); // see the head of this file
    if (!fp_host_capable()) {
        cpu_feature_switch(f, FEATURE_FPU, false);
        cpu_feature_switch(f, FEATURE_MMX, false);
        cpu_feature_switch(f, FEATURE_FXSR, false);
    }
}

// ---- leaves ----

static u32 feature_bits(const struct cpu_features *f, u32 leaf, u32 subleaf, unsigned reg)
{
    u32 bits = 0;
    for (unsigned i = 1; i < FEATURE_COUNT; i++) {
        const struct feature_row *r = &feature_rows[i];
        if (r->leaf == leaf && r->subleaf == subleaf && r->reg == reg && feature_on(f, i))
            bits |= 1u << r->bit;
    }
    return bits;
}

static void leaf_1(const struct vcpu *v, u32 out[4])
{
    const struct cpu_features *f = v->features;
    const struct cpu_topology *t = &f->topology;
    u32 cpus = topology_members(t, TOPOLOGY_DIE), ids = 1u << topology_shift(t, TOPOLOGY_DIE);
    out[0] = STEPPING | (MODEL & 0xF) << 4 | FAMILY << 8 | (MODEL >> 4) << 16;
    // CLFLUSH line in quadwords, APIC IDs set aside for the package, initial APIC ID (its low byte)
    out[1] = 8 << 8 | (ids < 255 ? ids : 255) << 16 | v->apic_id << 24;
    out[2] = feature_bits(f, 1, 0, 2);
    out[3] = feature_bits(f, 1, 0, 3);
    if (cpus > 1) out[3] |= 1u << 28; // HTT: the count above is valid
    if (feature_on(f, FEATURE_XSAVE) && (v->s.cr4 & CR4_OSXSAVE)) out[2] |= 1u << 27;
    // the APIC switched off is an APIC that is not there
    if (!(v->s.msr.apic_base & BIT(11))) out[3] &= ~(1u << 9);
    if (!(v->s.msr.misc_enable & BIT(18))) out[2] &= ~(1u << 3); // MONITOR
}

// Deterministic cache parameters: two first-level caches, a second and a third level.
static void leaf_4(const struct vcpu *v, u32 subleaf, u32 out[4])
{
    // clang-format off
    static const struct { u8 type, level; u16 ways; u32 sets; enum topology_level shared_by; } cache[] = {
        {1, 1, 8, 64, TOPOLOGY_THREAD}, {2, 1, 8, 64, TOPOLOGY_THREAD}, {3, 2, 8, 1024, TOPOLOGY_THREAD},
        {3, 3, 16, 8192, TOPOLOGY_CORE}};
    // clang-format on
    if (subleaf >= ARRAY_LEN(cache)) return;
    const struct cpu_topology *t = &v->features->topology;
    // core IDs of the package and IDs of the logical processors that share it, each less one
    u32 cores = (1u << (topology_shift(t, TOPOLOGY_DIE) - topology_shift(t, TOPOLOGY_THREAD))) - 1;
    u32 sharing = (1u << topology_shift(t, cache[subleaf].shared_by)) - 1;
    out[0] = cache[subleaf].type | cache[subleaf].level << 5 | 1 << 8 | (cores < 63 ? cores : 63) << 26 |
             sharing << 14;
    out[1] = 63 | (u32)(cache[subleaf].ways - 1) << 22;
    out[2] = cache[subleaf].sets - 1;
}

// Extended topology. Leaf 1Fh knows dies, 0Bh threads and cores alone: its second level is the whole package.
static void leaf_topology(const struct vcpu *v, bool dies, u32 subleaf, u32 out[4])
{
    enum { SMT = 1, CORE = 2, DIE = 5 }; // level types
    const struct cpu_topology *t = &v->features->topology;
    dies &= t->dies > 1;
    out[2] = subleaf & 0xFF;
    out[3] = v->apic_id;
    if (subleaf > (dies ? 2u : 1u)) return;
    enum topology_level level = subleaf == 0           ? TOPOLOGY_THREAD
                                : dies && subleaf == 1 ? TOPOLOGY_CORE
                                                       : TOPOLOGY_DIE;
    out[0] = topology_shift(t, level);
    out[1] = topology_members(t, level);
    out[2] |= (u32)(subleaf == 0 ? SMT : subleaf == 1 ? CORE : DIE) << 8;
}

static void leaf_0d(const struct vcpu *v, u32 subleaf, u32 out[4])
{
    const struct cpu_features *f = v->features;
    if (!feature_on(f, FEATURE_XSAVE)) return;
    u64 user = xcomponents_user(f), supervisor = 0;
    if (feature_on(f, FEATURE_XSAVES)) supervisor = xcomponents_supervisor(f);
    if (subleaf == 0) {
        out[0] = (u32)user;
        out[1] = xcomponents_size(v->s.xcr0, false);
        out[2] = xcomponents_size(user, false);
        out[3] = (u32)(user >> 32);
    } else if (subleaf == 1) {
        out[0] = feature_bits(f, 0xD, 1, 0);
        if (feature_on(f, FEATURE_XSAVEC)) out[1] = xcomponents_size(v->s.xcr0 | v->s.msr.xss, true);
        out[2] = (u32)supervisor;
        out[3] = (u32)(supervisor >> 32);
    } else {
        for (unsigned i = 0; i < xcomponents_n; i++) {
            const struct xcomponent *c = &xcomponents[i];
            if (c->number != subleaf || !((user | supervisor) >> subleaf & 1)) continue;
            out[0] = c->bytes;
            out[1] = c->offset;
            out[2] = (u32)c->supervisor | (u32)c->aligned << 1;
        }
    }
}

// IA32_MISC_ENABLE[22] hides the leaves above 2 from software that cannot take a greater answer.
static u32 basic_max(const struct vcpu *v) { return v->s.msr.misc_enable & BIT(22) ? 2 : BASIC_MAX; }

static void basic(const struct vcpu *v, u32 leaf, u32 subleaf, u32 out[4])
{
    const struct cpu_features *f = v->features;
    switch (leaf) {
    case 0:
        out[0] = basic_max(v);
        memcpy(&out[1], "Genu", 4);
        memcpy(&out[3], "ineI", 4);
        memcpy(&out[2], "ntel", 4);
        break;
    case 1: leaf_1(v, out); break;
    case 2: // look at leaf 4 for caches; instruction TLB 4-way 64, data TLB 4-way 64, second level 512
        out[0] = 0x03B2FF01;
        out[3] = 0xCA;
        break;
    case 4: leaf_4(v, subleaf, out); break;
    case 5:
        if (!feature_on(f, FEATURE_MONITOR)) break;
        out[0] = out[1] = 64; // bytes of a line
        out[2] = 3;           // extensions are listed; MWAIT can be ended by an interrupt with IF=0
        out[3] = 2 << 4;      // C1, with two sub-states
        break;
    case 6: out[0] = feature_bits(f, 6, 0, 0); break;
    case 7:
        out[0] = subleaf == 0 ? 2 /* the highest subleaf */ : feature_bits(f, 7, subleaf, 0);
        out[1] = feature_bits(f, 7, subleaf, 1);
        out[2] = feature_bits(f, 7, subleaf, 2);
        out[3] = feature_bits(f, 7, subleaf, 3);
        if (subleaf == 0 && feature_on(f, FEATURE_PKU) && (v->s.cr4 & CR4_PKE)) out[2] |= 1u << 4;
        break;
    case 0xB: leaf_topology(v, false, subleaf, out); break;
    case 0xD: leaf_0d(v, subleaf, out); break;
    case 0x15: // TSC = crystal * EBX / EAX
        out[0] = 1;
        out[1] = (u32)(CPU_TSC_HZ / CPU_CRYSTAL_HZ);
        out[2] = (u32)CPU_CRYSTAL_HZ;
        break;
    case 0x16: // MHz: base, maximum, bus
        out[0] = out[1] = (u32)(CPU_TSC_HZ / 1000000);
        out[2] = 100;
        break;
    case 0x1F: leaf_topology(v, true, subleaf, out); break;
    default: break;
    }
}

static void extended(const struct vcpu *v, u32 leaf, u32 out[4])
{
    const struct cpu_features *f = v->features;
    switch (leaf) {
    case 0x80000000: out[0] = EXTENDED_MAX; break;
    case 0x80000001:
        out[2] = feature_bits(f, leaf, 0, 2);
        out[3] = feature_bits(f, leaf, 0, 3);
        if (v->s.msr.misc_enable & BIT(34)) out[3] &= ~(1u << 20); // XD Bit Disable
        // SYSCALL: shown in 64-bit mode only (SDM CPUID, note to EDX[11])
        if (!cpu_long64(v)) out[3] &= ~(1u << 11);
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: memcpy(out, brand + 16 * (leaf - 0x80000002), 16); break;
    case 0x80000006: out[2] = 64 | 6 << 12 | 512 << 16; break; // L2: line, 8 ways, KiB
    case 0x80000007: out[3] = feature_bits(f, leaf, 0, 3); break;
    case 0x80000008: out[0] = f->maxphyaddr | (feature_on(f, FEATURE_LA57) ? 57 : 48) << 8; break;
    default: break;
    }
}

void cpuid_query(const struct vcpu *v, u32 leaf, u32 subleaf, u32 out[4])
{
    memset(out, 0, 4 * sizeof *out);
    if (leaf >= 0x80000000 && leaf <= EXTENDED_MAX)
        extended(v, leaf, out);
    else // a leaf beyond the highest answers as the highest basic one (SDM CPUID)
        basic(v, leaf > basic_max(v) ? basic_max(v) : leaf, subleaf, out);
}
