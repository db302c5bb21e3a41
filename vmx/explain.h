// Failures explained in full: for a person, and as JSON for a program. The rule, what was read, the bits that
// offend, a hint.
#ifndef VMX_EXPLAIN_H
#define VMX_EXPLAIN_H

#include "vmx/refusals.h"

// Every violated row of an entry. `first`, if given, is what the processor found: it is told even if the rows
// cannot find it (a value that WRMSR does not take). Text: a headline, then a paragraph a row.
void vmx_explain_entry(const struct vmx_entry *e, const struct vmx_check_failure *first, vmx_put put,
                       void *opaque);
void vmx_explain_refusal(const struct vmx_refused *r, vmx_put put, void *opaque);

// The same as members of a JSON object, without its braces, in one line:
//   "violated": [{"id", "section", "group", "outcome", "number", "qualification", "rule", "fields": {name:
//   "0x..."},
//                 "bits": [{"field", "bit", "is", "name"}], "mask": {field: "0x..."}, "hint"}, ...],
//                 "violated_count": n
// "number" and "qualification" where the outcome has them; "bits", "mask" and "hint" where there are any.
// Values are text: JSON's numbers do not hold 64 bits.
void vmx_explain_entry_json(const struct vmx_entry *e, const struct vmx_check_failure *first, vmx_put put,
                            void *opaque);
//   "id", "section", "outcome", "number", "rule", "fields", "field" (that VMREAD or VMWRITE named), "bits",
//   "mask", "hint"
void vmx_explain_refusal_json(const struct vmx_refused *r, vmx_put put, void *opaque);

// A string of JSON with its quotes.
void vmx_json_string(const char *s, vmx_put put, void *opaque);

#endif
