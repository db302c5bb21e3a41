// The instruction table: one row a form, gathered from the .def files by area. Decoding looks rows up by opcode map,
// opcode, mandatory prefix, ModRM.mod and ModRM.reg (cpu/decode.c); a row that does not match, is not in the mode,
// or whose feature is off is #UD (or the row that the opcode means without that feature, listed after it).
//
// A line is
//   ROW(name, operands, map, opcode, prefix, mod, reg, feature, intercept, flags, undefined, function)
// for a body that runs in the loop form only, or FROW(... , body_x) for one with tail-threaded wrappers.
#include "cpu/insn.h"
#include "cpu/cpuid.h"
#include "vmx/intercept.h"

#define ROW(name, operands, map, op, pfx, mod, reg, feat, icept, flags, undef, fn)  extern exec_fn fn;
#define FROW(name, operands, map, op, pfx, mod, reg, feat, icept, flags, undef, bd) extern const struct body bd;
#include "cpu/rows.def"
#undef ROW
#undef FROW

#define ROW(name, operands, map, op, pfx, mod, reg, feat, icept, flags, undef, fn)                                     \
    {name, operands, map, op, pfx, mod, reg, FEATURE_##feat, ICEPT_##icept, (u32)(flags), undef,                       \
     &(const struct body){.loop = {fn, fn, fn, fn}}},
#define FROW(name, operands, map, op, pfx, mod, reg, feat, icept, flags, undef, bd)                                    \
    {name, operands, map, op, pfx, mod, reg, FEATURE_##feat, ICEPT_##icept, (u32)(flags), undef, &bd},
const struct row rows[] = {
#include "cpu/rows.def"
};
#undef ROW
#undef FROW

const unsigned rows_n = ARRAY_LEN(rows);
