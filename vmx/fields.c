// The VMCS field table and the way from an encoding to its row.
#include "vmx/fields.h"

#define F_ALWAYS    FIELD_ALWAYS, -1
#define F_NEVER     FIELD_NEVER, -1
#define F_IF(a)     CONTROL_##a, -1
#define F_IF2(a, b) CONTROL_##a, CONTROL_##b

// clang-format off
#define FIELD(encoding, name, text, width, area, exists)                                                               \
    {encoding, offsetof(struct vmcs_fields, name), sizeof(FIELD_TYPE_##width), WIDTH_##width, AREA_##area, exists,      \
     #name, text},
// clang-format on
const struct vmcs_field_row vmcs_field_rows[VMCS_FIELD_COUNT] = {
#include "vmx/fields.def"
};
#undef FIELD

// Encoding bits 14:13 (width), 11:10 (area) and 6:1 (index): no index of the table is above 63.
// clang-format off
#define KEY(e) (((e) >> 13 & 3) << 8 | ((e) >> 10 & 3) << 6 | ((e) >> 1 & 63))
#define FIELD(encoding, name, text, width, area, exists) [KEY(encoding)] = VMCS_##name + 1,
// clang-format on
static const u16 by_key[1024] = {
#include "vmx/fields.def"
};
#undef FIELD

int vmcs_field_find(u32 encoding)
{
    u32 e = encoding & ~1u;
    int n = by_key[KEY(e)] - 1;
    return n >= 0 && vmcs_field_rows[n].encoding == e ? n : -1;
}
