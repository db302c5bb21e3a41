// Access to a VMCS in memory by address, for whoever does not hold the current one (debugger, tests).
#include "vmx/vmcs.h"

u64 vmcs_read(const struct phys *p, paddr vmcs, enum vmcs_field field)
{
    const struct vmcs_region *r = vmcs_region_at(p, vmcs);
    return r ? vmcs_field_get(&r->f, field) : UINT64_MAX;
}

void vmcs_write(struct phys *p, unsigned cpu, paddr vmcs, enum vmcs_field field, u64 value)
{
    const struct vmcs_field_row *r = &vmcs_field_rows[field];
    phys_write(p, cpu, vmcs + offsetof(struct vmcs_region, f) + r->offset, &value, r->size);
}
