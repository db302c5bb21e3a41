// VMCS fields: indices (VMCS_GUEST_CR4), the C view of a VMCS's data (struct vmcs_fields), and their
// description.
#ifndef VMX_FIELDS_H
#define VMX_FIELDS_H

#include "vmx/controls.h"

#define FIELD(encoding, name, text, width, area, exists) VMCS_##name,
enum vmcs_field {
#include "vmx/fields.def"
    VMCS_FIELD_COUNT
};
#undef FIELD

// The data of a VMCS as it lies in the region, a member of the field's own width each, in the order of the
// table.
#define FIELD_TYPE_16                                    u16
#define FIELD_TYPE_32                                    u32
#define FIELD_TYPE_64                                    u64
#define FIELD_TYPE_N                                     u64
#define FIELD(encoding, name, text, width, area, exists) FIELD_TYPE_##width name;
struct vmcs_fields {
#include "vmx/fields.def"
};
#undef FIELD

// Controls as they act: 0 where the field that holds them is not active.
static inline u32 vmcs_proc2(const struct vmcs_fields *f)
{
    return f->PRIMARY_PROC_BASED_CONTROLS & PROC_ACTIVATE_SECONDARY_CONTROLS
               ? f->SECONDARY_PROC_BASED_CONTROLS
               : 0;
}
static inline u64 vmcs_proc3(const struct vmcs_fields *f)
{
    return f->PRIMARY_PROC_BASED_CONTROLS & PROC_ACTIVATE_TERTIARY_CONTROLS ? f->TERTIARY_PROC_BASED_CONTROLS
                                                                            : 0;
}
static inline u64 vmcs_exit2(const struct vmcs_fields *f)
{
    return f->PRIMARY_VM_EXIT_CONTROLS & EXIT_ACTIVATE_SECONDARY_CONTROLS ? f->SECONDARY_VM_EXIT_CONTROLS : 0;
}
static inline u64 vmcs_vmfunc(const struct vmcs_fields *f)
{
    return vmcs_proc2(f) & PROC2_ENABLE_VM_FUNCTIONS ? f->VM_FUNCTION_CONTROLS : 0;
}

enum vmcs_area { AREA_CONTROL, AREA_INFO, AREA_GUEST, AREA_HOST }; // encoding bits 11:10
enum vmcs_width { WIDTH_16, WIDTH_64, WIDTH_32, WIDTH_N };         // encoding bits 14:13

struct vmcs_field_row {
    u16 encoding;
    u16 offset;     // in struct vmcs_fields
    u8 size;        // bytes
    u8 width, area; // enum vmcs_width, enum vmcs_area
    // exists if (one of) these controls may be set; FIELD_ALWAYS, FIELD_NEVER in if1; if2 -1 if unused
    s16 if1, if2;
    const char *name, *text;
};
enum { FIELD_ALWAYS = -1, FIELD_NEVER = -2 };
extern const struct vmcs_field_row vmcs_field_rows[VMCS_FIELD_COUNT];

// The field of an encoding (bit 0, the access type, ignored), or -1 if no row has it.
int vmcs_field_find(u32 encoding);

static inline u64 vmcs_field_get(const struct vmcs_fields *f, enum vmcs_field n)
{
    const struct vmcs_field_row *r = &vmcs_field_rows[n];
    const u8 *p = (const u8 *)f + r->offset;
    return r->size == 2 ? *(const u16 *)p : r->size == 4 ? *(const u32 *)p : *(const u64 *)p;
}
static inline void vmcs_field_set(struct vmcs_fields *f, enum vmcs_field n, u64 value)
{
    const struct vmcs_field_row *r = &vmcs_field_rows[n];
    u8 *p = (u8 *)f + r->offset;
    if (r->size == 2)
        *(u16 *)p = (u16)value;
    else if (r->size == 4)
        *(u32 *)p = (u32)value;
    else
        *(u64 *)p = value;
}

#endif
