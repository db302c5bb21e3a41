/* The VMCS fields of a case, by number. */
#ifndef FUZZ_FIELDS_H
#define FUZZ_FIELDS_H

#define X(name) F_##name,
#define G(name) F_##name,
enum field {
#include "fields.def"
    FIELD_COUNT
};
#undef X
#undef G

struct field_row {
    const char *name;
    uint32_t encoding;
    bool guest; /* of the guest-state area, or changed by exits */
};
extern const struct field_row field_rows[FIELD_COUNT];

#endif
