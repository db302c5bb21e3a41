// The MSR-load and MSR-store areas of VM entries and exits (SDM 29.4, 30.4, 30.6).
#include "cpu/system/system.h"
#include "vmx/checks.h"
#include "vmx/world.h"

#define MSR_SMM_MONITOR 0x9Bu
#define MSR_SMBASE      0x9Eu

// A list may hold 512 * (N + 1) entries, N = IA32_VMX_MISC[27:25]. What follows in a longer one is undefined
// by the SDM: here the next entry fails.
static u32 list_max(const struct vcpu *v)
{
    return 512 * (1 + (v->vmx->caps.misc >> VMX_MISC_MSR_LIST_SHIFT & 7));
}

static bool write_msr(void *opaque, u32 msr, u64 data) { return msr_write(opaque, msr, data); }

u32 vmx_msr_area_load(struct vcpu *v, paddr area, u32 count, struct vmx_check_failure *why)
{
    for (u32 i = 0; i < count; i++) {
        struct vmx_msr_entry m;
        if (i == list_max(v)) return i + 1;
        phys_read(v->phys, v->index, area + 16ull * i, &m, sizeof m);
        if (!vmx_check_msr_entry(&m, i + 1, write_msr, v, why)) return i + 1;
    }
    return 0;
}

u32 vmx_msr_area_store(struct vcpu *v, paddr area, u32 count)
{
    for (u32 i = 0; i < count; i++) {
        struct vmx_msr_entry m;
        if (i == list_max(v)) return i + 1;
        paddr a = area + 16ull * i;
        phys_read(v->phys, v->index, a, &m, sizeof m);
        if (m.reserved || m.index >> 8 == 8 || m.index == MSR_SMM_MONITOR || m.index == MSR_SMBASE ||
            !msr_read(v, m.index, &m.data))
            return i + 1;
        phys_write64(v->phys, v->index, a + 8, m.data);
    }
    return 0;
}
