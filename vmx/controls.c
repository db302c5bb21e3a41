// The control table as data, and the names of exit reasons.
#include "vmx/controls.h"
#include "cpu/system/cpuid.h"
#include "vmx/exit_reason.h"

#define OFFERED_NO         0
#define OFFERED_ALWAYS     1
#define OFFERED_RDTSCP     2 + FEATURE_RDTSCP
#define OFFERED_RDRAND     2 + FEATURE_RDRAND
#define OFFERED_RDSEED     2 + FEATURE_RDSEED
#define OFFERED_INVPCID    2 + FEATURE_INVPCID
#define OFFERED_XSAVES     2 + FEATURE_XSAVES
#define OFFERED_PKS        2 + FEATURE_PKS
#define OFFERED_WAITPKG    2 + FEATURE_WAITPKG
#define OFFERED_TSC        2 + FEATURE_TSC
#define OFFERED_PAT        2 + FEATURE_PAT
#define OFFERED_SPEC_CTRL  2 + FEATURE_SPEC_CTRL
#define OFFERED_MSRLIST    2 + FEATURE_MSRLIST
#define OFFERED_WITH_PROC2 CONTROL_WITH_GROUP + GROUP_PROC2
#define OFFERED_WITH_PROC3 CONTROL_WITH_GROUP + GROUP_PROC3
#define OFFERED_WITH_EXIT2 CONTROL_WITH_GROUP + GROUP_EXIT2
_Static_assert(2 + FEATURE_COUNT <= CONTROL_WITH_GROUP, "one byte says with what a control is offered");

#define DEFAULT1(group, bit)
#define CONTROL(group, bit, name, text, class, offered) \
    {GROUP_##group, bit, CONTROL_##class, OFFERED_##offered, #name, text},
const struct vmx_control_row vmx_control_rows[CONTROL_COUNT] = {
#include "vmx/controls.def"
};

const char *vmx_exit_reason_name(unsigned basic_reason)
{
#define NAME(n, name) [n] = #name,
    static const char *const names[EXIT_REASON_COUNT] = {EXIT_REASONS(NAME)};
#undef NAME
    return basic_reason < EXIT_REASON_COUNT && names[basic_reason] ? names[basic_reason] : "?";
}
