// The control bits as masks (PIN_NMI_EXITING, PROC_HLT_EXITING, PROC2_ENABLE_EPT, EXIT_..., ENTRY_...), from
// controls.def.
#ifndef VMX_CONTROLS_H
#define VMX_CONTROLS_H

#include "mmu/types.h"

// clang-format off
enum vmx_control_group { GROUP_PIN, GROUP_PROC, GROUP_PROC2, GROUP_PROC3, GROUP_EXIT, GROUP_EXIT2, GROUP_ENTRY, GROUP_VMFUNC, GROUP_COUNT };
// clang-format on

#define DEFAULT1(group, bit)
#define CONTROL(group, bit, name, text, class, offered) name = 1u << bit,
enum {
#include "vmx/controls.def"
};
#undef CONTROL
#define CONTROL(group, bit, name, text, class, offered) CONTROL_##name,
enum vmx_control_id {
#include "vmx/controls.def"
    CONTROL_COUNT
};
#undef CONTROL
#undef DEFAULT1

enum vmx_control_class { CONTROL_FLEXIBLE, CONTROL_DEFAULT0, CONTROL_DEFAULT1 };

struct vmx_control_row {
    u8 group, bit, class;
    u8 offered; // 0: no; 1: always; CONTROL_WITH_GROUP + group: with any control of it; else 2 + enum feature
    const char *name, *text;
};
enum { CONTROL_WITH_GROUP = 0xF0 };
extern const struct vmx_control_row vmx_control_rows[CONTROL_COUNT];

#endif
